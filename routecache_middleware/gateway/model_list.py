"""``GET /v1/models`` of a gateway with several upstreams: the names that clients can ask for."""

from collections.abc import Sequence

import msgspec

from routecache_middleware.adapters.asgi.types import Message

__all__ = ["lists_models", "model_list"]

_PATHS = frozenset({"/models", "/v1/models"})
_EPOCH = "1970-01-01T00:00:00Z"  # nobody knows when they were made


def lists_models(method: str, path: str) -> bool:
    """Whether a request asks which models there are."""
    return method == "GET" and path in _PATHS


def model_list(names: Sequence[str]) -> list[Message]:
    """Return the response: members of OpenAI's list and of Anthropic's side by side."""
    data = [
        {
            "id": name,
            "object": "model",
            "type": "model",
            "created": 0,
            "created_at": _EPOCH,
            "display_name": name,
            "owned_by": "routecache",
        }
        for name in names
    ]
    ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
    body = msgspec.json.encode({"object": "list", "data": data, "has_more": False, **ends})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return [
        {"type": "http.response.start", "status": 200, "headers": headers},
        {"type": "http.response.body", "body": body, "more_body": False},
    ]
