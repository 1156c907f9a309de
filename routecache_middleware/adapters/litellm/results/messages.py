"""Anthropic messages: ``litellm.anthropic_messages``, the proxy's ``/v1/messages``.

A stream is kept as the provider's own events, so that the signatures of thinking stay as they are.
"""

from collections.abc import Iterator, Mapping
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

__all__ = ["EVENTS", "judge", "parse"]

EVENTS = "litellm_cached_anthropic_sse_events"
"""Where LiteLLM puts the events of a stream."""

_SERVER_SIDE = ("mcp_servers", "container", "context_management", "compaction")
_CLIENT_TOOLS = frozenset({None, "custom"})
_BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
}


def parse(payload: Mapping[str, object]) -> ParsedRequest | None:
    """Read a request."""
    temperature = payload.get("temperature")
    if isinstance(temperature, bool) or not isinstance(temperature, int | float | None):
        return None
    if not objects(payload.get("messages")):
        return None
    mode, shape = form_of(payload)
    return ParsedRequest(
        model=str(payload.get("model", "")),
        mode=mode,
        shape=shape,
        temperature=temperature,
        is_deterministic=temperature == 0,
        bypass=_bypass(payload),
    )


def judge(body: bytes, _: ParsedRequest) -> Judgement:
    """Judge an answer."""
    answer = decoded(body)
    if EVENTS in answer:
        return _judge_events(answer[EVENTS])
    if answer.get("type") == "error" or answer.get("error"):
        return Judgement(discard=DiscardReason.ERROR_BODY)
    kinds = [str(block.get("type")) for block in objects(answer.get("content"))]
    return _judgement(kinds, answer.get("stop_reason"), answer)


def _bypass(payload: Mapping[str, object]) -> BypassReason | None:
    if any(payload.get(name) for name in _SERVER_SIDE):
        return BypassReason.SERVER_TOOLS
    if any(kind not in _CLIENT_TOOLS for kind in tool_types(payload)):
        return BypassReason.SERVER_TOOLS
    if is_remote(payload.get("messages")) or is_remote(payload.get("system")):
        return BypassReason.REMOTE_MEDIA
    return None


def _judge_events(events: object) -> Judgement:
    kinds: list[str] = []
    reason: object = None
    message: dict[str, Any] = {}
    is_over = False
    for data in _data_of(events):
        match data.get("type"):
            case "error":
                return Judgement(discard=DiscardReason.ERROR_BODY)
            case "message_start":
                message = data.get("message") or {}
            case "content_block_start":
                block = data.get("content_block")
                kinds.append(str(block.get("type")) if isinstance(block, dict) else "")
            case "message_delta":
                delta = data.get("delta")
                reason = (delta.get("stop_reason") if isinstance(delta, dict) else None) or reason
            case "message_stop":
                is_over = True
            case _:
                pass
    return _judgement(kinds, reason, message) if is_over else INCOMPLETE


def _data_of(events: object) -> Iterator[dict[str, Any]]:
    for event in events if isinstance(events, list) else []:
        if isinstance(event, str):
            lines = (line for line in event.split("\n") if line.startswith("data:"))
            yield from (decoded(line[5:].strip().encode("utf-8", "replace")) for line in lines)


def _judgement(kinds: list[str], reason: object, message: Mapping[str, Any]) -> Judgement:
    if not reason:
        return INCOMPLETE
    discard = None
    if not kinds:
        discard = DiscardReason.EMPTY
    elif not _BLOCKS.issuperset(kinds):
        discard = DiscardReason.VETOED
    return Judgement(
        discard=discard,
        model=str(message.get("model") or ""),
        has_usage=bool(message.get("usage")),
        has_tool_calls="tool_use" in kinds,
        finish_reasons=(_REASONS.get(str(reason), str(reason)),),
    )
