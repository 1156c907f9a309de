"""CachePolicy: which requests and answers may be cached. A pure record that validates itself."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from routecache_middleware.core.checks import (
    check_flag,
    check_lower_case,
    check_temperature,
    check_tool_calls,
    freeze_set,
    wrong,
)
from routecache_middleware.core.override import Override
from routecache_middleware.core.request import LLMRequest

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
        opt_in: Cache only what asks for it: with ``"cache": {"use-cache": true}`` in the body, or
            with a lifetime, which is a ``ttl`` there or ``RouteCache-TTL``. Everything else is
            forwarded (``detail=policy``).
        allow_stored: Cache also requests whose answer the provider keeps: ``"store": true``, and
            the Responses API unless it says ``false``. A hit leaves nothing new with the provider,
            and carries the id of the first answer.
        overrides: What is different for some models or paths; of two that fit the later one wins.
        decide: Asked about every request that the cache can read, hits included: ``False`` forwards
            it uncached (``detail=policy``), a number is how long its answer is fresh, in seconds,
            and the most that its client may ask for, and ``True`` or ``None`` leaves it as it is.
            Must be quick; if it raises, the request is forwarded uncached.
        key_headers: Further request headers (lower case) whose values are part of the key.
        stored_headers: Response headers (lower case) that are stored and replayed. ``set-cookie``,
            dates, request ids and rate limits never belong here.
    """

    max_temperature: float | None = None
    cache_tool_calls: Literal["auto"] | bool = "auto"
    finish_reasons: frozenset[str] = frozenset({"stop", "length", "tool_calls", "function_call"})
    opt_in: bool = False
    allow_stored: bool = False
    overrides: tuple[Override, ...] = ()
    decide: Callable[[LLMRequest], bool | float | None] | None = None
    ignored_fields: frozenset[str] = frozenset()
    key_headers: frozenset[str] = frozenset()
    stored_headers: frozenset[str] = frozenset(
        {"content-type", "content-language", "openai-model", "openai-version"}
    )

    def __post_init__(self) -> None:
        check_temperature(self.max_temperature)
        check_tool_calls(self.cache_tool_calls)
        for name in ("opt_in", "allow_stored"):
            check_flag(name, getattr(self, name))
        _check_overrides(self)
        _check_decide(self.decide)
        for name in ("finish_reasons", "ignored_fields"):
            freeze_set(self, name)
        for name in ("key_headers", "stored_headers"):
            freeze_set(self, name)
            check_lower_case(self, name)
        if "set-cookie" in self.stored_headers:
            raise wrong(
                "stored_headers", "set-cookie", "no set-cookie: a cookie belongs to one client"
            )


def _check_overrides(policy: CachePolicy) -> None:
    found: object = policy.overrides
    if not isinstance(found, list | tuple) or not all(isinstance(one, Override) for one in found):
        raise wrong("overrides", found, "a list of Override records")
    object.__setattr__(policy, "overrides", tuple(found))


def _check_decide(decide: object) -> None:
    if decide is None:
        return
    method = getattr(decide, "__call__", None)  # noqa: B004 - looking at it, not asking whether it is there
    if not callable(decide) or inspect.iscoroutinefunction(decide):
        raise wrong("decide", decide, "a plain function of the request, or None")
    if inspect.iscoroutinefunction(method):
        raise wrong("decide", decide, "a plain function of the request, not an async one")
