"""A request that shares an answer which another request is already getting."""

import asyncio
from collections.abc import Callable

from routecache_middleware.adapters.asgi.leader import Leader
from routecache_middleware.adapters.asgi.relay import Stamp
from routecache_middleware.adapters.asgi.types import Headers, Receive, Send
from routecache_middleware.core.models import ResponseMode
from routecache_middleware.engine.live import Reader, ReaderLeftError
from routecache_middleware.errors import TruncatedResponseError

__all__ = ["follow"]


async def follow(
    leader: Leader, receive: Receive, send: Send, stamp: Stamp, on_shared: Callable[[], None]
) -> bool:
    """Give this client its copy of the leader's answer, as it comes.

    Nothing is sent before the first byte of the body is there, so that a leader that fails before
    it costs this client nothing; ``on_shared`` is called just before that.

    Returns:
        False when the leader came to nothing and this request has to find another way.

    Raises:
        TruncatedResponseError: The answer ended early after its first byte, or this client was too
            slow; its connection has to be closed, not ended cleanly.
    """
    if leader.live.is_broken or not leader.live.is_capturing:
        return False  # its beginning is gone: it happened while this request waited to board
    reader = leader.live.reader(asyncio.current_task())
    leader.start_sharing()
    watch = asyncio.ensure_future(_leave_on_disconnect(receive, reader))
    try:
        return await _copy(leader, reader, send, stamp, on_shared)
    except ReaderLeftError:
        return True
    except asyncio.CancelledError:
        if reader.was_interrupted():
            raise TruncatedResponseError("this client read too slowly and was cut off") from None
        raise
    finally:
        reader.remove()
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def _copy(
    leader: Leader, reader: Reader, send: Send, stamp: Stamp, on_shared: Callable[[], None]
) -> bool:
    live = leader.live
    while not (live.total_bytes or live.is_complete):
        if live.is_refused or live.is_broken:
            return False
        if reader.is_gone:
            raise ReaderLeftError
        await live.changed()
    if live.is_refused:
        return False
    on_shared()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": _headers(leader, stamp),
        }
    )
    while (chunk := await reader.next()) is not None:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        reader.consumed(len(chunk))
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    return True


def _headers(leader: Leader, stamp: Stamp) -> Headers:
    head = leader.shared_head
    headers: Headers = [(b"content-type", head.facts.content_type.encode("latin-1")), *head.headers]
    if head.content_length:
        headers.append((b"content-length", head.content_length))
    if head.facts.mode is ResponseMode.STREAM:
        headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
    stamp.put(headers)
    return headers


async def _leave_on_disconnect(receive: Receive, reader: Reader) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reader.leave()
