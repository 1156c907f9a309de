"""Which of several answers about a key, under way at once, may become its near copy."""

from routecache_middleware.core.keys import CacheKey

__all__ = ["Claims"]


class Claims:
    """Who may still put a copy under which key, when what it waits for arrives.

    A read that was sent before a write may be answered after it, and its copy would undo the
    write in this process. So a write takes the claims of reads under way away, none is given while
    a write is, and of two writes under way the one that began later keeps its claim. What is
    claimed is given back in any case, so no more is held than there are calls under way.
    """

    __slots__ = ("_reads", "_writes")

    def __init__(self) -> None:
        self._reads: dict[CacheKey, object] = {}
        self._writes: dict[CacheKey, object] = {}

    def __len__(self) -> int:
        return len(self._reads) + len(self._writes)

    def begin_read(self, key: CacheKey) -> object:
        """A read of ``key`` begins; returns what to hand to :meth:`end_read`."""
        claim = object()
        if key not in self._writes:
            self._reads[key] = claim
        return claim

    def end_read(self, key: CacheKey, claim: object) -> bool:
        """It is over; says whether what it found may be kept."""
        if self._reads.get(key) is not claim:
            return False
        del self._reads[key]
        return True

    def begin_write(self, key: CacheKey) -> object:
        """A write of ``key`` begins; returns what to hand to :meth:`end_write`."""
        claim = self._writes[key] = object()
        self._reads.pop(key, None)
        return claim

    def end_write(self, key: CacheKey, claim: object) -> bool:
        """It is over; says whether what it wrote may be kept."""
        if self._writes.get(key) is not claim:
            return False
        del self._writes[key]
        return True
