"""CachePolicy: which requests and answers may be cached. A pure record that validates itself."""

from dataclasses import dataclass
from typing import Literal

from routecache_middleware.core.checks import check_lower_case, freeze_set, is_amount, wrong

__all__ = ["CachePolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """Which requests and answers may be cached.

    Attributes:
        max_temperature: Requests with a higher sampling temperature are forwarded uncached
            (``detail=temperature``). None: no limit. A request that names none counts as 1.0.
        cache_tool_calls: Whether answers that ask the client to call tools are stored. ``"auto"``:
            only when the request is deterministic (temperature 0 or a seed).
        finish_reasons: An answer is stored only if every choice finished for one of these reasons.
        ignored_fields: Further top-level request fields to leave out of the key. Only name fields
            that can never change an answer.
        key_headers: Further request headers (lower case) whose values are part of the key.
        stored_headers: Response headers (lower case) that are stored and replayed. ``set-cookie``,
            dates, request ids and rate limits never belong here.
    """

    max_temperature: float | None = None
    cache_tool_calls: Literal["auto"] | bool = "auto"
    finish_reasons: frozenset[str] = frozenset({"stop", "length", "tool_calls", "function_call"})
    ignored_fields: frozenset[str] = frozenset()
    key_headers: frozenset[str] = frozenset()
    stored_headers: frozenset[str] = frozenset(
        {"content-type", "content-language", "openai-model", "openai-version"}
    )

    def __post_init__(self) -> None:
        limit = self.max_temperature
        if limit is not None and not is_amount(limit):
            raise wrong("max_temperature", limit, "a number of at least 0, or None for no limit")
        if self.cache_tool_calls != "auto" and not isinstance(self.cache_tool_calls, bool):
            raise wrong("cache_tool_calls", self.cache_tool_calls, '"auto", True or False')
        for name in ("finish_reasons", "ignored_fields"):
            freeze_set(self, name)
        for name in ("key_headers", "stored_headers"):
            freeze_set(self, name)
            check_lower_case(self, name)
        if "set-cookie" in self.stored_headers:
            raise wrong(
                "stored_headers", "set-cookie", "no set-cookie: a cookie belongs to one client"
            )
