"""Write transactions: retried, split or healed until they succeed, as far as that is possible."""

from typing import Any

from routecache_middleware.coordinators.lmdb.environment import ClosedError, Environment
from routecache_middleware.coordinators.lmdb.layout import DamagedError
from routecache_middleware.coordinators.lmdb.pending import Job, Pending, Work
from routecache_middleware.coordinators.lmdb.room import Room
from routecache_middleware.coordinators.lmdb.shelf import Shelf
from routecache_middleware.core.ports import Clock
from routecache_middleware.errors import CoordinatorError

__all__ = ["Transactions"]

_TRIES = 6


class _NoRoomError(Exception):
    """Another process has filled the room that was made, or there is too much at once."""


class Transactions:
    """Writes entries and does jobs, in the writer's thread."""

    def __init__(self, environment: Environment, room: Room, clock: Clock) -> None:
        self._environment = environment
        self._room = room
        self._clock = clock

    def write(self, jobs: list[Job], batch: list[Pending]) -> list[Any]:
        """Write ``batch``, which is encoded, do ``jobs`` after it, and return their results.

        Raises:
            ConfigurationError: The directory cannot be used.
            CoordinatorError: Whatever was tried has failed.
            Exception: The driver's, or a job's.
        """
        driver = self._environment.driver
        for attempt in range(1, _TRIES + 1):
            try:
                self._environment.ensure_open()
                return self._write(jobs, batch)
            except ClosedError:
                continue
            except (_NoRoomError, driver.MapFullError) as error:
                if attempt > 1 and len(jobs) + len(batch) > 1:
                    return self._split(jobs, batch)
                self._make_room(error, is_last_try=attempt == _TRIES - 1)
            except driver.MapResizedError:
                self._environment.adopt_map_size()
            except DamagedError:
                if attempt == 1:
                    self._room.wipe()
                else:  # it is not the entries
                    self._environment.replace()
            except (driver.CorruptedError, driver.PageNotFoundError):
                self._environment.replace()
            except (driver.PanicError, driver.BadRslotError, driver.BadTxnError):
                self._environment.close(flush=False)
        raise CoordinatorError("the LMDB file could not be written, whatever was tried")

    def _split(self, jobs: list[Job], batch: list[Pending]) -> list[Any]:
        """Write a few at a time what is too much for one transaction: entries first, as always."""
        if batch:
            half = len(batch) // 2
            if half:
                self.write([], batch[:half])
            self.write([], batch[half:])
            return self.write(jobs, []) if jobs else []
        half = len(jobs) // 2
        return self.write(jobs[:half], []) + self.write(jobs[half:], [])

    def _make_room(self, error: Exception, *, is_last_try: bool) -> None:
        if is_last_try:
            self._room.wipe()
        elif not isinstance(error, _NoRoomError):
            self._room.squeeze()

    def _write(self, jobs: list[Job], batch: list[Pending]) -> list[Any]:
        incoming = [job.incoming for job in jobs if job.incoming is not None]
        wanted: dict[int, int] = {}
        for pending in (*batch, *incoming):
            wanted[pending.layer] = wanted.get(pending.layer, 0) + pending.charge
        if wanted:
            self._room.make(wanted, self._clock.now_s())
        with self._environment.write() as txn:
            work = Work(txn, self._environment.tables, Shelf(txn, self._environment.tables))
            for pending in batch:
                pending.apply(work.shelf)
            # Asked again: it may have taken seconds to get here, and who gave up wants no lease.
            results = [None if job.done.cancelled() else job.run(work) for job in jobs]
            for layer in wanted:
                if work.shelf.usage(layer).charged_bytes > self._room.limits[layer]:
                    raise _NoRoomError
            work.shelf.save()
            return results
