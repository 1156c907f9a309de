"""Override: what of the policy is different for some models or paths."""

from dataclasses import dataclass
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
    return not patterns or any(_is_like(pattern, text) for pattern in patterns)


def _is_like(pattern: str, text: str) -> bool:
    """Whether ``text`` is ``pattern`` with any text for each ``*``.

    What stands between two stars is looked for in order, each as early as possible. Clients choose
    the text, up to a megabyte of it, and a regular expression would try every way to divide it.
    """
    first, *others = pattern.split("*")
    if not others:
        return text == pattern
    *middle, last = others
    at, end = len(first), len(text) - len(last)
    if at > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
