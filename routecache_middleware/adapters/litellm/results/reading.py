"""Reading what is LiteLLM's own, in requests and answers."""

from typing import Any

import msgspec

__all__ = ["decoded", "is_remote", "objects"]

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


def is_remote(value: object) -> bool:
    """Whether something in a request is fetched from elsewhere: it can change meanwhile.

    Other than a dialect this knows the parts of all APIs, since LiteLLM translates between them,
    and takes a file for what its id stands for in one account: a group may have several.
    """
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
