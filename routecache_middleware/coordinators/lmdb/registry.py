"""Who shares what inside one process: one environment and one writer per path, over all forks.

LMDB must not open a file twice in one process, so coordinators with the same path share what is
here. The first of them decides on its size.
"""

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from routecache_middleware.coordinators.lmdb import log
from routecache_middleware.coordinators.lmdb.directory import Directory
from routecache_middleware.coordinators.lmdb.environment import Environment
from routecache_middleware.coordinators.lmdb.room import Room
from routecache_middleware.coordinators.lmdb.writer import Writer
from routecache_middleware.core.ports import Clock

__all__ = ["Shared", "join", "leave"]

_MAX_HOT = 65_536


class Shared:
    """What the coordinators of one path have in common in this process.

    Attributes:
        hot: Slots that were read since they were last considered for eviction.
        users: How many coordinators have it open.
        closed: Set when the file is closed for good.
    """

    def __init__(
        self, path: str, *, map_bytes: int, limits: Mapping[int, int], clock: Clock
    ) -> None:
        self.path = path
        self.hot: set[bytes] = set()
        self.users = 0
        self.closed = threading.Event()
        self.environment = Environment(
            Directory(Path(path)), map_bytes=map_bytes, prepare=self._prepare
        )
        self.room = Room(self.environment, limits, self._is_wanted)
        self.writer = Writer(self.environment, self.room, clock)
        self._clock = clock

    def _prepare(self, txn: Any, tables: Mapping[str, Any]) -> None:
        log.begin(txn, tables, self._clock.now_s(), self.writer.read_position)

    def _is_wanted(self, slot: bytes) -> bool:
        if len(self.hot) > _MAX_HOT:  # most of them left in other ways than by eviction
            self.hot.clear()
        if slot not in self.hot:
            return False
        self.hot.discard(slot)
        return True


class _Registry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: dict[str, Shared] = {}
        self.closing: dict[str, Shared] = {}
        self.has_hooks = False

    def all(self) -> list[Shared]:
        return [*self.open.values(), *self.closing.values()]


_registry = _Registry()


def join(path: Path, *, map_bytes: int, limits: Mapping[int, int], clock: Clock) -> Shared:
    """Return what is shared under ``path``; nothing is opened yet. Undone by :func:`leave`."""
    name = os.path.realpath(path)
    with _registry.lock:
        if not _registry.has_hooks:
            os.register_at_fork(
                before=_before_fork,
                after_in_parent=_after_fork,
                after_in_child=_after_fork_in_child,
            )
            _registry.has_hooks = True
        shared = _registry.open.get(name)
        if shared is None:
            shared = Shared(name, map_bytes=map_bytes, limits=limits, clock=clock)
            predecessor = _registry.closing.get(name)
            if predecessor is not None:
                shared.writer.wait_for(predecessor.closed)
            _registry.open[name] = shared
        shared.users += 1
        return shared


def leave(shared: Shared, then: Callable[[], None]) -> None:
    """Give it back. ``then`` is called, in any thread, when the last user's writer has closed."""
    with _registry.lock:
        shared.users -= 1
        is_last = not shared.users
        if is_last:
            _registry.closing[shared.path] = _registry.open.pop(shared.path)
    if not is_last:
        then()
        return

    def finish() -> None:
        with _registry.lock:
            if _registry.closing.get(shared.path) is shared:
                del _registry.closing[shared.path]
        shared.closed.set()
        then()

    shared.writer.stop(finish)


def _before_fork() -> None:
    _registry.lock.acquire()
    for shared in _registry.all():
        shared.environment.before_fork()


def _after_fork() -> None:
    for shared in _registry.all():
        shared.environment.after_fork()
    _registry.lock.release()


def _after_fork_in_child() -> None:
    _registry.lock = threading.Lock()
    _registry.closing.clear()
    for shared in _registry.all():
        shared.environment.after_fork_in_child()
        shared.writer.reset()
        shared.hot.clear()
