"""The open LMDB file of this process: one handle, opened and closed by one thread only.

What LMDB asks of its users, and how it is kept here:

- A file is opened once per process: :mod:`.registry` hands out one environment per path.
- A handle does not survive a fork. It is closed before each fork, in the parent, and both sides
  open it again when they next need it. Closing it in the child instead would free the slots of the
  parent's readers, which are shared memory.
- A read transaction that stays open stops all reuse of pages, so it begins and ends under
  ``read_lock``, within one call.
- A write transaction may have to wait for another process, without limit. So writing is the
  writer's thread's business, and the handle is never closed while it writes: ``write_lock``.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from routecache_middleware.coordinators.lmdb.directory import Directory
from routecache_middleware.coordinators.lmdb.driver import load_driver
from routecache_middleware.coordinators.lmdb.layout import DATABASES
from routecache_middleware.errors import CoordinatorError

__all__ = ["ClosedError", "Environment"]

_MAX_READERS = 512
_CHECK_S = 0.25
_FORK_TIMEOUT_S = 1.0


class ClosedError(CoordinatorError):
    """The handle was closed by a fork; it may be opened again."""


class Environment:
    """A handle that comes and goes.

    Attributes:
        handle: The driver's environment, or None while there is none. Read it under ``read_lock``.
        tables: Database name to the driver's handle, valid as long as ``handle`` is.
        generation: Rises whenever the handle was opened anew.
        is_broken: The file is not in place any more, or damaged: the writer has to open another.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        map_bytes: int,
        prepare: Callable[[Any, Mapping[str, Any]], None],
    ) -> None:
        """Prepare; opens nothing.

        Args:
            directory: Where the file is.
            map_bytes: The size that the file can never exceed.
            prepare: Called with a write transaction and the tables whenever the file was opened.
        """
        self.driver = load_driver()
        self.directory = directory
        self.map_bytes = map_bytes
        self.handle: Any = None
        self.tables: Mapping[str, Any] = {}
        self.page_bytes = 4096
        self.generation = 0
        self.is_broken = False
        self.pid = os.getpid()
        self.read_lock = threading.Lock()
        self.write_lock = threading.Lock()
        self._prepare = prepare
        self._identity: tuple[int, int] | None = None
        self._checked_s = 0.0
        self._held_over_fork: list[threading.Lock] = []

    # -- what readers need, under read_lock

    def is_usable(self) -> bool:
        """Whether the handle may be read: it is this process's, and its file is still in place.

        The file is looked at four times a second: it may have been deleted, or replaced by another
        process. A fork that Python was not told of leaves the handle of its parent behind.
        """
        if self.handle is None or self.is_broken or self.pid != os.getpid():
            return False
        now_s = time.monotonic()
        if now_s - self._checked_s > _CHECK_S:
            self._checked_s = now_s
            self.is_broken = self.directory.identity() != self._identity
        return not self.is_broken

    # -- what the writer's thread needs

    def ensure_open(self) -> Any:
        """Return the handle, opening it when there is none or its file is gone.

        Raises:
            ConfigurationError: The directory cannot be used.
            CoordinatorError: It is not this process's to open, or is being opened elsewhere.
        """
        if self.pid != os.getpid():
            raise CoordinatorError("the process was forked in a way that Python does not know of")
        is_in_place = self.directory.identity() == self._identity
        if self.handle is not None and is_in_place:
            if not self.is_broken:
                return self.handle
            self.replace()
        self.close(flush=False)
        with self.write_lock:
            self.directory.prepare()
            with self.directory.guard():
                self.directory.claim()
                try:
                    handle = self._open_file()
                except BaseException:
                    self.directory.disclaim()
                    raise
            self._open_tables(handle)
            return handle

    @contextmanager
    def write(self) -> Iterator[Any]:
        """Begin a write transaction, and commit it unless the block raises."""
        with self.write_lock:
            handle = self.handle
            if handle is None:
                raise ClosedError("the LMDB file was closed by a fork")
            with handle.begin(write=True) as txn:
                yield txn

    @contextmanager
    def read(self) -> Iterator[Any]:
        """Begin a read transaction in the writer's thread."""
        with self.write_lock:
            handle = self.handle
            if handle is None:
                raise ClosedError("the LMDB file was closed by a fork")
            with handle.begin() as txn:
                yield txn

    def used_bytes(self, txn: Any) -> int:
        """Return the size of all pages in use; free ones, which are used again, do not count."""
        stats = [txn.stat(table) for table in self.tables.values()]
        pages = sum(s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"] for s in stats)
        return int(pages) * self.page_bytes

    def check_readers(self) -> None:
        """Free the slots of readers that were killed: each keeps all pages of its time."""
        with self.write_lock:
            if self.handle is not None:
                self.handle.reader_check()

    def adopt_map_size(self) -> None:
        """Take over the map size of a process that was configured with a greater one."""
        with self.write_lock, self.read_lock:
            if self.handle is not None:
                self.handle.set_mapsize(0)

    def replace(self) -> None:
        """Put an empty file in the place of one that cannot be used any more."""
        broken = self._identity
        self.close(flush=False)
        self.directory.prepare()
        with self.directory.guard():
            if self.directory.identity() == broken:  # nobody else was faster
                self.directory.wipe()

    def close(self, *, flush: bool) -> None:
        """Close the handle; with ``flush`` leave the data so that it outlives the system."""
        with self.write_lock:
            handle = self.handle
            if handle is None:
                return
            if flush:
                with suppress(CoordinatorError, OSError), self.directory.guard():
                    self.directory.disclaim(lambda: handle.sync(True))  # noqa: FBT003 - its name is new
            self._drop()

    # -- forks

    def before_fork(self) -> None:
        """Close the handle and keep everybody from opening it; see :meth:`after_fork`."""
        locks = (self.write_lock, self.read_lock)
        self._held_over_fork = [lock for lock in locks if lock.acquire(timeout=_FORK_TIMEOUT_S)]
        if len(self._held_over_fork) == len(locks):
            self._drop(has_lock=True)
        # Otherwise another process has kept our writer waiting for a second. The handle stays
        # open, and the child, where it is useless, will refuse to work.

    def after_fork(self) -> None:
        """Go on in the parent."""
        for lock in self._held_over_fork:
            lock.release()
        self._held_over_fork = []

    def after_fork_in_child(self) -> None:
        """Start again in the child, with nothing open."""
        self.read_lock, self.write_lock = threading.Lock(), threading.Lock()
        if self.handle is None:
            self.pid = os.getpid()

    def _drop(self, *, has_lock: bool = False) -> None:
        with nullcontext() if has_lock else self.read_lock:
            handle, self.handle = self.handle, None
            if handle is not None:
                handle.close()
        self.directory.disclaim()

    def _open_file(self) -> Any:
        try:
            handle = self._open_once()
        except (self.driver.InvalidError, self.driver.VersionMismatchError):
            self.directory.wipe()  # not an LMDB file, or not one of ours
            handle = self._open_once()
        self._identity = self.directory.identity()
        return handle

    def _open_once(self) -> Any:
        return self.driver.open(
            os.fspath(self.directory.data_path),
            map_size=self.map_bytes,
            max_dbs=len(DATABASES),
            max_readers=_MAX_READERS,
            # Kept, a reader's slot costs no lock to take. Somebody who was stopped in the midst of
            # taking one would stop the loops of all processes.
            max_spare_txns=1,
            mode=0o700,
            sync=False,
            readahead=False,
        )

    def _open_tables(self, handle: Any) -> None:
        # The driver keeps no table that was opened in a read transaction, so this may have to wait
        # for somebody else's write. It does so without the guard: others may open meanwhile.
        try:
            with handle.begin(write=True) as txn:
                tables = {name: handle.open_db(name.encode(), txn=txn) for name in DATABASES}
                self._prepare(txn, tables)
            handle.reader_check()
            self.page_bytes = int(handle.stat()["psize"])
        except BaseException:
            handle.close()
            self.directory.disclaim()
            raise
        with self.read_lock:
            self.handle, self.tables = handle, tables
            self.is_broken = False
            self.generation += 1
