"""Another process with the same file: ``python -m tests.coordinators.lmdb.peer PATH OPTIONS``.

Reads one JSON command a line from stdin and answers each with one line; see :class:`Peer`.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from routecache_middleware.coordinators.lmdb.coordinator import LmdbCoordinator
from routecache_middleware.core.invalidation import InvalidationRow, model_scope
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import START
from routecache_middleware.core.ports import Follower, Found, Leader
from routecache_middleware.engine.clock import SystemClock
from tests.coordinators.lmdb.support import entry_of, flush, make

CLOCK = SystemClock()


def tell(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def store(lmdb: LmdbCoordinator, key: str, body: str, token: str | None = None) -> bool:
    stored = await lmdb.store(CacheKey(key), entry_of(CLOCK, body.encode()), token=token)
    await flush(lmdb)
    return stored


async def fetch(lmdb: LmdbCoordinator, key: str) -> str | None:
    entry = (await lmdb.fetch((CacheKey(key),), START)).entries[0]
    return None if entry is None else entry.body.decode()


async def rows(lmdb: LmdbCoordinator) -> list[str]:
    return [logged.row.scope for logged in (await lmdb.fetch((), START)).rows]


async def append(lmdb: LmdbCoordinator, *models: str) -> int:
    receipt = await lmdb.append([InvalidationRow(model_scope(model)) for model in models])
    return receipt.position


async def acquire(lmdb: LmdbCoordinator, key: str, token: str, ttl_s: float = 30.0) -> str:
    match await lmdb.acquire(CacheKey(key), token=token, ttl_s=ttl_s):
        case Leader():
            return "leader"
        case Follower():
            return "follower"
        case Found(entry):
            return f"found {entry.body.decode()}"
        case _:
            return "parallel"


async def release(lmdb: LmdbCoordinator, key: str, token: str) -> None:
    await lmdb.release(CacheKey(key), token=token)


async def hold_write(lmdb: LmdbCoordinator, seconds: float) -> None:
    """Hold LMDB's mutex; the answer comes as soon as it is held, and the next one after."""
    assert lmdb._shared is not None
    with lmdb._shared.environment.write():
        tell("held")
        time.sleep(seconds)  # noqa: ASYNC251 - this process has nothing else to do


async def hold_read(lmdb: LmdbCoordinator) -> None:
    """Begin a read transaction and never end it."""
    assert lmdb._shared is not None
    held.append(lmdb._shared.environment.handle.begin())


async def write_on(lmdb: LmdbCoordinator, prefix: str, size: int) -> None:
    """Write entries until killed, each with a body that its key can be told from."""
    tell("writing")
    number = 0
    while True:
        key = CacheKey(f"result:{prefix}{number % 500}:m")
        await lmdb.store(key, entry_of(CLOCK, (key * (size // len(key) + 1)).encode()))
        await lmdb.acquire(key, token=f"{number}", ttl_s=0.01)
        number += 1
        if number % 20 == 0:
            await append(lmdb, f"{number % 3}")


held: list[Any] = []
COMMANDS: dict[str, Callable[..., Awaitable[object]]] = {
    function.__name__: function
    for function in (store, fetch, rows, append, acquire, release, hold_write, hold_read, write_on)
}


async def main(path: str, options: dict[str, Any]) -> None:
    lmdb = make(Path(path), CLOCK, **options)
    await lmdb.open()
    tell("ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, *arguments = json.loads(line)
        tell(await COMMANDS[name](lmdb, *arguments))
    await lmdb.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
