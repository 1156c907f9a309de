"""Anthropic messages: ``litellm.anthropic_messages``, the proxy's ``/v1/messages``.

A stream is kept as the provider's own events, so that the signatures of thinking stay as they are.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from routecache_middleware.adapters.litellm.results.reading import decoded, is_remote
from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.core.models import BypassReason, ResponseMode
from routecache_middleware.dialects.anthropic_messages import AnthropicMessages

__all__ = ["DIALECT", "EVENTS", "judge", "parse"]

DIALECT = AnthropicMessages()
EVENTS = "litellm_cached_anthropic_sse_events"
"""Where LiteLLM puts the events of a stream."""

# LiteLLM does something about these itself, for models that know nothing of them.
_SERVER_SIDE = ("mcp_servers", "container", "context_management", "compaction")


def parse(payload: Mapping[str, object]) -> ParsedRequest | None:
    """Read a request."""
    parsed = DIALECT.parse(payload)
    if parsed is None:
        return None
    if any(payload.get(name) for name in _SERVER_SIDE):
        return replace(parsed, bypass=BypassReason.SERVER_TOOLS)
    is_elsewhere = is_remote(payload.get("messages")) or is_remote(payload.get("system"))
    if parsed.bypass is None and is_elsewhere:
        return replace(parsed, bypass=BypassReason.REMOTE_MEDIA)
    return parsed


def judge(body: bytes, request: ParsedRequest) -> Judgement:
    """Judge an answer: the whole of it, or the events of a stream."""
    answer = decoded(body)
    if EVENTS not in answer:
        return DIALECT.judge(body, ResponseMode.JSON, request)
    given = answer[EVENTS]
    events = given if isinstance(given, list) else []
    sent = "".join(event for event in events if isinstance(event, str))
    return DIALECT.judge(sent.encode("utf-8", "replace"), ResponseMode.STREAM, request)
