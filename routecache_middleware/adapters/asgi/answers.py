"""Responses that we make ourselves: a stored answer, and the refusal of ``only-if-cached``."""

from routecache_middleware.adapters.asgi.relay import Stamp
from routecache_middleware.adapters.asgi.types import Headers, Message
from routecache_middleware.core.choices import Replay
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.core.models import BypassReason, Entry, MissReason, ResponseMode
from routecache_middleware.core.sse import group_messages, split_frames

__all__ = ["not_cached", "stored_answer"]

_BURST_BYTES = 16_384
_JSON = ResponseMode.JSON
_BURST = Replay.BURST
_CONTENT_TYPES = {
    ResponseMode.JSON: b"application/json",
    ResponseMode.STREAM: b"text/event-stream; charset=utf-8",
}


def stored_answer(
    entry: Entry,
    body: bytes,
    mode: ResponseMode,
    age_s: float,
    stamp: Stamp,
    *,
    replay: Replay = _BURST,
) -> list[Message]:
    """Serve ``body``, which is the entry's own or was made from it, in wire form ``mode``."""
    if mode is entry.mode and entry.content_type:
        content_type = entry.content_type.encode("latin-1")
    else:
        content_type = _CONTENT_TYPES[mode]
    headers: Headers = [(b"content-type", content_type), *entry.headers]
    if mode is _JSON:
        headers.append((b"content-length", b"%d" % len(body)))
    else:
        headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
    if stamp.has_fields:
        headers.append((b"age", b"%d" % age_s))
    stamp.put(headers)
    start: Message = {"type": "http.response.start", "status": 200, "headers": headers}
    is_burst = replay is _BURST
    if mode is _JSON or (is_burst and len(body) <= _BURST_BYTES):
        return [start, {"type": "http.response.body", "body": body, "more_body": False}]
    pieces = group_messages(body, _BURST_BYTES) if is_burst else split_frames(body)
    bodies: list[Message] = [
        {"type": "http.response.body", "body": piece, "more_body": True} for piece in pieces
    ]
    bodies[-1]["more_body"] = False
    return [start, *bodies]


def not_cached(
    dialect: Dialect, stamp: Stamp, reason: BypassReason | MissReason | None
) -> list[Message]:
    """504 for ``only-if-cached`` (RFC 9111 section 5.2.1.7), in the API's own error shape.

    It carries no ``Cache-Status``: RFC 9211 section 2 has none for responses that caches generate.
    ``X-RouteCache`` tells it from a 504 of the app. The official SDKs obey ``X-Should-Retry``; a
    504 they would send again.
    """
    why = "" if reason is None else f" ({reason.value})"
    body = dialect.error_body(
        f"the request says only-if-cached, and no stored answer can be used for it{why}",
        kind="cache_miss",
        code="only_if_cached",
    )
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-should-retry", b"false"),
    ]
    if stamp.has_fields:
        headers.append((b"x-routecache", b"MISS"))
    return [
        {"type": "http.response.start", "status": 504, "headers": headers},
        {"type": "http.response.body", "body": body, "more_body": False},
    ]
