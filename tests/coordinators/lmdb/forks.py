"""Processes that fork while the file is open.

``python -m tests.coordinators.lmdb.forks CASE PATH`` prints what the case found, as JSON. Cases run
in a process of their own, as forking the test's process, with all its threads, would prove nothing
and might hang it.
"""

import asyncio
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from routecache_middleware.coordinators.lmdb.coordinator import LmdbCoordinator
from routecache_middleware.core.keys import result_key
from routecache_middleware.core.models import START
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.testing.contract import KEY, row
from tests.coordinators.lmdb.support import entry_of, flush, make

CLOCK = SystemClock()
OTHER = result_key("other", "m")


async def body(lmdb: LmdbCoordinator, key: str = KEY) -> str | None:
    entry = (await lmdb.fetch((key,), START)).entries[0]  # type: ignore[arg-type]
    return None if entry is None else entry.body.decode()


async def put(lmdb: LmdbCoordinator, key: str, text: str) -> None:
    await lmdb.store(key, entry_of(CLOCK, text.encode()))  # type: ignore[arg-type]
    await flush(lmdb)


def in_child(work: Callable[[], Awaitable[object]]) -> object:
    """Fork, run ``work`` in the child, and return what it found there."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            found: object = asyncio.run(work())  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001 - the parent is told
            found = repr(error)
        os.write(write_fd, json.dumps(found).encode())
        os._exit(0)
    os.close(write_fd)
    os.waitpid(pid, 0)
    with os.fdopen(read_fd) as file:
        return json.loads(file.read())


def opened(path: Path) -> LmdbCoordinator:
    """Return a coordinator that has been used, as by an application that is preloaded."""
    lmdb = make(path, CLOCK)

    async def use() -> None:
        await lmdb.open()
        await put(lmdb, KEY, "parent")
        assert await body(lmdb) == "parent"

    asyncio.run(use())
    return lmdb


def fork_while_open(path: Path) -> object:
    """Parent and child both go on with what was open when they were one."""
    lmdb = opened(path)

    async def child() -> object:
        before = lmdb.fetch_now((KEY,), START)  # nothing is open here yet, and nothing inherited
        found = await body(lmdb)
        await put(lmdb, OTHER, "child")
        await lmdb.append((row("m"),))
        leads = await lmdb.acquire(KEY, token="c", ttl_s=30.0, seen=None)
        await lmdb.aclose()
        return [before is None, found, type(leads).__name__]

    found = in_child(child)

    async def parent() -> object:
        rows = [one.row.scope for one in (await lmdb.fetch((), START)).rows]
        await put(lmdb, KEY, "again")
        result = [await body(lmdb), await body(lmdb, OTHER), rows]
        await lmdb.aclose()
        return result

    return [found, asyncio.run(parent())]


def fork_with_pending(path: Path) -> object:
    """What the parent has not written yet is the parent's, and it does write it."""
    lmdb = opened(path)

    async def main() -> object:
        await lmdb.store(OTHER, entry_of(CLOCK, b"pending"))
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(None, in_child, child)
        await flush(lmdb)
        result = [found, await body(lmdb, OTHER)]
        await lmdb.aclose()
        return result

    async def child() -> object:
        assert lmdb._shared is not None
        pending = len(lmdb._shared.writer.pending)
        await put(lmdb, KEY, "child")
        await lmdb.aclose()
        return pending

    return asyncio.run(main())


def fork_under_load(path: Path) -> object:
    """Children are born at all moments of a busy parent's transactions, and all of them work."""
    lmdb = opened(path)
    is_over = threading.Event()

    async def busy() -> None:
        number = 0
        while not is_over.is_set():
            await put(lmdb, result_key(f"{number % 50}", "m"), "x" * 3_000)
            await lmdb.fetch((KEY,), START)
            number += 1

    async def child() -> object:
        found = await body(lmdb)
        await put(lmdb, OTHER, "child")
        return found

    thread = threading.Thread(target=asyncio.run, args=(busy(),))
    thread.start()
    found = []
    for _ in range(30):
        time.sleep(0.003)
        found.append(in_child(child))
    is_over.set()
    thread.join()
    asyncio.run(lmdb.aclose())
    return sorted({str(one) for one in found})


def fork_while_stuck(path: Path) -> object:
    """A writer that waits for another process cannot be stopped: the child has to do without."""
    lmdb = opened(path)
    assert lmdb._shared is not None
    environment = lmdb._shared.environment
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with environment.write():
            held.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    async def child() -> object:
        try:
            return await body(lmdb)
        except Exception as error:  # noqa: BLE001 - its type is what is looked at
            return type(error).__name__

    begun_s = time.monotonic()
    found = in_child(child)
    took_s = time.monotonic() - begun_s
    over.set()
    thread.join()
    result = [found, took_s < 10, asyncio.run(body(lmdb))]
    asyncio.run(lmdb.aclose())
    return result


def multiprocessing_fork(path: Path) -> object:
    """As gunicorn's and other people's pools do it: the parent only waits."""
    lmdb = opened(path)
    context = multiprocessing.get_context("fork")
    with context.Pool(3, initializer=_keep, initargs=(lmdb,)) as pool:
        found = pool.map(_pool_work, range(6), chunksize=1)
    asyncio.run(lmdb.aclose())
    return sorted({str(one) for one in found})


_kept: list[LmdbCoordinator] = []


def _keep(lmdb: LmdbCoordinator) -> None:
    _kept.append(lmdb)


def _pool_work(number: int) -> str | None:
    async def work() -> str | None:
        await put(_kept[0], result_key(f"{number}", "m"), "x")
        return await body(_kept[0])

    return asyncio.run(work())


CASES = {
    case.__name__: case
    for case in (
        fork_while_open,
        fork_with_pending,
        fork_under_load,
        fork_while_stuck,
        multiprocessing_fork,
    )
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(CASES[sys.argv[1]](Path(sys.argv[2]))))
