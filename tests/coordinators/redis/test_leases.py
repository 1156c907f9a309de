"""Leases over real processes' worth of coordinators: who is woken, and what garbage does."""

import asyncio
import time
from contextlib import AsyncExitStack
from statistics import median

import pytest
from msgspec.structs import replace

from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.core.choices import Compression
from routecache_middleware.core.ports import (
    CoordinatorEvent,
    Filled,
    Follower,
    Found,
    Leader,
    Released,
)
from tests.coordinators.redis.support import KEY, build, entry, opened
from tests.support.valkey import ValkeyServer

KEYS = Keys()


async def until(events: object, wanted: CoordinatorEvent) -> None:
    async with asyncio.timeout(5):
        async for event in events:  # type: ignore[attr-defined]
            if event == wanted:
                break


@pytest.mark.parametrize("how", ["filled", "released"])
async def test_who_waits_in_another_process_is_woken(valkey_url: str, how: str) -> None:
    """Through its inbox: sooner than a poll, and only who waits."""
    async with AsyncExitStack() as stack:
        leader, follower, idle = [
            await stack.enter_async_context(opened(valkey_url)) for _ in range(3)
        ]
        woken, idle_events = follower.events(), idle.events()
        bystander: asyncio.Task[object] = asyncio.create_task(anext(idle_events))  # type: ignore[arg-type]
        taken_s = []
        for turn in range(10):
            token = f"t{turn}"
            await leader.acquire(KEY, token=token, ttl_s=5.0)
            waiting = asyncio.create_task(
                until(woken, Filled(KEY) if how == "filled" else Released(KEY))
            )
            assert isinstance(await follower.acquire(KEY, token="b", ttl_s=5.0), Follower)
            started_s = time.monotonic()
            if how == "filled":
                assert await leader.store(KEY, entry(), token=token)
            else:
                await leader.release(KEY, token=token)
            await waiting
            taken_s.append(time.monotonic() - started_s)
            await leader.release(KEY, token=token)
            await leader.delete(KEY)
            woken = follower.events()
        assert median(taken_s) < leader.poll_s / 2
        assert not bystander.done()
        bystander.cancel()
        await asyncio.wait((bystander,))


async def test_the_followers_of_a_released_lease_lead_one_by_one(valkey_url: str) -> None:
    async with AsyncExitStack() as stack:
        group = [await stack.enter_async_context(opened(valkey_url)) for _ in range(3)]
        assert await group[0].acquire(KEY, token="0", ttl_s=5.0) == Leader("0")
        await group[0].release(KEY, token="0")
        answers = [
            await one.acquire(KEY, token=str(number), ttl_s=5.0) for number, one in enumerate(group)
        ]
        assert sum(isinstance(answer, Leader) for answer in answers) == 1


async def test_what_was_seen_is_recognised_however_it_was_encoded(valkey_url: str) -> None:
    """By a process that compresses, say: it must not be found over and over."""
    pytest.importorskip("zstandard")
    body = b"the same again " * 500
    async with AsyncExitStack() as stack:
        packing = build(valkey_url, compression=Compression.ZSTD)
        await packing.open()
        stack.push_async_callback(packing.aclose)
        plain = build(valkey_url)
        await plain.open()
        stack.push_async_callback(plain.aclose)
        stored = entry(body)
        assert await plain.store(KEY, stored)
        assert await packing.acquire(KEY, token="a", ttl_s=5.0) == Found(stored)
        assert await packing.acquire(KEY, token="a", ttl_s=5.0, seen=stored) == Leader("a")
        newer = replace(stored, body=b"newer")
        assert await plain.store(KEY, newer)
        assert await packing.acquire(KEY, token="a", ttl_s=5.0, seen=stored) == Found(newer)


@pytest.mark.parametrize("garbage", [b"", b"x", b"rc\x01" + bytes(20), b"\x80\x04."])
async def test_a_garbage_entry_is_led_over(
    valkey: ValkeyServer, valkey_url: str, garbage: bytes
) -> None:
    async with opened(valkey_url) as coordinator:
        valkey.command("SET", KEYS.entry(KEY), garbage)
        assert await coordinator.acquire(KEY, token="a", ttl_s=5.0) == Leader("a")
        assert await coordinator.store(KEY, entry(), token="a")


@pytest.mark.parametrize(
    "plant",
    [("SET", "garbage"), ("SET", ""), ("SADD", "x"), ("LPUSH", "x"), ("SET", "1 2 immortal")],
)
async def test_a_garbage_lease_blocks_nobody(
    valkey: ValkeyServer, valkey_url: str, plant: tuple[str, str]
) -> None:
    async with opened(valkey_url) as coordinator:
        command, value = plant
        valkey.command(command, KEYS.lease(KEY, "json"), value)
        answer = await coordinator.acquire(KEY, token="a", ttl_s=5.0, form="json")
        assert answer == Leader("a")
        assert await coordinator.renew(KEY, token="a", ttl_s=5.0, form="json")


async def test_leases_of_odd_forms_and_tokens_are_apart(valkey_url: str) -> None:
    async with opened(valkey_url) as coordinator:
        for form in ("", "a b", "a:b", "{x}", "\ud800", "ü"):
            answer = await coordinator.acquire(KEY, token="a b c", ttl_s=5.0, form=form)
            assert answer == Leader("a b c")
            assert await coordinator.renew(KEY, token="a b c", ttl_s=5.0, form=form)
