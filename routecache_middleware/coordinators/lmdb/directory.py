"""The directory of an LMDB file: who may use it, who does, and whether its data can be trusted.

    <path>/guard              locked while the file is opened, closed, wiped or replaced
    <path>/<version>/users    locked, shared, by every process that has the file open
    <path>/<version>/state    boot id of the system that last wrote, and whether it closed cleanly
    <path>/<version>/data.mdb, lock.mdb

Commits are not flushed to the disk. That is safe when a process dies, as its pages are the system's
already, and not when the system does. So data written under another boot id is trusted only if the
last process flushed and closed it.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from routecache_middleware.coordinators.lmdb.layout import VERSION_NAME
from routecache_middleware.errors import ConfigurationError, CoordinatorError

__all__ = ["Directory"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CLEAN = "closed"
_DIRTY = "in use"
_GUARD_TIMEOUT_S = 5.0
_GUARD_POLL_S = 0.005
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Directory:
    """One directory. Its methods block, so they are called in the writer's thread."""

    def __init__(self, path: Path, *, boot_id: Callable[[], str] | None = None) -> None:
        """Name the directory; nothing is opened or made.

        Args:
            path: What the URL names.
            boot_id: Where the boot id comes from; None: the system.
        """
        self.path = path
        self.data_path = path / VERSION_NAME
        self._boot_id = boot_id or _system_boot_id
        self._users_fd: int | None = None

    def prepare(self) -> None:
        """Make what is missing, for the owner alone, and check what is there.

        Raises:
            ConfigurationError: It cannot be made or written, or others could change it.
        """
        for path in (self.path, self.data_path):
            try:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
                found = path.stat()
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else type(error).__name__
                raise self._wrong(
                    f"cannot be made ({reason})", "a directory that this user can write to"
                ) from error
            self._check(path, found)

    def identity(self) -> tuple[int, int] | None:
        """Return device and inode of the file that is there now; None when there is none."""
        try:
            found = os.stat(self.data_path / "data.mdb")  # noqa: PTH116 - Path.stat takes twice as long
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Be the only process that opens, closes or wipes the file.

        Raises:
            CoordinatorError: Another process has been at it for five seconds.
        """
        fd = self._open(self.path / "guard")
        try:
            self._lock(fd)
            yield
        finally:
            os.close(fd)

    def claim(self) -> None:
        """Become a user of the file, and wipe it first if it cannot be trusted. Needs the guard."""
        fd = self._open(self.data_path / "users")
        try:
            with suppress(BlockingIOError):  # somebody uses it, and has seen to all of this
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._begin_use()
            fcntl.flock(fd, fcntl.LOCK_SH)
        except BaseException:
            os.close(fd)
            raise
        self._users_fd = fd

    def disclaim(self, flush: Callable[[], None] | None = None) -> None:
        """Be a user no more; the last one calls ``flush`` and notes that the data is complete.

        Needs the guard when ``flush`` is given.
        """
        fd, self._users_fd = self._users_fd, None
        if fd is None:
            return
        try:
            if flush is not None:
                with suppress(BlockingIOError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    flush()
                    self._write_state(_CLEAN)
        finally:
            os.close(fd)

    def wipe(self) -> None:
        """Remove the file. Needs the guard. Whoever has it open finds another one in its place."""
        for name in ("data.mdb", "lock.mdb"):
            (self.data_path / name).unlink(missing_ok=True)

    def _begin_use(self) -> None:
        try:
            boot_id, _, state = (self.data_path / "state").read_text().partition("\n")
        except (OSError, ValueError):
            boot_id, state = "", ""
        if boot_id != self._boot_id() and state != _CLEAN:
            self.wipe()
        self._write_state(_DIRTY)

    def _write_state(self, state: str) -> None:
        # On the disk before any data is: else a crash could leave old words beside new data.
        draft = self.data_path / "state.new"
        with open(draft, "w", opener=_open_private) as file:
            file.write(f"{self._boot_id()}\n{state}")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.data_path / "state")
        directory = os.open(self.data_path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _check(self, path: Path, found: os.stat_result) -> None:
        if not stat.S_ISDIR(found.st_mode):
            raise self._wrong("is not a directory", "a directory")
        if found.st_uid != os.geteuid():
            raise self._wrong(
                f"belongs to user {found.st_uid}", f"a directory of this user, {os.geteuid()}"
            )
        if found.st_mode & _OTHERS_MAY_WRITE:
            raise self._wrong(
                f"can be written by others (mode {stat.S_IMODE(found.st_mode):o})",
                f"a directory of its owner alone: chmod 700 {path}",
            )
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise self._wrong("cannot be written", "a directory that this user can write to")

    def _open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _lock(self, fd: int) -> None:
        # flock knows no timeout, and a process that was stopped while it held the lock never ends.
        give_up_s = time.monotonic() + _GUARD_TIMEOUT_S
        while True:
            try:
                return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in {errno.EAGAIN, errno.EACCES}:
                    raise
                if time.monotonic() > give_up_s:
                    raise CoordinatorError(
                        "another process has been opening the LMDB file for five seconds"
                    ) from error
                time.sleep(_GUARD_POLL_S)

    def _wrong(self, problem: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(
            f"the path of lmdb:// is {str(self.path)!r}, which {problem}; it has to be {remedy}"
        )


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _system_boot_id() -> str:
    """Return what differs after every start of the system; the same text where there is no such."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return "unknown"
