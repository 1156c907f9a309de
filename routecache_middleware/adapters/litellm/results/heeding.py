"""What the operator's policy says of a call; the same as in front of any other gateway."""

from routecache_middleware.adapters.litellm.results.keying import Identified
from routecache_middleware.core.body_directives import BodyDirectives, has_asked
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.models import BypassReason
from routecache_middleware.core.overrides import RequestPolicy, Warn
from routecache_middleware.core.plan import Bypass, Proceed, plan_request
from routecache_middleware.engine.engine import Engine

__all__ = ["Heeding"]


class Heeding:
    """Applies overrides, ``decide`` and ``opt_in``; usable from any thread. One per process."""

    __slots__ = ("_engine", "_warn")

    def __init__(self, engine: Engine, warn: Warn) -> None:
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
        policies = engine.policies
        if engine.mode is Mode.OFF:  # nothing to ask about; nor later, should it be switched on
            held = policies.for_request(found.requested, found.path)
            return held._replace(is_cached=False)
        return policies.decided(
            found.requested,
            found.path,
            lambda: found.request,
            has_asked=has_asked(controls.ttl_s, controls),
            warn=self._warn,
        )

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
        return held.lifetime_s(self._engine.settings, controls.ttl_s)
