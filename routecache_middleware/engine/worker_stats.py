"""WorkerStats: what all processes that share a coordinator have counted together.

Each writes its own record at most once a second while it has something new to say, every ten
seconds otherwise, and when it closes; see :mod:`routecache_middleware.core.ledger`. A process whose
record does not change for 30 seconds is gone. Nobody compares clocks.

None of it is on the way of a request. A coordinator that hangs, fails or forgets costs the total
its freshness: what was read before stands in for what cannot be read now, and a ledger that was
lost is put back by whoever remembers it.
"""

import asyncio
import os
import secrets
from collections.abc import Coroutine
from typing import Final

import msgspec

from routecache_middleware.core.keys import CacheKey, Layer, model_key
from routecache_middleware.core.ledger import (
    EMPTY,
    Ledger,
    WorkerRecord,
    read_ledger,
    read_record,
)
from routecache_middleware.core.models import Entry
from routecache_middleware.core.ports import Leader
from routecache_middleware.core.snapshot import NO_METRICS, MetricsSnapshot, merged
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.metering import take_snapshot

__all__ = ["WorkerStats"]

_SOON_S: Final = 0.05
_TICK_S: Final = 1.0
_HEARTBEAT_S: Final = 10.0
_GONE_S: Final = 30.0
_PATIENCE_S: Final = 1.0
_LOCK_S: Final = 5.0
_RECORD_LIFETIME_S: Final = 86_400.0
_LEDGER_LIFETIME_S: Final = 30 * 86_400.0
_ATTEMPTS: Final = 8
_TRIES: Final = 15
_PAUSE_S: Final = 0.05

_OWNER: Final = "routecache.metrics"
_LEDGER_KEY: Final = model_key(Layer.LOAD, "ledger", _OWNER)
_LOCK_KEY: Final = model_key(Layer.LOAD, "lock", _OWNER)


class _Seen(msgspec.Struct):
    record: WorkerRecord
    since_s: float  # monotonic: when this record was first seen


class WorkerStats:
    """This process's part in it; nothing happens while its coordinator is not shared."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._name = ""
        self._sequence = 0
        self._base = NO_METRICS  # what was counted under other names
        self._attempts: dict[int, MetricsSnapshot] = {}
        self._written = NO_METRICS
        self._written_s = -_HEARTBEAT_S
        self._ledger = self._stored = EMPTY
        self._lost: list[Ledger] = []  # what the store has lost, until somebody has put it back
        self._seen: dict[str, _Seen] = {}
        self._is_busy = self._has_read = False

    @property
    def is_shared(self) -> bool:
        """Whether there is anybody to share with."""
        engine = self._engine
        return engine.coordinator.is_shared and engine.settings.share_metrics

    @property
    def is_known(self) -> bool:
        """Whether :meth:`total` is of all processes; before they were first read it is of one."""
        return self._has_read or not self.is_shared

    def opened(self) -> None:
        """Begin, in the running event loop; the coordinator has just been opened for it."""
        if not self.is_shared:
            return
        self._stop()
        self._loop, self._is_busy = asyncio.get_running_loop(), False
        self._rename()
        self._timer = self._loop.call_later(_SOON_S, self._tick)

    async def aclose(self) -> None:
        """Write the last record, for at most a second, and stop. Failing to is no error."""
        is_here = self._loop is asyncio.get_running_loop()
        self._stop()
        if is_here and self._engine.may_write(Layer.LOAD):
            await _for_at_most(_PATIENCE_S, self._publish(is_over=True))

    async def total(self) -> MetricsSnapshot:
        """Return what all processes have counted, up to a second ago.

        This one's numbers are of then too: whichever process is asked says the same, so who asks
        one after the other never sees a counter go back. What cannot be read is as it was last
        read; a process that may not write, or could never read, adds or returns its own. What is
        the case now (:attr:`.Kind.GAUGE`) is never better than this process finds it itself.
        """
        if not self.is_shared:
            return take_snapshot(self._engine)
        own = self._own()
        await _for_at_most(_PATIENCE_S, self._open_and_read())
        if not self._has_read:
            return own
        records = {name: seen.record for name, seen in self._seen.items()}
        ledger = self._ledger
        if not self._engine.may_write(Layer.LOAD):
            ledger = ledger.with_worker(self._name)
            records[self._name] = WorkerRecord(self._sequence, own.since(self._base))
        # That the store is down is not to be read there: this process knows it.
        return merged([ledger.total(records), own.gauges()])

    async def _open_and_read(self) -> None:
        await self._engine.ensure_open()
        await self._read()

    def _own(self) -> MetricsSnapshot:
        return take_snapshot(self._engine).evened()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop = None

    def _tick(self) -> None:
        loop = self._loop
        if loop is None:
            return
        self._timer = loop.call_later(_TICK_S, self._tick)
        engine = self._engine
        if self._is_busy or not engine.may_write(Layer.LOAD) or not engine.is_open():
            return
        is_due = engine.clock.monotonic_s() - self._written_s >= _HEARTBEAT_S
        if is_due or self._own() != self._written:
            self._is_busy = True
            engine.background.run(self._publish_quietly(), is_urgent=False)

    async def _publish_quietly(self) -> None:
        try:
            await _for_at_most(_LOCK_S, self._publish())
        finally:
            self._is_busy = False

    async def _publish(self, *, is_over: bool = False) -> None:
        engine = self._engine
        now_s = engine.clock.monotonic_s()
        is_due = now_s - self._written_s >= _HEARTBEAT_S
        await self._read_ledger()
        if not engine.may_write(Layer.LOAD):  # switched off meanwhile
            return
        if self._name in self._ledger.folded:
            self._rename(self._ledger.folded[self._name][0])
        snapshot = self._own()
        self._sequence += 1
        self._attempts[self._sequence] = snapshot
        while len(self._attempts) > _ATTEMPTS:
            self._attempts.pop(next(iter(self._attempts)))
        record = WorkerRecord(self._sequence, snapshot.since(self._base), is_over)
        await self._store(_key(self._name), record, _RECORD_LIFETIME_S)
        self._written, self._written_s = snapshot, now_s
        if is_due or self._name not in self._ledger.workers:
            await self._keep_ledger(tries=_TRIES if is_over else 1)

    def _rename(self, counted: int | None = None) -> None:
        """Go on under another name, with what is counted from now on.

        ``counted``: the last record under the old name that counts; None: the last one written.
        """
        if counted is None:
            self._base = self._written if self._attempts else self._base
        elif counted:  # 0: none of them
            self._base = self._attempts.get(counted, self._written)
        self._attempts = {}
        self._sequence = 0
        # Another one each time, also in a process that happens to get the id of one that is gone.
        self._name = f"{os.getpid():x}.{secrets.token_hex(6)}"
        self._written_s = -_HEARTBEAT_S

    async def _read_ledger(self) -> None:
        (entry,) = await self._engine.inspect((_LEDGER_KEY,))
        found, stored = read_ledger(entry), self._stored
        if found is None:
            return
        if found.epoch != stored.epoch:
            self._lost.append(stored)
        self._lost = [lost for lost in self._lost if found.with_lost(lost) is not found]
        self._ledger = self._stored = found
        for lost in self._lost:
            self._ledger = self._ledger.with_lost(lost)

    async def _read(self) -> None:
        """Read the ledger and the records of all that are in it."""
        await self._read_ledger()
        names = self._ledger.workers
        entries = await self._engine.inspect([_key(name) for name in names])
        now_s = self._engine.clock.monotonic_s()
        for name, entry in zip(names, entries, strict=True):
            record, seen = read_record(entry), self._seen.get(name)
            if record is None:
                if seen is None:  # nothing to stand in for it; it may just be about to be written
                    self._seen[name] = _Seen(WorkerRecord(0), now_s)
            elif seen is None or seen.record.sequence != record.sequence:
                self._seen[name] = _Seen(record, now_s)
        for name in self._seen.keys() - set(names):
            del self._seen[name]
        self._has_read = True

    async def _keep_ledger(self, *, tries: int) -> None:
        """Enter this process, and add up those that are gone; one process at a time.

        ``tries``: how often to ask for the lock. Who goes on will be here again in a second.
        """
        coordinator, token = self._engine.coordinator, secrets.token_hex(8)
        while True:
            acquired = await coordinator.acquire(_LOCK_KEY, token=token, ttl_s=_LOCK_S)
            if isinstance(acquired, Leader):
                break
            tries -= 1
            if not tries:
                return
            await asyncio.sleep(_PAUSE_S)
        try:
            (stored,) = await self._engine.inspect((_LEDGER_KEY,))
            await self._read()
            ledger = self._renewed(self._ledger)
            if stored is None or ledger != read_ledger(stored):
                await self._store(_LEDGER_KEY, ledger, _LEDGER_LIFETIME_S)
                self._ledger = self._stored = ledger
                self._lost = []
        finally:
            await coordinator.release(_LOCK_KEY, token=token)

    def _renewed(self, ledger: Ledger) -> Ledger:
        now_s = self._engine.clock.monotonic_s()
        gone = {
            name: seen.record
            for name, seen in self._seen.items()
            if name != self._name
            if seen.record.is_over or now_s - seen.since_s >= _patience_s(seen.record)
        }
        wall_s = self._engine.clock.now_s()
        ledger = ledger.fold(gone, wall_s).forget(wall_s - 2 * _RECORD_LIFETIME_S)
        return ledger.with_worker(self._name).begun(secrets.token_hex(6))

    async def _store(self, key: CacheKey, value: Ledger | WorkerRecord, lifetime_s: float) -> None:
        engine = self._engine
        body, created_s = msgspec.json.encode(value), engine.clock.now_s()
        position = engine.table.position
        entry = Entry(Layer.LOAD, body, created_s, lifetime_s, position=position)
        await engine.coordinator.store(key, entry)


def _patience_s(last: WorkerRecord) -> float:
    """Return for how long a process may be silent; longer if nothing is known of what it counted.

    The store may have lost that: then it is added up by who remembers it, not as nothing.
    """
    return _GONE_S if last.sequence else 4 * _GONE_S


async def _for_at_most(timeout_s: float, call: Coroutine[object, object, None]) -> None:
    """Wait for a call that may hang, or fail: then it is left to itself, cancelled.

    Not with ``asyncio.timeout``: that waits for as long as a call takes no notice of it.
    """
    task = asyncio.ensure_future(call)
    task.add_done_callback(_retrieve)
    try:
        await asyncio.wait((task,), timeout=timeout_s)
    finally:
        task.cancel()


def _retrieve(task: "asyncio.Future[None]") -> None:
    if not task.cancelled():
        task.exception()  # nobody waits for it: the next second tries again


def _key(name: str) -> CacheKey:
    return model_key(Layer.LOAD, name, _OWNER)
