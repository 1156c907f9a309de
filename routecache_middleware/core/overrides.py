"""What of the policy is different for some models or paths, and what a callable may add.

The overrides that fit a request are applied one after the other, so a later one wins; what it does
not name stays as it was.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

from routecache_middleware.core.checks import check_flag, freeze_set, is_amount, wrong
from routecache_middleware.core.policy import CachePolicy

__all__ = ["Override", "Policies", "RequestPolicy", "with_verdict"]

_MEMO_SIZE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What is different for some requests. None: as before.

    Attributes:
        models: Requested models that it is for; ``*`` stands for any text. Empty: all.
        paths: Request paths that it is for, likewise.
        is_cached: Whether their answers are cached at all.
        ttl_s: How long their answers are fresh.
        max_temperature: As in :class:`CachePolicy`; infinite for no limit.
        cache_tool_calls: As in :class:`CachePolicy`.
        finish_reasons: As in :class:`CachePolicy`.
    """

    models: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()
    is_cached: bool | None = None
    ttl_s: float | None = None
    max_temperature: float | None = None
    cache_tool_calls: Literal["auto"] | bool | None = None
    finish_reasons: frozenset[str] | None = None

    def __post_init__(self) -> None:
        for name in ("models", "paths"):
            freeze_set(self, name)
        if self.is_cached is not None:
            check_flag("is_cached", self.is_cached)
        if self.ttl_s is not None and not is_amount(self.ttl_s):
            raise wrong("ttl_s", self.ttl_s, "a finite number of seconds, 0 or more")
        if self.finish_reasons is not None:
            freeze_set(self, "finish_reasons")
        self.applied_to(CachePolicy())  # whose rules are ours

    def fits(self, model: str, path: str) -> bool:
        """Whether it is for a request."""
        return _fits(self.models, model) and _fits(self.paths, path)

    def applied_to(self, policy: CachePolicy) -> CachePolicy:
        """Return the policy with its differences.

        Raises:
            ConfigurationError: A value breaks a rule of :class:`CachePolicy`.
        """
        if self.max_temperature is not None:
            limit = None if self.max_temperature == math.inf else self.max_temperature
            policy = replace(policy, max_temperature=limit)
        if self.cache_tool_calls is not None:
            policy = replace(policy, cache_tool_calls=self.cache_tool_calls)
        if self.finish_reasons is not None:
            policy = replace(policy, finish_reasons=self.finish_reasons)
        return policy


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

    def __init__(self, policy: CachePolicy, overrides: Iterable[Override] = ()) -> None:
        self._default = RequestPolicy(policy)
        self._overrides = tuple(overrides)
        self._memo: dict[tuple[str, str], RequestPolicy] = {}

    def for_request(self, model: str, path: str) -> RequestPolicy:
        """Return what holds for a request, by the model it asks for and its path."""
        if not self._overrides:
            return self._default
        found = self._memo.get((model, path))
        if found is None:
            if len(self._memo) >= _MEMO_SIZE:  # clients choose both
                self._memo.clear()
            found = self._memo[model, path] = self._combined(model, path)
        return found

    def _combined(self, model: str, path: str) -> RequestPolicy:
        policy, is_cached, ttl_s = self._default
        for override in self._overrides:
            if override.fits(model, path):
                policy = override.applied_to(policy)
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


def _fits(patterns: frozenset[str], text: str) -> bool:
    return not patterns or any(_pattern(pattern).fullmatch(text) for pattern in patterns)


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
