"""What several processes have counted together, kept where all of them can read it.

Each process writes its own record, which nobody else writes. Besides, there is one ledger: who is
counted, and the sum of all who are gone. Whoever finds that a process is gone adds its record to
that sum, once: the ledger says up to which of its records each of them was added. A process that
was only asleep finds itself there when it wakes up, and goes on under another name with what it has
counted since. So nothing is counted twice, and nothing that was counted is taken back.

A store may lose its ledger. Whoever finds none begins another, of another epoch, and the first who
remembers the lost one adds that to it, once: the epochs that were added are written down too.
"""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from routecache_middleware.core.models import Entry
from routecache_middleware.core.snapshot import (
    NO_METRICS,
    MetricsSnapshot,
    decode_snapshot,
    merged,
)

__all__ = ["EMPTY", "Ledger", "WorkerRecord", "read_ledger", "read_record"]

_MOST_EPOCHS = 32


class WorkerRecord(msgspec.Struct, frozen=True):
    """What one process has counted.

    Attributes:
        sequence: Grows by one with each record of the process.
        snapshot: Its numbers, under this name.
        is_over: It has closed: there will be no more.
    """

    sequence: int
    snapshot: MetricsSnapshot = NO_METRICS
    is_over: bool = False


class Ledger(msgspec.Struct, frozen=True):
    """Who is counted, and what those who are gone had counted.

    Attributes:
        retired: The sum of those who are gone.
        folded: Their names: which of their records is in that sum, and when it was added, Unix
            seconds.
        workers: The names of all others.
        epoch: Tells it apart from one that was lost; empty before it is first written.
        restored: Epochs of lost ledgers whose sums are in this one.
    """

    retired: MetricsSnapshot = NO_METRICS
    folded: Mapping[str, tuple[int, float]] = {}
    workers: tuple[str, ...] = ()
    epoch: str = ""
    restored: tuple[str, ...] = ()

    def begun(self, epoch: str) -> "Ledger":
        """The same with an epoch, if it has none yet."""
        return self if self.epoch else replace(self, epoch=epoch)

    def with_lost(self, lost: "Ledger") -> "Ledger":
        """The same after another one, which the store has lost, was added to it, once.

        Whoever was counted there still is: whoever lives will write its record again, and of those
        who are gone somebody may remember it.
        """
        if lost.epoch in {"", self.epoch, *self.restored}:
            return self
        known = {*lost.folded, *self.folded}
        workers = dict.fromkeys((*self.workers, *lost.workers))
        return replace(
            self,
            retired=merged([self.retired, lost.retired]),
            folded={**lost.folded, **self.folded},
            workers=tuple(name for name in workers if name not in known),
            restored=(*self.restored, *lost.restored, lost.epoch)[-_MOST_EPOCHS:],
        )

    def with_worker(self, name: str) -> "Ledger":
        """The same with one more process; one that is in it already changes nothing."""
        if name in self.workers or name in self.folded:
            return self
        return replace(self, workers=(*self.workers, name))

    def fold(self, gone: Mapping[str, WorkerRecord], now_s: float) -> "Ledger":
        """The same after some of its processes have ended."""
        gone = {name: record for name, record in gone.items() if name in self.workers}
        if not gone:
            return self
        sums = (record.snapshot.cumulative() for record in gone.values())
        return replace(
            self,
            retired=merged([self.retired, *sums]),
            folded={**self.folded, **{name: (one.sequence, now_s) for name, one in gone.items()}},
            workers=tuple(name for name in self.workers if name not in gone),
        )

    def forget(self, before_s: float) -> "Ledger":
        """The same without the names of those who were added so long ago that none can return."""
        kept = {name: at for name, at in self.folded.items() if at[1] >= before_s}
        if len(kept) == len(self.folded):
            return self
        return replace(self, folded=kept)

    def total(self, records: Mapping[str, WorkerRecord]) -> MetricsSnapshot:
        """Return what all processes have counted together."""
        counted = (records[name] for name in self.workers if name in records)
        return merged(
            [
                self.retired,
                *(one.snapshot.cumulative() if one.is_over else one.snapshot for one in counted),
            ]
        )


EMPTY = Ledger()
"""Nobody counts."""


def read_record(entry: Entry | None) -> WorkerRecord | None:
    """Take a process's record out of an entry; None when there is none in it."""
    packed = _unpacked(entry)
    if packed is None:
        return None
    try:
        snapshot = decode_snapshot(packed.pop("snapshot", None))
        read = msgspec.convert(packed, WorkerRecord)
    except ValueError:
        return None
    return WorkerRecord(read.sequence, snapshot, read.is_over)


def read_ledger(entry: Entry | None) -> Ledger | None:
    """Take the ledger out of an entry; None when there is none in it."""
    packed = _unpacked(entry)
    if packed is None:
        return None
    try:
        retired = decode_snapshot(packed.pop("retired", None))
        read = msgspec.convert(packed, Ledger)
    except ValueError:
        return None
    return replace(read, retired=retired)


def _unpacked(entry: Entry | None) -> dict[str, object] | None:
    if entry is None:
        return None
    try:
        return msgspec.json.decode(entry.body, type=dict[str, object])
    except (ValueError, RecursionError):
        return None
