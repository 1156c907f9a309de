"""What holds for one request: the policy, what of it is different for some, and a callable's word.

The overrides that fit a request are applied one after the other, so a later one wins; what it does
not name stays as it was.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from routecache_middleware.core.checks import is_amount
from routecache_middleware.core.freshness import lifetime_s
from routecache_middleware.core.override import Override
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.request import LLMRequest
from routecache_middleware.core.settings import Settings
from routecache_middleware.errors import RouteCacheError

__all__ = ["Policies", "RequestPolicy", "VerdictError", "Warn", "with_verdict"]

Warn = Callable[[str, Exception, str], object]
"""Told what has failed, with what, and what comes of it."""

_MEMO_SIZE = 1024
_DECIDE = "the policy's decide"
_UNCACHED = (
    "requests that it fails at are forwarded uncached; let it return None for what it cannot judge"
)
_MAX_NAMES = 512  # characters that are remembered of a model and a path: clients choose both


class VerdictError(RouteCacheError, TypeError):
    """A ``decide`` has returned what means nothing. The text says what would."""


class RequestPolicy(NamedTuple):
    """What holds for one request.

    Attributes:
        policy: The policy with all overrides applied.
        is_cached: Whether its answer may be cached at all.
        ttl_s: How long its answer is fresh; None: as the settings say.
        max_ttl_s: The most that its client may ask for; None: as the settings say.
    """

    policy: CachePolicy
    is_cached: bool = True
    ttl_s: float | None = None
    max_ttl_s: float | None = None

    def lifetime_s(self, settings: Settings, asked_s: float | None) -> float:
        """Return how long an answer is fresh, seconds; ``asked_s``: what the client asks for."""
        granted_s = settings.result_ttl_s if self.ttl_s is None else self.ttl_s
        most_s = settings.max_client_ttl_s if self.max_ttl_s is None else self.max_ttl_s
        return lifetime_s(granted_s, asked_s, most_s=most_s)


class Policies:
    """The policy and its overrides; remembers what it said of models and paths."""

    __slots__ = ("_default", "_memo", "_overrides")

    def __init__(self, policy: CachePolicy) -> None:
        alone = replace(policy, overrides=()) if policy.overrides else policy
        self._default = RequestPolicy(alone)
        self._overrides = policy.overrides
        self._memo: dict[tuple[str, str], RequestPolicy] = {}

    @property
    def are_plain(self) -> bool:
        """Whether no request that was answered from the cache once needs to be judged again."""
        policy = self._default.policy
        return (
            policy.max_temperature is None
            and policy.decide is None
            and not policy.opt_in
            and all(
                one.is_cached is None and one.max_temperature is None for one in self._overrides
            )
        )

    def for_request(self, model: str, path: str) -> RequestPolicy:
        """Return what holds for a request, by the model it asks for and its path."""
        if not self._overrides:
            return self._default
        if len(model) + len(path) > _MAX_NAMES:
            return self._combined(model, path)
        found = self._memo.get((model, path))
        if found is None:
            if len(self._memo) >= _MEMO_SIZE:
                self._memo.clear()
            found = self._memo[model, path] = self._combined(model, path)
        return found

    def allow(self, model: str, path: str) -> bool:
        """Whether answers of a model are cached at all, as of one that a router chose."""
        return self.for_request(model, path).is_cached

    def decided(
        self,
        model: str,
        path: str,
        show: Callable[[], LLMRequest | None],
        *,
        has_asked: bool,
        warn: Warn,
    ) -> RequestPolicy:
        """Return what holds for a request once all have had their say: ``decide`` and the client.

        It is the same whether the request is served or explained. Never raises.

        Args:
            model: The model it asks for.
            path: Its path as it came, with the model in it where it stands there.
            show: Returns what ``decide`` is shown, or None: it is asked elsewhere. Called only
                where there is a ``decide``.
            has_asked: The client asks to be cached, as ``opt_in`` demands.
            warn: Told when ``decide`` fails.
        """
        held = self.for_request(model, path)
        decide = held.policy.decide
        if decide is not None:
            try:
                request = show()
                held = held if request is None else with_verdict(held, decide(request))
            except Exception as error:  # noqa: BLE001 - the callable is the user's; the request goes on uncached
                warn(_DECIDE, error, _UNCACHED)
                return held._replace(is_cached=False)
        return held._replace(is_cached=False) if held.policy.opt_in and not has_asked else held

    def _combined(self, model: str, path: str) -> RequestPolicy:
        policy, is_cached, ttl_s, _ = self._default
        for override in self._overrides:
            if override.fits(model, path):
                policy = _applied(override, policy)
                is_cached = is_cached if override.is_cached is None else override.is_cached
                ttl_s = ttl_s if override.ttl_s is None else override.ttl_s
        return RequestPolicy(policy, is_cached, ttl_s)


def with_verdict(held: RequestPolicy, verdict: object) -> RequestPolicy:
    """Return what holds after a ``policy`` callable has been asked, too.

    Args:
        held: What holds without it.
        verdict: What it returned: None for no opinion, False or True for whether to cache, a number
            of seconds for how long, which is also the most that the client may ask for. It can
            forbid what is allowed, not the other way round.

    Raises:
        VerdictError: It returned something else; it is a TypeError.
    """
    if verdict is None or verdict is True:
        return held
    if verdict is False:
        return held._replace(is_cached=False)
    if isinstance(verdict, int | float) and is_amount(verdict):
        return held._replace(ttl_s=float(verdict), max_ttl_s=float(verdict))
    if inspect.iscoroutine(verdict):
        verdict.close()  # else Python complains at some later time that nobody has awaited it
    shown = verdict if isinstance(verdict, float) else f"a {type(verdict).__name__}"
    raise VerdictError(
        f"it returned {shown}; it has to return None, True, False, or how many seconds (0 or more) "
        "the answer is fresh, and be no async function"
    )


def _applied(override: Override, policy: CachePolicy) -> CachePolicy:
    """Return the policy with the differences of an override."""
    if override.max_temperature is not None:
        limit = None if override.max_temperature == math.inf else override.max_temperature
        policy = replace(policy, max_temperature=limit)
    if override.cache_tool_calls is not None:
        policy = replace(policy, cache_tool_calls=override.cache_tool_calls)
    if override.finish_reasons is not None:
        policy = replace(policy, finish_reasons=override.finish_reasons)
    return policy
