"""What several tests of the LMDB coordinator use."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from routecache_middleware.coordinators.lmdb.coordinator import LmdbCoordinator
from routecache_middleware.coordinators.lmdb.factory import create
from routecache_middleware.coordinators.lmdb.layout import VERSION_NAME
from routecache_middleware.coordinators.url import CoordinatorUrl
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import START, Entry
from routecache_middleware.core.ports import Clock
from routecache_middleware.core.settings import Settings

__all__ = ["MIB", "ROOT", "Peer", "data_directory", "entry_of", "flush", "make", "read", "until"]

MIB = 1024 * 1024
ROOT = Path(__file__).parents[3]


def make(
    path: Path, clock: Clock, /, settings: Settings | None = None, **options: Any
) -> LmdbCoordinator:
    """Build a coordinator by its URL."""
    query = "&".join(f"{name}={value}" for name, value in options.items())
    url = CoordinatorUrl.parse(f"lmdb://{path}?{query}" if query else f"lmdb://{path}")
    return create(url, settings or Settings(), clock)


def entry_of(
    clock: Clock, body: bytes = b"", layer: Layer = Layer.RESULT, lifetime_s: float = 60.0
) -> Entry:
    return Entry(layer=layer, body=body, created_s=clock.now_s(), freshness_lifetime_s=lifetime_s)


async def until(is_so: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait until something is so."""
    for _ in range(int(within_s / 0.005)):
        if is_so():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen in time")


def data_directory(path: Path) -> Path:
    """Return where the files of the present version are."""
    return path / VERSION_NAME


async def read(coordinator: LmdbCoordinator, key: CacheKey) -> Entry | None:
    return (await coordinator.fetch((key,), START)).entries[0]


async def flush(coordinator: LmdbCoordinator) -> None:
    """Wait until nothing is pending any more, so that what is read comes from the file."""
    await coordinator.sample(Layer.LOAD, 0)


class Peer:
    """Another process with the same file; see :mod:`tests.coordinators.lmdb.peer`."""

    def __init__(self, path: Path, **options: object) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.coordinators.lmdb.peer"),
                *(str(path), json.dumps(options)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        self.pid = self._process.pid

    async def answer(self) -> Any:
        """Return the next line."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(self._process.stdout.readline), 30)
        assert line, "the peer has died"
        return json.loads(line)

    async def do(self, *command: object) -> Any:
        """Send a command and return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return await self.answer()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self.end()

    def end(self) -> None:
        """Let it close its file and end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
