"""Leases of the memory coordinator: who may fill which key, and until when."""

from typing import NamedTuple

from routecache_middleware.coordinators.expiry import SWEEP_LIMIT, ExpiryBuckets
from routecache_middleware.core.models import START, Position

__all__ = ["HeldLease", "LeaseTable"]


class HeldLease(NamedTuple):
    """Who holds a lease, until when, and where that holder's captured position was.

    ``token`` is empty when nobody leads because answers cannot be shared for now.
    """

    token: str
    expires_s: float
    position: Position = START


_NOBODY = HeldLease("", 0.0)


class LeaseTable:
    """Name to holder and expiry, on the monotonic clock. Not thread-safe; its owner holds a lock.

    A leader that died without a word leaves its lease behind; each new lease frees some of those.
    """

    __slots__ = ("_expiry", "_held")

    def __init__(self) -> None:
        self._held: dict[str, HeldLease] = {}
        self._expiry = ExpiryBuckets()

    def __len__(self) -> int:
        return len(self._held)

    def acquire(
        self,
        name: str,
        token: str,
        ttl_s: float,
        now_s: float,
        *,
        position: Position = START,
        since: Position = START,
    ) -> HeldLease | None:
        """Take the lease, unless somebody else has it whose position is not before ``since``.

        Returns:
            Who has it, or None when it was taken.
        """
        for expired in self._expiry.pop_due(now_s, SWEEP_LIMIT):
            del self._held[expired]
        held = self._held.get(name, _NOBODY)
        if now_s < held.expires_s and held.token != token and held.position >= since:
            return held
        self._put(name, HeldLease(token, now_s + ttl_s, position))
        return None

    def is_held(self, name: str, token: str, now_s: float) -> bool:
        """Whether ``token`` holds the lease."""
        held = self._held.get(name, _NOBODY)
        return held.token == token and now_s < held.expires_s

    def renew(self, name: str, token: str, ttl_s: float, now_s: float) -> bool:
        """Let the lease end ``ttl_s`` from now; False when ``token`` does not hold it."""
        if not self.is_held(name, token, now_s):
            return False
        self._put(name, HeldLease(token, now_s + ttl_s, self._held[name].position))
        return True

    def release(self, name: str, token: str, now_s: float, *, parallel_s: float = 0.0) -> bool:
        """Give the lease back, if ``token`` holds it; says whether it did.

        ``parallel_s``: nobody leads for so many seconds more, because answers cannot be shared.
        """
        held = self._held.get(name, _NOBODY)
        if held.token != token:
            return False
        self._drop(name)
        if parallel_s > 0:
            self._put(name, HeldLease("", now_s + parallel_s, held.position))
        return True

    def clear(self) -> None:
        """Forget every lease."""
        self._held.clear()
        self._expiry.clear()

    def _put(self, name: str, lease: HeldLease) -> None:
        self._drop(name)
        self._held[name] = lease
        self._expiry.add(name, lease.expires_s)

    def _drop(self, name: str) -> None:
        held = self._held.pop(name, None)
        if held is not None:
            self._expiry.discard(name, held.expires_s)
