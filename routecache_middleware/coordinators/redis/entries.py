"""Entries as the values of plain keys, each with an expiry. Whatever else is found is a miss."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from routecache_middleware.coordinators.redis.failures import failure, is_error
from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.redis.link import Command, Link
from routecache_middleware.coordinators.redis.server_time import ServerTime
from routecache_middleware.core.codec import EntryCodec
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import Entry
from routecache_middleware.core.ports import Clock
from routecache_middleware.errors import CorruptEntryError

__all__ = ["MAX_LIFE_S", "Entries", "Packed"]

MAX_LIFE_S = 86_400.0
"""No entry stays longer in a server, whatever its lifetimes; the log's rows stay longer."""


class Packed(NamedTuple):
    """An entry as it is stored, and for how long."""

    value: bytes
    life_ms: int


class Entries:
    """Reads and writes entries.

    Attributes:
        corrupt: Stored values that were no entries of ours, so far.
    """

    __slots__ = ("_clock", "_codec", "_keys", "_link", "_time", "corrupt", "limit_bytes")

    def __init__(
        self,
        link: Link,
        keys: Keys,
        codec: EntryCodec,
        *,
        limit_bytes: int,
        time: ServerTime,
        clock: Clock,
    ) -> None:
        """Prepare.

        Args:
            link: The way to the server.
            keys: Names.
            codec: Entry to bytes and back.
            limit_bytes: Entries with a larger body are not stored.
            time: What the server's clock is ahead of ours.
            clock: Our clock.
        """
        self._link = link
        self._keys = keys
        self._codec = codec
        self._time = time
        self._clock = clock
        self.limit_bytes = limit_bytes
        self.corrupt = 0

    def commands(self, keys: Sequence[CacheKey]) -> list[Command]:
        """Return the commands that read ``keys``; their replies go to :meth:`read_all`."""
        names = [self._keys.entry(key) for key in keys]
        if len(names) > 1 and self._link.spans_keys:  # half the time of as many GETs (measured)
            return [("MGET", *names)]
        return [("GET", name) for name in names]

    def read_all(self, keys: Sequence[CacheKey], replies: Sequence[Any]) -> list[Entry | None]:
        """Return the entries in the replies to :meth:`commands`.

        Raises:
            CoordinatorError: A reply says that the server is unwell.
        """
        if len(keys) > 1 and self._link.spans_keys:
            if is_error(replies[0]):
                raise failure(replies[0]) from replies[0]
            replies = replies[0]
        return [self.read_out(key, reply) for key, reply in zip(keys, replies, strict=True)]

    async def fetch(self, keys: Sequence[CacheKey]) -> list[Entry | None]:
        """Return one entry per key, in order; None where there is nothing.

        Raises:
            CoordinatorError: The server did not answer.
        """
        if not keys:
            return []
        return self.read_all(keys, await self._link.batch(self.commands(keys)))

    async def store(self, key: CacheKey, entry: Entry) -> bool:
        """Store an entry; False, and nothing is left under ``key``, when it cannot be.

        Raises:
            CoordinatorError: The server did not take it.
        """
        packed = self.pack(key, entry)
        if packed is None:
            await self.delete(key)
            return False
        await self._link.call("SET", self._keys.entry(key), packed.value, "PX", packed.life_ms)
        return True

    async def delete(self, key: CacheKey) -> None:
        """Forget a key.

        Raises:
            CoordinatorError: The server did not answer.
        """
        await self._link.call("UNLINK", self._keys.entry(key))

    def pack(self, key: CacheKey, entry: Entry) -> Packed | None:
        """Return what to store; None when it has expired already, or is too large."""
        life_s = entry.expires_s - self._clock.now_s()
        # Written so that NaN is refused as well.
        if not 0 < life_s < float("inf") or len(entry.body) > self.limit_bytes:
            return None
        life_ms = max(1, int(min(life_s, MAX_LIFE_S) * 1000))
        return Packed(self.encode(key, entry), life_ms)

    def encode(self, key: CacheKey, entry: Entry) -> bytes:
        """Return an entry's bytes, in the server's time."""
        offset_s = self._time.offset_s
        if offset_s:
            entry = replace(entry, created_s=entry.created_s + offset_s)
        return self._codec.encode(key, entry)

    def read_out(self, key: CacheKey, reply: Any) -> Entry | None:
        """Return the entry in a reply; counts what is none.

        Raises:
            CoordinatorError: The reply says that the server is unwell.
        """
        if reply is None:
            return None
        if is_error(reply):
            if not str(reply).startswith("WRONGTYPE"):
                raise failure(reply) from reply
            self.corrupt += 1
            return None
        try:
            entry = self._codec.decode(key, reply)
        except CorruptEntryError:
            self.corrupt += 1
            return None
        offset_s = self._time.offset_s
        return replace(entry, created_s=entry.created_s - offset_s) if offset_s else entry
