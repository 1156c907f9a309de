"""Stored times are the server's, whatever the clocks of the processes say."""

import time

import pytest
from msgspec.structs import replace

from routecache_middleware.coordinators.redis.server_time import ServerTime
from routecache_middleware.core.invalidation import InvalidationRow, tag_scope
from routecache_middleware.core.models import START
from routecache_middleware.testing import FakeClock
from tests.coordinators.redis.support import KEY, entry, opened


class SkewedClock:
    """The machine's clock, wrong by some seconds."""

    def __init__(self, skew_s: float) -> None:
        self.skew_s = skew_s

    def now_s(self) -> float:
        return time.time() + self.skew_s

    def monotonic_s(self) -> float:
        return time.monotonic()


class FakeServer:
    """Answers TIME."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    async def call(self, *command: str) -> list[bytes]:
        assert command == ("TIME",)
        seconds = int(self.now_s)
        return [b"%d" % seconds, b"%d" % ((self.now_s - seconds) * 1e6)]


@pytest.mark.parametrize(
    ("ahead_s", "offset_s"), [(0.0, 0.0), (0.2, 0.0), (-0.2, 0.0), (5.0, 5.0), (-3600.5, -3600.5)]
)
async def test_small_differences_are_let_be(ahead_s: float, offset_s: float) -> None:
    """Between processes of one machine times go through unchanged."""
    clock = FakeClock()
    server_time = ServerTime(clock)
    await server_time.measure(FakeServer(clock.now_s() + ahead_s))  # type: ignore[arg-type]
    assert server_time.offset_s == offset_s


async def test_the_offset_is_kept_until_it_is_off_by_much() -> None:
    clock = FakeClock()
    server_time = ServerTime(clock)
    server = FakeServer(clock.now_s() + 10.0)
    await server_time.measure(server)  # type: ignore[arg-type]
    server.now_s += 0.2
    await server_time.measure(server)  # type: ignore[arg-type]
    assert server_time.offset_s == 10.0
    server.now_s += 0.2
    await server_time.measure(server)  # type: ignore[arg-type]
    assert abs(server_time.offset_s - 10.4) <= 1 / 64
    assert (server_time.offset_s * 64).is_integer()


async def test_processes_with_different_clocks_see_the_same_age(valkey_url: str) -> None:
    early, late = SkewedClock(-120.0), SkewedClock(+90.0)
    async with opened(valkey_url, clock=early) as one, opened(valkey_url, clock=late) as two:
        stored = entry()
        assert await one.store(KEY, replace(stored, created_s=early.now_s()))
        found = (await two.fetch((KEY,), START)).entries[0]
        assert found is not None
        assert abs(late.now_s() - found.created_s) < 2.0
        again = (await one.fetch((KEY,), START)).entries[0]
        assert again is not None
        assert abs(again.created_s - early.now_s()) < 2.0
        await one.append((InvalidationRow(tag_scope("t"), older_than_s=early.now_s()),))
        rule = (await two._session().log.tail(START)).rows[-1].row
        assert rule.older_than_s is not None
        assert abs(rule.older_than_s - late.now_s()) < 2.0


async def test_times_round_trip_exactly_under_an_offset(valkey_url: str) -> None:
    async with opened(valkey_url, clock=SkewedClock(77.7)) as coordinator:
        for _ in range(50):
            stored = replace(entry(), created_s=time.time() + 77.7)
            assert await coordinator.store(KEY, stored)
            assert (await coordinator.fetch((KEY,), START)).entries[0] == stored


async def test_an_entry_never_outlives_a_day(valkey_url: str) -> None:
    """The log keeps a row for longer than that, so that none outlives what voids it."""
    async with opened(valkey_url) as coordinator:
        assert await coordinator.store(KEY, entry(ttl_s=30 * 86_400.0))
        left_ms = await coordinator._session().links.entries.call(
            "PTTL", coordinator._session().keys.entry(KEY)
        )
        assert 86_000_000 < left_ms <= 86_400_000
        assert not await coordinator.store(KEY, entry(ttl_s=float("inf")))
