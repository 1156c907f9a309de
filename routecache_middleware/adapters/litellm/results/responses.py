"""Responses: ``litellm.responses``, OpenAI's ``/v1/responses``."""

from collections.abc import Mapping
from typing import Any

from routecache_middleware.adapters.litellm.results.reading import (
    INCOMPLETE,
    decoded,
    form_of,
    is_remote,
    objects,
    tool_types,
)
from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.core.models import BypassReason, DiscardReason

__all__ = ["judge", "parse"]

_CLIENT_TOOLS = frozenset({"function", "custom"})
_TOOL_CALLS = frozenset({"function_call", "custom_tool_call"})
_TEXTS = frozenset({"message", "reasoning"})
# State that the provider keeps: the same request means something else next time.
_STATEFUL = ("previous_response_id", "conversation", "background", "store", "prompt")


def parse(payload: Mapping[str, object]) -> ParsedRequest | None:
    """Read a request."""
    temperature = payload.get("temperature")
    if isinstance(temperature, bool) or not isinstance(temperature, int | float | None):
        return None
    if not isinstance(payload.get("input"), str | list):
        return None
    mode, shape = form_of(payload)
    return ParsedRequest(
        model=str(payload.get("model", "")),
        mode=mode,
        shape=shape,
        temperature=temperature,
        is_deterministic=temperature == 0 or payload.get("seed") is not None,
        bypass=_bypass(payload),
    )


def judge(body: bytes, _: ParsedRequest) -> Judgement:
    """Judge an answer: complete, and nothing in it that the provider's own tools have found."""
    answer = decoded(body)
    if answer.get("error"):
        return Judgement(discard=DiscardReason.ERROR_BODY)
    if answer.get("status") != "completed":
        return INCOMPLETE
    if str(answer.get("id")).startswith("chatcmpl"):
        # A chat model has answered. LiteLLM takes that for a chat when it reads it back, and fails.
        return INCOMPLETE
    output = objects(answer.get("output"))
    kinds = {str(item.get("type")) for item in output}
    has_tool_calls = not kinds.isdisjoint(_TOOL_CALLS)
    return Judgement(
        discard=_discard(output, kinds),
        model=str(answer.get("model") or ""),
        has_usage=bool(answer.get("usage")),
        has_tool_calls=has_tool_calls,
        finish_reasons=("tool_calls" if has_tool_calls else "stop",),
    )


def _bypass(payload: Mapping[str, object]) -> BypassReason | None:
    if any(payload.get(name) for name in _STATEFUL):
        return BypassReason.STORE
    if any(kind not in _CLIENT_TOOLS for kind in tool_types(payload)):
        return BypassReason.SERVER_TOOLS
    if is_remote(payload.get("input")):
        return BypassReason.REMOTE_MEDIA
    return None


def _discard(output: list[dict[str, Any]], kinds: set[str]) -> DiscardReason | None:
    if kinds <= {"reasoning"}:
        return DiscardReason.EMPTY
    if not kinds <= _TEXTS | _TOOL_CALLS:
        return DiscardReason.VETOED
    parts = [part for item in output for part in objects(item.get("content"))]
    if any(part.get("type") == "refusal" for part in parts):
        return DiscardReason.FINISH_REASON
    return None
