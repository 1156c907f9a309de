"""Whatever somebody plants in the server is a miss: counted, never code run, never an error."""

import pickle

import pytest

from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.core.keys import Layer, result_key
from routecache_middleware.core.models import START
from tests.coordinators.redis.support import KEY, entry, eventually, opened, row
from tests.support.valkey import ValkeyServer

NAME = Keys().entry(KEY)
OTHER = result_key("f" * 32, "m")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"garbage",
        pickle.dumps({"a": 1}),
        b"\x80\x05cposix\nabort\n)R.",
        b"rc\x01",
        b"rc\x01" + bytes(8) + b"\x93\x01\x02\x03",
        b"rc\x02" + bytes(100),
        b"\x00" * 2_000_000,
    ],
    ids=lambda value: repr(value[:12]),
)
async def test_a_hostile_value_is_a_counted_miss(
    valkey: ValkeyServer, valkey_url: str, value: bytes
) -> None:
    async with opened(valkey_url) as coordinator:
        valkey.command("SET", NAME, value)
        assert (await coordinator.fetch((KEY,), START)).entries == [None]
        assert coordinator.stats().corrupt_entries == 1
        assert (await coordinator.fetch((KEY, OTHER), START)).entries == [None, None]
        assert coordinator.stats().corrupt_entries == 2
        assert not await coordinator.sample(Layer.RESULT, 5)
        assert await coordinator.store(KEY, entry())
        assert (await coordinator.fetch((KEY,), START)).entries[0] is not None


@pytest.mark.parametrize("command", [("LPUSH", "x"), ("SADD", "x"), ("HSET", "f", "x")])
async def test_another_type_is_a_counted_miss(
    valkey: ValkeyServer, valkey_url: str, command: tuple[str, ...]
) -> None:
    async with opened(valkey_url) as coordinator:
        name, *args = command
        valkey.command(name, NAME, *args)
        assert (await coordinator.fetch((KEY,), START)).entries == [None]
        assert coordinator.stats().corrupt_entries == 1
        assert (await coordinator.fetch((KEY, OTHER), START)).entries == [None, None]
        assert await coordinator.acquire(KEY, token="a", ttl_s=1.0) is not None
        assert await coordinator.store(KEY, entry(), token="a")
        assert (await coordinator.fetch((KEY,), START)).entries[0] is not None


async def test_a_truncated_or_swapped_value_is_a_counted_miss(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    """The checksum knows the key, so one caller's answer never becomes another's."""
    async with opened(valkey_url) as coordinator:
        await coordinator.store(KEY, entry(b"secret of one tenant"))
        value = valkey.command("GET", NAME)
        assert isinstance(value, bytes)
        valkey.command("SET", Keys().entry(OTHER), value)
        assert (await coordinator.fetch((OTHER,), START)).entries == [None]
        for cut in range(0, len(value), 7):
            valkey.command("SET", NAME, value[:cut])
            assert (await coordinator.fetch((KEY,), START)).entries == [None]
        assert coordinator.stats().corrupt_entries == 1 + len(range(0, len(value), 7))


async def test_corrupt_entries_stay_counted_after_closing(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    async with opened(valkey_url) as coordinator:
        valkey.command("SET", NAME, "x")
        await coordinator.fetch((KEY,), START)
        await coordinator.aclose()
        assert coordinator.stats().corrupt_entries == 1
        await coordinator.open()
        await coordinator.fetch((KEY,), START)
        assert coordinator.stats().corrupt_entries == 2


async def test_garbage_in_an_inbox_wakes_nobody_and_stops_nothing(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    async with opened(valkey_url) as coordinator:
        session = coordinator._session()
        inbox = session.keys.inbox(session._inbox)
        valkey.command("XADD", inbox, "*", "k", b"\xff", "e", "f")
        valkey.command("XADD", inbox, "*", "x", "y")
        valkey.command("XADD", inbox, "*", "k", KEY, "e", "?")
        task = session.reader._task
        assert task is not None
        before = (await coordinator.fetch((), START)).position
        await coordinator.append((row(),))
        await eventually(lambda: session.reader.mirror.position > before)
        assert not task.done()
        assert coordinator.proof_age_s < 1.0
