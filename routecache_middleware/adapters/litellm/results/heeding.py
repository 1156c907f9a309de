"""What the operator's policy says of a call; the same as in front of any other gateway."""

from collections.abc import Callable

from routecache_middleware.adapters.litellm.results.keying import Identified
from routecache_middleware.core.body_directives import BodyDirectives, has_asked
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.freshness import lifetime_s
from routecache_middleware.core.models import BypassReason
from routecache_middleware.core.overrides import RequestPolicy, with_verdict
from routecache_middleware.core.plan import Bypass, Proceed, plan_request
from routecache_middleware.engine.engine import Engine

__all__ = ["Heeding"]


class Heeding:
    """Applies overrides, ``decide`` and ``opt_in``; usable from any thread. One per process."""

    __slots__ = ("_engine", "_warn")

    def __init__(self, engine: Engine, warn: Callable[[str, BaseException], None]) -> None:
        """Build it.

        Args:
            engine: Whose policy and settings hold.
            warn: Told when ``decide`` fails.
        """
        self._engine = engine
        self._warn = warn

    def held(self, found: Identified, controls: BodyDirectives) -> RequestPolicy:
        """Return what holds for a call; asks ``decide``, so once per call. Never raises."""
        engine = self._engine
        held = engine.policies.for_request(found.requested, found.path)
        decide, request = held.policy.decide, found.request
        if engine.mode is Mode.OFF:  # nothing to ask about; nor later, should it be switched on
            return held._replace(is_cached=False)
        if decide is not None and request is not None:
            try:
                held = with_verdict(held, decide(request))
            except Exception as error:  # noqa: BLE001 - the callable is the user's; the call goes on uncached
                self._warn("the policy's decide", error)
                return held._replace(is_cached=False)
        if held.policy.opt_in and not has_asked(controls.ttl_s, controls):
            return held._replace(is_cached=False)
        return held

    def plan(
        self, found: Identified, controls: BodyDirectives, held: RequestPolicy
    ) -> Proceed | Bypass:
        """Decide what may be done for a call."""
        engine = self._engine
        if not held.is_cached and engine.mode is not Mode.OFF:
            return Bypass(BypassReason.POLICY)
        asked, settings = controls.directives, engine.settings
        return plan_request(found.parsed, asked, settings, held.policy, engine.mode)

    def lifetime_s(self, held: RequestPolicy, controls: BodyDirectives) -> float:
        """Return how long the answer to a call is fresh."""
        settings = self._engine.settings
        granted_s = settings.result_ttl_s if held.ttl_s is None else held.ttl_s
        return lifetime_s(granted_s, controls.ttl_s, most_s=settings.max_client_ttl_s)
