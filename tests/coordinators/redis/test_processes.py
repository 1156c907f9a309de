"""Several processes: forked ones, paused ones, and how soon they follow an invalidation."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack

import pytest

from routecache_middleware.core.invalidation import model_scope
from routecache_middleware.core.models import START
from routecache_middleware.core.ports import Invalidated
from tests.coordinators.redis.support import KEY, opened, row
from tests.coordinators.redis.test_rewind import Process

FORK = """
import asyncio, os, sys
from tests.coordinators.redis.support import KEY, build, entry
from routecache_middleware.core.models import START

coordinator = build(sys.argv[1])

async def use(is_writer):
    await coordinator.open()
    if is_writer:
        assert await coordinator.store(KEY, entry(b"of the parent"))
    found = (await coordinator.fetch((KEY,), START)).entries[0]
    assert found is not None and found.body == b"of the parent"
    return coordinator

async def parent():
    await use(True)
    child = os.fork()
    if child == 0:
        os._exit(7)  # the running loop is the parent's: nothing of it may be used
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    await use(False)
    return asyncio.get_running_loop()

async def close():
    await coordinator.aclose()

loop = asyncio.new_event_loop()
loop.run_until_complete(parent())
child = os.fork()
if child == 0:
    async def in_child():
        await use(False)
        await coordinator.aclose()
    asyncio.run(in_child())
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
loop.run_until_complete(use(False))
loop.run_until_complete(close())
loop.close()
sys.exit(code)
"""


async def test_a_forked_child_makes_its_own_connections_and_disturbs_none(valkey_url: str) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", FORK, valkey_url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def test_a_process_that_was_stopped_serves_nothing_invalidated_meanwhile(
    valkey_url: str,
) -> None:
    """Its proof dates from when it was sent, so it is old the moment the process goes on."""
    async with AsyncExitStack() as stack:
        stopped, other = [
            Process(await stack.enter_async_context(opened(valkey_url))) for _ in range(2)
        ]
        await stopped.store()
        assert await stopped.serves()
        other.learn(await other.coordinator.fetch((), START))
        log = other.coordinator._session().log
        append = asyncio.create_task(log.append((row("m"),)))
        await append
        stopped.coordinator._session().reader.mirror.reset(
            stopped.coordinator._session().reader.mirror.tail(START).rows[:1]
        )  # as if the row had not arrived
        time.sleep(1.1)  # noqa: ASYNC251 - this is the stop: nothing in this process runs
        assert not await stopped.serves()


async def test_other_processes_follow_within_milliseconds(valkey_url: str) -> None:
    """Healthy: 5 ms at p99 is promised; a busy test machine gets more."""
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(opened(valkey_url)) for _ in range(2)]
        events = two.events()
        delays_s: list[float] = []
        for number in range(60):
            heard: asyncio.Task[object] = asyncio.create_task(anext(events))  # type: ignore[arg-type]
            await asyncio.sleep(0.002)
            await one.append((row(f"m{number}"),))
            acknowledged_s = time.monotonic()
            event = await heard
            delays_s.append(time.monotonic() - acknowledged_s)
            assert isinstance(event, Invalidated)
            assert event.rows[-1].row.scope == model_scope(f"m{number}")
        assert sorted(delays_s)[30] < 0.05
        await events.aclose()  # type: ignore[attr-defined]


LOOPER = """
import asyncio, sys
from tests.coordinators.redis.support import KEY, build
from tests.coordinators.redis.test_rewind import Process

async def main():
    coordinator = build(sys.argv[1])
    await coordinator.open()
    process = Process(coordinator)
    await process.store()
    assert await process.serves()
    print("ready", flush=True)
    for line in sys.stdin:
        print(await process.serves(), flush=True)
    await coordinator.aclose()

asyncio.run(main())
"""


async def test_a_sigstopped_process_is_cold_when_it_goes_on(valkey_url: str) -> None:
    child = subprocess.Popen(  # noqa: ASYNC220 - spoken to line by line
        [sys.executable, "-c", LOOPER, valkey_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        try:
            assert await asyncio.to_thread(child.stdout.readline) == "ready\n"
            os.kill(child.pid, signal.SIGSTOP)
            async with opened(valkey_url) as coordinator:
                await coordinator.append((row("m"),))
            await asyncio.sleep(1.1)
            child.stdin.write("\n")
            child.stdin.flush()
            os.kill(child.pid, signal.SIGCONT)
            assert await asyncio.to_thread(child.stdout.readline) == "False\n"
            child.stdin.close()
            assert await asyncio.to_thread(child.wait, 10) == 0
        finally:
            child.kill()


@pytest.mark.parametrize("count", [4])
async def test_concurrent_lookups_over_few_connections(valkey_url: str, count: int) -> None:
    async with opened(f"{valkey_url}?max_connections={count}") as coordinator:
        await asyncio.gather(*(coordinator.fetch((KEY,), START) for _ in range(500)))
