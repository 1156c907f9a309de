"""``GET /v1/models`` of a gateway with names of its own: all that clients can ask for.

With an upstream for whatever no table names, that upstream's list comes after the gateway's own
names; one that cannot be understood is passed on as it is.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from routecache_middleware.adapters.asgi.types import Message, Scope, Send

__all__ = ["Merging", "lists_models", "model_list", "uncompressed"]

_PATHS = frozenset({"/models", "/v1/models"})
_MOST_BYTES = 4 * 1024 * 1024
_OK = 200
_EPOCH = "1970-01-01T00:00:00Z"  # nobody knows when they were made


def lists_models(method: str, path: str) -> bool:
    """Whether a request asks which models there are."""
    return method == "GET" and path in _PATHS


def model_list(names: Sequence[str]) -> list[Message]:
    """Return the response: members of OpenAI's list and of Anthropic's side by side."""
    ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
    body = msgspec.json.encode({"object": "list", "data": _rows(names), "has_more": False, **ends})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return [
        {"type": "http.response.start", "status": 200, "headers": headers},
        {"type": "http.response.body", "body": body, "more_body": False},
    ]


def uncompressed(scope: Scope) -> Scope:
    """Return a request that asks for an answer as it is."""
    headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
    return {**scope, "headers": headers}


class Merging:
    """``send`` that puts names before those of an upstream's list."""

    __slots__ = ("_body", "_names", "_send", "_start")

    def __init__(self, names: Sequence[str], send: Send) -> None:
        self._names = names
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        """Keep a good answer until it is whole; pass on all else."""
        if message["type"] == "http.response.start" and message["status"] == _OK:
            self._start = message
        elif self._start is None or message["type"] != "http.response.body":
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            is_whole = not message.get("more_body", False)
            if is_whole or len(self._body) > _MOST_BYTES:
                await self._end(self._start, is_whole=is_whole)

    async def _end(self, start: Message, *, is_whole: bool) -> None:
        body, merged = bytes(self._body), None
        if is_whole:
            merged = _merged(body, self._names)
        if merged is not None:
            headers = [pair for pair in start["headers"] if pair[0].lower() not in _OF_ONE_BODY]
            headers.append((b"content-length", b"%d" % len(merged)))
            start = {**start, "headers": headers}
        self._start = None
        await self._send(start)
        ending = body if merged is None else merged
        await self._send({"type": "http.response.body", "body": ending, "more_body": not is_whole})


_OF_ONE_BODY = frozenset({b"content-length", b"content-md5", b"digest", b"etag", b"repr-digest"})


def _merged(body: bytes, names: Sequence[str]) -> bytes | None:
    """Return the list with the names before the others; None when it is no list of models."""
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    data = found.get("data") if isinstance(found, dict) else None
    if not isinstance(data, list):
        return None
    own = set(names)
    others = [row for row in data if not (isinstance(row, dict) and row.get("id") in own)]
    merged = {**found, "data": [*_rows(names), *others]}
    if "first_id" in found:
        merged["first_id"] = names[0]
    return msgspec.json.encode(merged)


def _rows(names: Sequence[str]) -> list[dict[str, Any]]:
    return [
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
