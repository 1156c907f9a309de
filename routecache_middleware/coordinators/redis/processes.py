"""Which processes read the log, and how far; kept beside it, refreshed every few seconds."""

import os
import socket
from collections.abc import Sequence
from typing import Any

from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.redis.link import Link, Script
from routecache_middleware.coordinators.redis.rows import id_of, position_of
from routecache_middleware.core.cluster import ProcessStats
from routecache_middleware.core.models import Position

__all__ = ["Processes", "this_process"]

_FORGOTTEN_MS = 60_000
_LIFE_MS = 600_000

_TELL = Script(
    f"""
-- KEYS: positions, times. ARGV: process, position.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - {_FORGOTTEN_MS})) do
  redis.call('HDEL', KEYS[1], gone)
  redis.call('ZREM', KEYS[2], gone)
end
redis.call('PEXPIRE', KEYS[1], {_LIFE_MS})
redis.call('PEXPIRE', KEYS[2], {_LIFE_MS})
return 1
"""
)
_LIST = Script(
    """
-- KEYS: positions, times. Returns name, position, age in ms, for each process.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local told = redis.call('ZREVRANGE', KEYS[2], 0, 999, 'WITHSCORES')
local found = {}
for at = 1, #told, 2 do
  local position = redis.call('HGET', KEYS[1], told[at])
  if position then
    found[#found + 1] = {told[at], position, math.max(0, now - tonumber(told[at + 1]))}
  end
end
return found
"""
)


class Processes:
    """Who reads the log, and how far; kept beside it."""

    __slots__ = ("_link", "_names", "process")

    def __init__(self, link: Link, keys: Keys, process: str) -> None:
        """Prepare; ``process`` is this one's name."""
        self._link = link
        self._names = (keys.processes, keys.seen)
        self.process = process

    async def tell(self, position: Position) -> None:
        """Tell how far this process has read, and forget those that were silent for a minute.

        Raises:
            CoordinatorError: The server did not answer.
        """
        await self._link.script(_TELL, self._names, self.process, id_of(position))

    async def known(self, position: Position) -> tuple[ProcessStats, ...]:
        """Return all processes, this one first, which has read to ``position``.

        Raises:
            CoordinatorError: The server did not answer.
        """
        rows = await self._link.script(_LIST, self._names)
        others = [_process(row) for row in rows]
        own = ProcessStats(process=self.process, position=position)
        return (own, *(other for other in others if other.process != self.process))


def _process(row: Sequence[Any]) -> ProcessStats:
    name, position, age_ms = row
    return ProcessStats(
        process=name.decode(errors="replace"),
        position=position_of(position),
        age_s=int(age_ms) / 1000,
    )


def this_process() -> str:
    """Return what other processes call this one. Not to be kept: a forked child is another one."""
    return f"{socket.gethostname()}:{os.getpid()}"
