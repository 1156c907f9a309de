"""Leases: who may fill which key, kept beside the entry, with whom to wake when it is done.

A lease is ``<ms> <seq> <token>``: its holder's captured position and token. With no token nobody
leads, because answers cannot be shared for now. Whoever is told to wait is remembered, by the inbox
of its process, in a set that the fill or the release takes away and hands to the former leader, who
tells them. Correctness never depends on any of it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from routecache_middleware.coordinators.redis.entries import Entries
from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.redis.link import Link, Script
from routecache_middleware.coordinators.redis.rows import split_position
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import Acquired, Clock, Follower, Found, Leader, Parallel

__all__ = ["Ended", "Leases"]

# Magic, version and checksum: equal for equal entries, and much shorter.
_HEADER_BYTES = 11
# Who waits asks again within a second, which renews this; it bounds what a dead process leaves.
_WAITERS_S = 60
_MAX_LOOKS = 4

_HOLDER = """
local function holder(lease)
  local held = redis.pcall('GET', lease)
  if type(held) ~= 'string' then return nil end
  local ms, seq, token = string.match(held, '^(%d+) (%d+) (.*)$')
  return token, tonumber(ms), tonumber(seq)
end
"""

_ACQUIRE = Script(
    _HOLDER
    + f"""
-- KEYS: entry, lease, waiters.
-- ARGV: token, ttl_ms, ms, seq, since_ms, since_seq, header of the entry seen, inbox.
local entry = redis.pcall('GET', KEYS[1])
if type(entry) == 'string' and string.sub(entry, 1, {_HEADER_BYTES}) ~= ARGV[7] then
  return {{'found', entry}}
end
local token, ms, seq = holder(KEYS[2])
local left_ms = redis.call('PTTL', KEYS[2])
if token and token ~= ARGV[1] and left_ms >= 0 then
  local since_ms, since_seq = tonumber(ARGV[5]), tonumber(ARGV[6])
  if ms > since_ms or (ms == since_ms and seq >= since_seq) then
    if token == '' then return {{'parallel', left_ms}} end
    if ARGV[8] ~= '' then
      redis.call('SADD', KEYS[3], ARGV[8])
      redis.call('EXPIRE', KEYS[3], {_WAITERS_S})
    end
    return {{'follower', left_ms}}
  end
end
redis.call('SET', KEYS[2], ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. ARGV[1], 'PX', ARGV[2])
return {{'leader', 0}}
"""
)

_RENEW = Script(
    _HOLDER
    + """
-- KEYS: lease. ARGV: token, ttl_ms.
if holder(KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
)

_RELEASE = Script(
    _HOLDER
    + """
-- KEYS: lease, waiters. ARGV: token, parallel_ms.
local token, ms, seq = holder(KEYS[1])
if token ~= ARGV[1] then return {0, {}} end
if tonumber(ARGV[2]) > 0 then
  redis.call('SET', KEYS[1], string.format('%.0f %.0f ', ms, seq), 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
local waiters = redis.call('SMEMBERS', KEYS[2])
redis.call('DEL', KEYS[2])
return {1, waiters}
"""
)

_FILL = Script(
    _HOLDER
    + """
-- KEYS: entry, lease, waiters. ARGV: token, life_ms, value.
if holder(KEYS[2]) ~= ARGV[1] then return {0, {}} end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
local waiters = redis.call('SMEMBERS', KEYS[3])
redis.call('DEL', KEYS[3])
return {1, waiters}
"""
)


class Ended(NamedTuple):
    """Whether the token held the lease, and the inboxes of who waited for it."""

    was_held: bool
    waiters: Sequence[str] = ()


class Leases:
    """Takes and gives back leases on behalf of one process."""

    __slots__ = ("_clock", "_entries", "_inbox", "_keys", "_link")

    def __init__(
        self, link: Link, keys: Keys, entries: Entries, *, inbox: str, clock: Clock
    ) -> None:
        """Prepare.

        Args:
            link: The way to the server that holds the entries.
            keys: Names.
            entries: For what is stored and found.
            inbox: Id of the inbox that is told when a lease ends that somebody here waits for.
            clock: Our clock.
        """
        self._link = link
        self._keys = keys
        self._entries = entries
        self._inbox = inbox
        self._clock = clock

    async def acquire(
        self,
        key: CacheKey,
        *,
        token: str,
        ttl_s: float,
        form: str = "",
        position: Position = START,
        since: Position = START,
        seen: Entry | None = None,
    ) -> Acquired:
        """Take the lease of a key, or learn who has it; see the port.

        Raises:
            CoordinatorError: The server did not answer.
        """
        header = b"" if seen is None else self._entries.encode(key, seen)[:_HEADER_BYTES]
        names = (*self._pair(key, form), self._keys.waiters(key, form))
        args = (token, _ms(ttl_s), *split_position(position), *split_position(since))
        for _ in range(_MAX_LOOKS):
            reply = await self._link.script(_ACQUIRE, names, *args, header, self._inbox)
            kind, answer = reply[0], reply[1]
            if kind != b"found":
                return _acquired(kind, answer, token)
            entry = self._entries.read_out(key, answer)
            if entry is not None and entry != seen and self._is_fresh(entry):
                return Found(entry)
            # Stale, garbage, or what was seen as another process encodes it: ask for the lease.
            header = answer[:_HEADER_BYTES]
        return Leader(token)  # others store useless entries faster than we look: store one as well

    async def renew(self, key: CacheKey, *, token: str, ttl_s: float, form: str = "") -> bool:
        """Extend a lease; False when it is no longer held with ``token``.

        Raises:
            CoordinatorError: The server did not answer.
        """
        lease = self._keys.lease(key, form)
        return bool(await self._link.script(_RENEW, (lease,), token, _ms(ttl_s)))

    async def release(
        self, key: CacheKey, *, token: str, form: str = "", parallel_s: float = 0.0
    ) -> Ended:
        """Give a lease back; nothing happens when it is not held with ``token``.

        Raises:
            CoordinatorError: The server did not answer.
        """
        names = (self._keys.lease(key, form), self._keys.waiters(key, form))
        parallel_ms = _ms(parallel_s) if parallel_s > 0 else 0
        return _ended(await self._link.script(_RELEASE, names, token, parallel_ms))

    async def fill(self, key: CacheKey, entry: Entry, *, token: str, form: str = "") -> Ended:
        """Store an entry if ``token`` holds the lease, which stays with it.

        Raises:
            CoordinatorError: The server did not answer.
        """
        packed = self._entries.pack(key, entry)
        if packed is None:
            await self._entries.delete(key)
            return Ended(was_held=False)
        names = (*self._pair(key, form), self._keys.waiters(key, form))
        reply = await self._link.script(_FILL, names, token, packed.life_ms, packed.value)
        return _ended(reply)

    def _pair(self, key: CacheKey, form: str) -> tuple[str, str]:
        return self._keys.entry(key), self._keys.lease(key, form)

    def _is_fresh(self, entry: Entry) -> bool:
        return self._clock.now_s() < entry.created_s + entry.freshness_lifetime_s


def _acquired(kind: bytes, left_ms: Any, token: str) -> Acquired:
    remaining_s = max(1, int(left_ms)) / 1000
    if kind == b"follower":
        return Follower(remaining_s)
    return Parallel(remaining_s) if kind == b"parallel" else Leader(token)


def _ended(reply: Any) -> Ended:
    was_held, waiters = reply
    return Ended(bool(was_held), [waiter.decode() for waiter in waiters])


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
