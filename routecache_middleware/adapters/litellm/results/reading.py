"""Reading requests and answers of APIs that have no dialect of their own yet."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from routecache_middleware.core.dialect import Judgement
from routecache_middleware.core.models import DiscardReason, ResponseMode

__all__ = ["INCOMPLETE", "decoded", "form_of", "is_remote", "is_stream", "objects", "tool_types"]

INCOMPLETE = Judgement(discard=DiscardReason.INCOMPLETE)

_decode = msgspec.json.Decoder().decode
_LINKS = frozenset({"url", "image_url", "file_url", "video_url", "audio_url"})
_ELSEWHERE = frozenset({"file_id", "container_id"})
_FREE = frozenset({"text", "tool_use", "function_call"})  # what stands in these nobody fetches


def decoded(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body; empty when it is none."""
    try:
        value = _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[dict[str, Any]]:
    """Return the objects among the elements of a list."""
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, dict)]


def is_stream(payload: Mapping[str, object]) -> bool:
    """Whether a stream is asked for."""
    return payload.get("stream") is True


def form_of(payload: Mapping[str, object]) -> tuple[ResponseMode, str]:
    """Return the wire form asked for, and its token."""
    if not is_stream(payload):
        return ResponseMode.JSON, "json"
    options = payload.get("stream_options")
    has_usage = isinstance(options, Mapping) and bool(options.get("include_usage"))
    return ResponseMode.STREAM, "stream+usage" if has_usage else "stream"


def tool_types(payload: Mapping[str, object]) -> Iterator[object]:
    """Yield the type of each tool; None where there is none."""
    for tool in objects(payload.get("tools")):
        yield tool.get("type")


def is_remote(value: object) -> bool:
    """Whether something in a request is fetched from elsewhere: it can change meanwhile."""
    pending = [value]  # not recursive: a client decides how deep it goes
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += item
        elif isinstance(item, dict) and item.get("type") not in _FREE:
            if any(_is_link(name, part) for name, part in item.items()):
                return True
            pending += item.values()
    return False


def _is_link(name: str, value: object) -> bool:
    if name in _ELSEWHERE:
        return value is not None
    return name in _LINKS and isinstance(value, str) and not value.lstrip().startswith("data:")
