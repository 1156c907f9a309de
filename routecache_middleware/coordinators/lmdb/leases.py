"""Leases in the file: read, judged and written within one write transaction, LMDB's own mutex.

Times are of the monotonic clock, which all processes of one machine share and nobody sets. After a
start of the system it begins anew, so what ends later than it could have been taken has no meaning.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from routecache_middleware.core.models import START, Position

__all__ = ["Lease", "Leases"]

_SWEPT_PER_ACQUIRE = 4


class Lease(NamedTuple):
    """Who holds a lease; ``token`` is empty when nobody leads, as answers cannot be shared."""

    token: str = ""
    expires_s: float = 0.0
    ttl_s: float = 0.0
    position: int = START

    def is_valid(self, now_s: float) -> bool:
        """Whether it has not ended yet."""
        return 0.0 < self.expires_s - now_s <= self.ttl_s


_NOBODY = Lease()
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[str, float, float, int])


class Leases:
    """The leases as one write transaction sees them; ``now_s`` is monotonic."""

    def __init__(self, txn: Any, tables: Mapping[str, Any], now_s: float) -> None:
        self._txn = txn
        self._table = tables["leases"]
        self._now_s = now_s

    def acquire(
        self, slot: bytes, token: str, ttl_s: float, *, position: Position, since: Position
    ) -> Lease | None:
        """Take the lease unless somebody else has it whose position is not before ``since``.

        Returns:
            Who has it, or None when it was taken.
        """
        self._sweep(slot)
        held = self._get(slot)
        if held.is_valid(self._now_s) and held.token != token and held.position >= since:
            return held
        self._put(slot, Lease(token, self._now_s + ttl_s, ttl_s, position))
        return None

    def is_held(self, slot: bytes, token: str) -> bool:
        """Whether ``token`` holds the lease."""
        held = self._get(slot)
        return held.token == token and held.is_valid(self._now_s)

    def renew(self, slot: bytes, token: str, ttl_s: float) -> bool:
        """Let the lease end ``ttl_s`` from now; False when ``token`` does not hold it."""
        if not self.is_held(slot, token):
            return False
        self._put(slot, Lease(token, self._now_s + ttl_s, ttl_s, self._get(slot).position))
        return True

    def release(self, slot: bytes, token: str, parallel_s: float) -> bool:
        """Give the lease back, if ``token`` has it; says whether it did."""
        held = self._get(slot)
        if held.token != token:
            return False
        if parallel_s > 0:
            self._put(slot, Lease("", self._now_s + parallel_s, parallel_s, held.position))
        else:
            self._txn.delete(slot, db=self._table)
        return True

    def _sweep(self, slot: bytes) -> None:
        # Leaders that died leave leases behind. Slots are hashes, so what follows the one at hand
        # is a random sample: more is swept than is taken, and the table stays small.
        cursor = self._txn.cursor(db=self._table)
        is_there = cursor.set_range(slot)
        for _ in range(_SWEPT_PER_ACQUIRE):
            if not is_there:
                return
            if _decode(cursor.value()).is_valid(self._now_s):
                is_there = cursor.next()
            else:
                cursor.delete()  # moves on to the next
                is_there = bool(cursor.key())

    def _get(self, slot: bytes) -> Lease:
        row = self._txn.get(slot, db=self._table)
        return _NOBODY if row is None else _decode(row)

    def _put(self, slot: bytes, lease: Lease) -> None:
        self._txn.put(slot, _encoder.encode(tuple(lease)), db=self._table)


def _decode(row: bytes) -> Lease:
    try:
        return Lease(*_decoder.decode(row))
    except ValueError:
        return _NOBODY  # a lease is an efficiency, so a damaged one is simply free
