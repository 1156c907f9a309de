"""The writer: the one thread of a process that writes to the file, opens it and closes it.

A write may have to wait for another process, so nothing that an event loop runs may write. Entries
are left in ``pending``, where this process's readers look first, and are written up to fifty at a
time: that costs a third of writing each by itself. Everything else is a job that somebody
waits for. Jobs run in order, after the pending entries of their own key, in the same transaction.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from routecache_middleware.coordinators.lmdb import processes
from routecache_middleware.coordinators.lmdb.environment import Environment
from routecache_middleware.coordinators.lmdb.pending import Job, Pending
from routecache_middleware.coordinators.lmdb.room import Room
from routecache_middleware.coordinators.lmdb.transactions import Transactions
from routecache_middleware.core.models import START, Position
from routecache_middleware.core.ports import Clock
from routecache_middleware.errors import CoordinatorError

__all__ = ["LINGER_S", "Writer"]

LINGER_S = 0.005
"""How long an entry waits for others to be written with it, seconds."""

_MAX_BATCH = 50
_MAX_BATCH_BYTES = 4 * 1024 * 1024
_MAX_PENDING = 2048
_MAX_PENDING_BYTES = 64 * 1024 * 1024
_MAX_JOBS = 2048
_TICK_S = 1.0
_TELL_S = 10.0
_STOP_TIMEOUT_S = 5.0
_JOIN_TIMEOUT_S = 0.5


class Writer:
    """Runs from the first job or entry on, until :meth:`stop`.

    Attributes:
        pending: Slot to the entry that is on its way there.
        read_position: How far this process has read the log.
        errors: Batches that failed.
    """

    def __init__(self, environment: Environment, room: Room, clock: Clock) -> None:
        self._predecessor: threading.Event | None = None
        self._environment = environment
        self._transactions = Transactions(environment, room, clock)
        self._clock = clock
        self._on_commit: list[Callable[[], None]] = []
        self.pending: dict[bytes, Pending] = {}
        self.read_position = START
        self.errors = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a forked child has to: all of it is the parent's."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._jobs: list[Job] = []
        self.pending = {}
        self._pending_bytes = 0
        self._first_pending_s = 0.0
        self._is_stopping = False
        self._is_finished = False
        self._then: Callable[[], None] = _nothing
        self._lost: BaseException | None = None
        self._told: tuple[Position, float, int] = (START, 0.0, -1)
        self._next_tick_s = 0.0
        self._on_commit = []

    # -- what any thread may call

    def put(self, pending: Pending) -> None:
        """Write an entry some time soon.

        Raises:
            CoordinatorError: Entries that were put earlier have been lost.
        """
        with self._changed:
            self._check_running()
            lost, self._lost = self._lost, None
            self._drop(self.pending.get(pending.slot))
            if not self.pending:
                self._first_pending_s = time.monotonic()
            self.pending[pending.slot] = pending
            self._pending_bytes += pending.size_bytes
            while len(self.pending) > _MAX_PENDING or self._pending_bytes > _MAX_PENDING_BYTES:
                self._drop(next(iter(self.pending.values())))
                self._lost = CoordinatorError("the LMDB writer is behind; entries were dropped")
            self._start()
            if len(self.pending) in {1, _MAX_BATCH}:  # else it is awake, or waits for more
                self._changed.notify()
        if lost is not None:
            raise CoordinatorError("entries stored earlier could not be written") from lost

    def submit(self, job: Job) -> None:
        """Do a job as soon as possible.

        Raises:
            CoordinatorError: Too many are waiting already.
        """
        with self._changed:
            self._check_running()
            if len(self._jobs) >= _MAX_JOBS:
                raise CoordinatorError("the LMDB writer is behind")
            self._jobs.append(job)
            self._start()
            self._changed.notify()

    def has_read(self, position: Position) -> None:
        """The log has been read up to ``position``."""
        self.read_position = max(position, self.read_position)

    def wait_for(self, predecessor: threading.Event | None) -> None:
        """Begin only when another writer of the same file has closed it."""
        self._predecessor = predecessor

    def on_commit(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback``, in the writer's thread, after jobs were done; returns how to stop."""
        self._on_commit = [*self._on_commit, callback]

        def stop() -> None:
            self._on_commit = [one for one in self._on_commit if one is not callback]

        return stop

    def stop(self, then: Callable[[], None]) -> None:
        """Write what is pending, close the file, and call ``then`` in the writer's thread."""
        with self._changed:
            self._is_stopping = True
            self._then = then
            self._start()
            self._changed.notify()

    def join(self) -> None:
        """Wait for the end of the thread, once it has said that it closed the file."""
        if self._thread is not None:
            self._thread.join(_JOIN_TIMEOUT_S)

    def _check_running(self) -> None:
        if self._is_finished:
            raise CoordinatorError("the LMDB file was closed")

    # -- the thread

    def _start(self) -> None:
        if self._thread is None:
            # A daemon: a process that ends must not wait for one that holds LMDB's mutex.
            self._thread = threading.Thread(
                target=self._run, name="routecache-lmdb-writer", daemon=True
            )
            self._thread.start()

    def _run(self) -> None:
        if self._predecessor is not None:
            self._predecessor.wait(_STOP_TIMEOUT_S)
        while True:
            taken = self._take()
            if taken is None:
                break
            jobs, batch = taken
            if jobs or batch:
                self._attempt(jobs, batch)
            if time.monotonic() >= self._next_tick_s:
                self._tick()
        self._finish()

    def _take(self) -> tuple[list[Job], list[Pending]] | None:
        """Wait for something to do; None when that is to stop."""
        with self._changed:
            while not self._jobs:
                now_s = time.monotonic()
                wait_s = self._next_tick_s - now_s
                if self.pending:
                    wait_s = min(wait_s, self._first_pending_s + LINGER_S - now_s)
                    if len(self.pending) >= _MAX_BATCH or self._is_stopping or wait_s <= 0:
                        break
                elif self._is_stopping:
                    self._is_finished = True
                    return None
                if wait_s <= 0:
                    break
                self._changed.wait(wait_s)
            jobs, self._jobs = self._jobs, []
            wanted = {job.slot for job in jobs if job.slot in self.pending}
            batch = [self.pending[slot] for slot in wanted if slot is not None]
            size = 0
            for pending in self.pending.values():
                if len(batch) >= _MAX_BATCH or size > _MAX_BATCH_BYTES:
                    break
                if pending.slot not in wanted:
                    batch.append(pending)
                    size += pending.size_bytes
            return jobs, batch

    def _attempt(self, jobs: list[Job], batch: list[Pending]) -> None:
        jobs = [job for job in jobs if not job.done.cancelled() and self._is_encoded(job)]
        error: BaseException | None = None
        results: list[Any] = []
        try:
            results = self._transactions.write(jobs, self._encodable(batch))
        except Exception as caught:  # noqa: BLE001 - it is handed to whoever waits
            error = caught
            self.errors += 1
        with self._changed:
            for pending in batch:
                if self.pending.get(pending.slot) is pending:
                    self._drop(pending)
            self._first_pending_s = time.monotonic()
            if error is not None and batch:
                self._lost = error
        for number, job in enumerate(jobs):
            if not job.done.set_running_or_notify_cancel():
                continue
            if error is None:
                job.done.set_result(results[number])
            else:
                job.done.set_exception(error)
        if jobs:
            for callback in self._on_commit:
                callback()

    def _encodable(self, batch: list[Pending]) -> list[Pending]:
        """Encode entries; one that cannot be is lost alone, and not those beside it."""
        encoded: list[Pending] = []
        for pending in batch:
            try:
                pending.encode(self._environment.page_bytes)
            except Exception as error:  # noqa: BLE001 - the next to store is told
                self._lost = error
                self.errors += 1
            else:
                encoded.append(pending)
        return encoded

    def _is_encoded(self, job: Job) -> bool:
        try:
            if job.incoming is not None:
                job.incoming.encode(self._environment.page_bytes)
        except Exception as error:  # noqa: BLE001 - it is handed to whoever waits
            job.done.set_exception(error)
            return False
        return True

    def _drop(self, pending: Pending | None) -> None:
        if pending is not None:
            del self.pending[pending.slot]
            self._pending_bytes -= pending.size_bytes

    def _tick(self) -> None:
        """Tell how far this process has read, and clear away what dead processes left behind."""
        now_s = time.monotonic()
        self._next_tick_s = now_s + _TICK_S
        environment = self._environment
        if environment.handle is None:
            return
        position, told_s, generation = self._told
        is_due = now_s - told_s >= _TELL_S
        if not is_due and (self.read_position, environment.generation) == (position, generation):
            return
        self._told = (self.read_position, now_s, environment.generation)
        try:
            if is_due:
                environment.check_readers()
            with environment.write() as txn:
                if is_due:
                    processes.drop_dead(txn, environment.tables)
                processes.tell(txn, environment.tables, self.read_position, self._clock.now_s())
        except Exception:  # noqa: BLE001 - it is tried again, and the thread has to live on
            self.errors += 1

    def _finish(self) -> None:
        environment = self._environment
        try:
            if environment.handle is not None:
                with environment.write() as txn:
                    processes.forget(txn, environment.tables)
        except Exception:  # noqa: BLE001 - it will be found to be dead
            self.errors += 1
        try:
            environment.close(flush=True)
        except Exception:  # noqa: BLE001 - not marked as complete then, which is all it means
            self.errors += 1
        finally:
            self._then()


def _nothing() -> None:
    """Do nothing."""
