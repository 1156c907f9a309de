"""Override: what of the policy is different for some models or paths."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from routecache_middleware.core.checks import (
    check_flag,
    check_temperature,
    check_tool_calls,
    freeze_set,
    is_amount,
    wrong,
)

__all__ = ["Override"]


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
        check_temperature(self.max_temperature, may_be_infinite=True)
        if self.cache_tool_calls is not None:
            check_tool_calls(self.cache_tool_calls)
        if self.finish_reasons is not None:
            freeze_set(self, "finish_reasons")

    def fits(self, model: str, path: str) -> bool:
        """Whether it is for a request."""
        return _fits(self.models, model) and _fits(self.paths, path)


def _fits(patterns: frozenset[str], text: str) -> bool:
    return not patterns or any(_pattern(pattern).fullmatch(text) for pattern in patterns)


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
