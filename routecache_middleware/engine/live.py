"""One answer while it is being made, and everybody who reads it.

The writer appends; readers take chunks at their own pace. Chunks stay as long as somebody needs
them: from the first one while the answer may still be joined or stored, after that only while a
reader has not had them yet. When the slowest of several readers is too far behind, the writer is
held back, for a bounded time; then that reader is cut off.
"""

import asyncio
import math
import sys

from routecache_middleware.core.models import Position
from routecache_middleware.errors import TruncatedResponseError

__all__ = ["Live", "Reader", "ReaderLeftError"]

_BEYOND = sys.maxsize


class ReaderLeftError(Exception):
    """The reader's own client is gone; nothing is left to do for it."""


class Reader:
    """One reader's place in a live answer."""

    __slots__ = ("_live", "_task", "consumed_bytes", "index", "is_cut", "is_gone")

    def __init__(
        self, live: "Live", index: int, task: "asyncio.Task[object] | None" = None
    ) -> None:
        self._live = live
        self._task = task
        self.index = index
        self.consumed_bytes = 0
        self.is_cut = False
        self.is_gone = False

    async def next(self) -> bytes | None:
        """Return the next chunk, or None after the last one.

        Raises:
            TruncatedResponseError: The answer ended early, or this reader was too slow.
            ReaderLeftError: :meth:`leave` was called.
        """
        live = self._live
        while True:
            if self.is_gone:
                raise ReaderLeftError
            if self.is_cut:
                raise TruncatedResponseError("this client read too slowly and was cut off")
            chunk = live.chunk(self.index)
            if chunk is not None:
                self.index += 1
                return chunk
            if live.is_complete:
                return None
            if live.is_broken:
                raise TruncatedResponseError("the shared answer ended before it was complete")
            await live.changed()

    def consumed(self, size: int) -> None:
        """The reader is done with ``size`` bytes."""
        self.consumed_bytes += size
        self._live.progressed()

    def leave(self) -> None:
        """The reader's client is gone."""
        self.is_gone = True
        self.remove()

    def cut(self) -> None:
        """Interrupt the reader's task, which hangs on a client that does not read."""
        self.is_cut = True
        self.remove()
        if self._task is not None:
            self._task.cancel()

    def was_interrupted(self) -> bool:
        """Whether the cancellation that its task has just caught came from :meth:`cut` alone."""
        return self.is_cut and self._task is not None and self._task.uncancel() == 0

    def remove(self) -> None:
        """It reads no more; idempotent."""
        self._live.remove(self)


class Live:
    """An answer being made. Used by one event loop only.

    Attributes:
        position: Captured position of the request that makes it.
        traceparent: That request's span, for links.
        head: The head of the response, once known to be shareable.
        total_bytes: Bytes appended so far.
        is_refused: It turned out not to be shareable, or failed before the first byte.
        is_complete: The last byte was appended.
        is_broken: It ended early.
        is_capturing: All chunks are still here, so it may be joined and stored.
    """

    __slots__ = (
        "_base",
        "_changed",
        "_chunks",
        "_progress",
        "_readers",
        "head",
        "is_broken",
        "is_capturing",
        "is_complete",
        "is_refused",
        "position",
        "total_bytes",
        "traceparent",
    )

    def __init__(self, position: Position, traceparent: str) -> None:
        self.position = position
        self.traceparent = traceparent
        self.head: object = None
        self.total_bytes = 0
        self.is_refused = self.is_complete = self.is_broken = False
        self.is_capturing = True
        self._chunks: list[bytes] = []
        self._base = 0  # index of the first chunk that is still here
        self._readers: list[Reader] = []
        self._changed: asyncio.Future[None] | None = None
        self._progress: asyncio.Future[None] | None = None

    def others(self, reader: Reader | None) -> int:
        """How many read it besides ``reader``."""
        return len(self._readers) - (reader in self._readers)

    def reader(self, task: "asyncio.Task[object] | None" = None) -> Reader:
        """Add a reader, at the beginning. ``task``: the one to interrupt should it be cut off."""
        return self._add(Reader(self, 0, task))

    def queued_reader(self) -> Reader:
        """Add a reader with a queue of its own: it needs no chunks, but its progress counts."""
        reader = self._add(Reader(self, _BEYOND))
        reader.consumed_bytes = self.total_bytes
        return reader

    def remove(self, reader: Reader) -> None:
        """Take a reader out."""
        if reader in self._readers:
            self._readers.remove(reader)
        self.progressed()
        self._wake()

    def begin(self, head: object) -> None:
        """The head of the response is known and may be shared."""
        self.head = head
        self._wake()

    def refuse(self) -> None:
        """Nobody else can have this answer."""
        self.is_refused = True
        self._wake()

    def append(self, chunk: bytes) -> None:
        """Add bytes; empty chunks mean nothing."""
        if not chunk:
            return
        self.total_bytes += len(chunk)
        if self.is_capturing or self._readers:
            self._chunks.append(chunk)
            self._wake()

    def complete(self) -> None:
        """The last byte was appended."""
        self.is_complete = True
        self._wake()

    def abort(self) -> None:
        """The answer ended early; nothing happens when it is complete."""
        if not self.is_complete:
            self.is_broken = True
            self._wake()

    def stop_capturing(self) -> None:
        """Keep only what somebody still has to read; joining and storing are over."""
        self.is_capturing = False
        self._trim()

    def body(self) -> bytes:
        """All bytes; only while capturing."""
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def chunk(self, index: int) -> bytes | None:
        """Return a chunk by its number from the beginning, or None when it has not come yet."""
        offset = index - self._base
        return self._chunks[offset] if offset < len(self._chunks) else None

    async def changed(self) -> None:
        """Wait until anything happens."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def progressed(self) -> None:
        """A reader got further, or left."""
        if not self.is_capturing:
            self._trim()
        if self._progress is not None:
            self._progress.set_result(None)
            self._progress = None

    async def hold_back(self, max_lag_bytes: int, timeout_s: float) -> bool:
        """Wait while the slowest of several readers is too far behind; then cut it off.

        Returns:
            Whether a reader was cut off.
        """
        has_cut, deadline = False, math.inf
        while (slowest := self._slowest()) is not None:
            if self.total_bytes - slowest.consumed_bytes <= max_lag_bytes:
                break
            loop = asyncio.get_running_loop()
            if self._progress is None:
                self._progress = loop.create_future()
            if len(self._readers) == 1:
                # Alone, a slow reader holds up nobody but itself: no limit, as without sharing.
                deadline = math.inf
                await asyncio.wait((self._progress,))
                continue
            deadline = min(deadline, loop.time() + timeout_s)
            done, _ = await asyncio.wait((self._progress,), timeout=deadline - loop.time())
            if not done:
                slowest.cut()
                has_cut, deadline = True, math.inf
        return has_cut

    async def abandoned(self, leader: Reader | None) -> None:
        """Wait until nobody but ``leader`` reads it, or it is over."""
        while not (self.is_complete or self.is_broken) and self.others(leader):
            await self.changed()

    def _add(self, reader: Reader) -> Reader:
        self._readers.append(reader)
        self.progressed()  # who waits for a lone slow reader must not do so without limit any more
        return reader

    def _slowest(self) -> Reader | None:
        return min(self._readers, key=_consumed, default=None)

    def _trim(self) -> None:
        end = self._base + len(self._chunks)
        needed = min((reader.index for reader in self._readers), default=end)
        if needed > self._base:
            del self._chunks[: needed - self._base]
            self._base = min(needed, end)

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None


def _consumed(reader: Reader) -> int:
    return reader.consumed_bytes
