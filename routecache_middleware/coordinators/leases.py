"""Leases of the memory coordinator: who may fill which key, and until when."""

from routecache_middleware.coordinators.expiry import SWEEP_LIMIT, ExpiryBuckets

__all__ = ["LeaseTable"]


class LeaseTable:
    """Key to token and expiry, on the monotonic clock. Not thread-safe; its owner holds a lock.

    A leader that died without a word leaves its lease behind; each new lease frees some of those.
    """

    __slots__ = ("_expiry", "_held")

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, float]] = {}
        self._expiry = ExpiryBuckets()

    def __len__(self) -> int:
        return len(self._held)

    def acquire(self, key: str, token: str, ttl_s: float, now_s: float) -> float:
        """Take the lease, or return how many seconds somebody else still has it; 0 when taken."""
        for expired in self._expiry.pop_due(now_s, SWEEP_LIMIT):
            del self._held[expired]
        holder, expires_s = self._held.get(key, ("", 0.0))
        if now_s < expires_s and holder != token:
            return expires_s - now_s
        self._put(key, token, now_s + ttl_s)
        return 0.0

    def is_held(self, key: str, token: str, now_s: float) -> bool:
        """Whether ``token`` holds the lease of ``key``."""
        holder, expires_s = self._held.get(key, ("", 0.0))
        return holder == token and now_s < expires_s

    def renew(self, key: str, token: str, ttl_s: float, now_s: float) -> bool:
        """Let the lease end ``ttl_s`` from now; False when ``token`` does not hold it."""
        if not self.is_held(key, token, now_s):
            return False
        self._put(key, token, now_s + ttl_s)
        return True

    def release(self, key: str, token: str) -> None:
        """Give the lease back, if ``token`` holds it."""
        if self._held.get(key, ("", 0.0))[0] == token:
            self._drop(key)

    def clear(self) -> None:
        """Forget every lease."""
        self._held.clear()
        self._expiry.clear()

    def _put(self, key: str, token: str, expires_s: float) -> None:
        self._drop(key)
        self._held[key] = (token, expires_s)
        self._expiry.add(key, expires_s)

    def _drop(self, key: str) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._expiry.discard(key, held[1])
