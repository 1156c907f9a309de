"""What holds for one request: the policy, what of it is different for some, and a callable's word.

The overrides that fit a request are applied one after the other, so a later one wins; what it does
not name stays as it was.
"""

import math
from dataclasses import replace
from typing import NamedTuple

from routecache_middleware.core.checks import is_amount
from routecache_middleware.core.override import Override
from routecache_middleware.core.policy import CachePolicy

__all__ = ["Policies", "RequestPolicy", "with_verdict"]

_MEMO_SIZE = 1024
_MAX_NAMES = 512  # characters that are remembered of a model and a path: clients choose both


class RequestPolicy(NamedTuple):
    """What holds for one request.

    Attributes:
        policy: The policy with all overrides applied.
        is_cached: Whether its answer may be cached at all.
        ttl_s: How long its answer is fresh; None: as the settings say.
    """

    policy: CachePolicy
    is_cached: bool = True
    ttl_s: float | None = None


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
        policy, _, _ = self._default
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

    def _combined(self, model: str, path: str) -> RequestPolicy:
        policy, is_cached, ttl_s = self._default
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
            of seconds for how long. It can forbid what is allowed, not the other way round.

    Raises:
        TypeError: It returned something else.
    """
    if verdict is None or verdict is True:
        return held
    if verdict is False:
        return held._replace(is_cached=False)
    if isinstance(verdict, int | float) and is_amount(verdict):
        return held._replace(ttl_s=float(verdict))
    raise TypeError("a policy callable returns None, a boolean, or a number of seconds")


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
