"""Whatever somebody plants in the file is a miss: counted, never run, never an exception."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from routecache_middleware.coordinators.lmdb.coordinator import LmdbCoordinator
from routecache_middleware.coordinators.lmdb.layout import NUMBER, VERSION_NAME, slot_of
from routecache_middleware.core.keys import Layer, result_key
from routecache_middleware.core.models import START
from routecache_middleware.core.ports import Leader
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract import KEY, row
from tests.coordinators.lmdb.conftest import Opener
from tests.coordinators.lmdb.support import MIB, entry_of, flush, read

OTHER = result_key("other", "m")


class Bomb:
    """Unpickling it makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def plant(lmdb: LmdbCoordinator, table: str, key: bytes, value: bytes) -> None:
    assert lmdb._shared is not None
    environment = lmdb._shared.environment
    with environment.write() as txn:
        txn.put(key, value, db=environment.tables[table])


def stored(lmdb: LmdbCoordinator, slot: bytes) -> bytes:
    assert lmdb._shared is not None
    environment = lmdb._shared.environment
    with environment.read() as txn:
        value = txn.get(slot, db=environment.tables["entries"])
    assert isinstance(value, bytes)
    return value


async def test_damaged_values_are_misses_and_counted(
    lmdb: LmdbCoordinator, clock: FakeClock, tmp_path: Path
) -> None:
    await lmdb.store(KEY, entry_of(clock, bytes(3_000)))
    await lmdb.store(OTHER, entry_of(clock, b"other"))
    await flush(lmdb)
    good, other = stored(lmdb, slot_of(KEY)), stored(lmdb, slot_of(OTHER))
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    planted = [
        b"",
        b"\0",
        good[:1],
        good[: len(good) // 2],
        good[:-1],
        good + b"\0",
        bytes(flipped),
        other,
        b"x" * 5_000,
        pickle.dumps(Bomb(tmp_path / "boom")),
        b"rc\x01" + pickle.dumps(Bomb(tmp_path / "boom")),
    ]
    for number, value in enumerate(planted, 1):
        plant(lmdb, "entries", slot_of(KEY), value)
        assert await read(lmdb, KEY) is None
        assert lmdb.stats().corrupt_entries == number
        assert await lmdb.acquire(KEY, token=f"{number}", ttl_s=1.0) == Leader(f"{number}")
        await lmdb.release(KEY, token=f"{number}")
        lmdb._reader.corrupt_entries = number  # acquire looked at it as well
    assert not (tmp_path / "boom").exists()
    await lmdb.store(KEY, entry_of(clock, b"good again"))
    await flush(lmdb)
    assert await read(lmdb, KEY) is not None


async def test_samples_leave_damaged_entries_out(lmdb: LmdbCoordinator, clock: FakeClock) -> None:
    await lmdb.store(KEY, entry_of(clock, b"x"))
    await lmdb.store(OTHER, entry_of(clock, b"other"))
    await flush(lmdb)
    plant(lmdb, "entries", slot_of(KEY), b"garbage")
    assert [key for key, _ in await lmdb.sample(Layer.RESULT, 10)] == [OTHER]
    plant(lmdb, "index", slot_of(OTHER), b"garbage")
    assert await lmdb.sample(Layer.RESULT, 10) == []


async def test_a_damaged_row_of_the_log_covers_everything(lmdb: LmdbCoordinator) -> None:
    """Colder, never staler: what it covered is not known any more."""
    position = (await lmdb.append((row("m"),))).position
    for garbage in (b"", b"\xff", b"\x93\xc4\x01\xff\xc0\xc0", pickle.dumps("x")):
        plant(lmdb, "log", NUMBER.pack(position), garbage)
        rows = (await lmdb.fetch((), START)).rows
        assert [one.row.scope for one in rows] == ["all", "all"]


async def test_a_damaged_lease_is_free(lmdb: LmdbCoordinator) -> None:
    await lmdb.acquire(KEY, token="a", ttl_s=30.0)
    plant(lmdb, "leases", slot_of(KEY, ""), b"garbage")
    assert await lmdb.acquire(KEY, token="b", ttl_s=30.0) == Leader("b")


async def test_damaged_news_and_processes_are_passed_over(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    plant(lmdb, "processes", b"garbage", b"garbage")
    plant(lmdb, "processes", b"host:-1", b"\x92\x01\x01")
    plant(lmdb, "news", NUMBER.pack(1), b"?garbage")
    stats = await lmdb.cluster_stats()
    assert all("garbage" not in process.process for process in stats.processes)


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("usage", b"\x01", b"garbage"),
        ("usage", b"\x01", bytes(32)),
        ("index", slot_of(KEY), b"garbage"),
        ("index", slot_of(KEY), b"\xff" * 40),
    ],
)
async def test_damaged_bookkeeping_costs_the_entries_and_nothing_else(
    lmdb: LmdbCoordinator, clock: FakeClock, table: str, key: bytes, value: bytes
) -> None:
    await lmdb.store(KEY, entry_of(clock, b"x"))
    await flush(lmdb)
    position = (await lmdb.append((row("m"),))).position
    plant(lmdb, table, key, value)
    await lmdb.store(KEY, entry_of(clock, b"new"))
    await flush(lmdb)
    entry = await read(lmdb, KEY)
    assert entry is not None
    assert entry.body == b"new"
    assert lmdb.stats().layers[Layer.RESULT].entries == 1
    assert (await lmdb.fetch((), START)).position == position


async def test_orphans_in_the_indexes_do_not_stop_eviction(
    opener: Opener, clock: FakeClock
) -> None:
    lmdb = await opener(max_bytes=2 * MIB)
    plant(lmdb, "order", b"\x01" + bytes(8), slot_of(OTHER))
    plant(lmdb, "expiry", bytes(8) + slot_of(OTHER), b"")
    plant(lmdb, "expiry", b"\0", b"")
    for number in range(600):
        await lmdb.store(result_key(f"{number}", "m"), entry_of(clock, bytes(5_000)))
    await flush(lmdb)
    usage = lmdb.stats().layers[Layer.RESULT]
    assert usage.evictions == 600 - usage.entries > 0
    assert usage.bytes <= usage.limit_bytes


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"x" * 100_000, bytes(8_192)])
async def test_a_file_that_is_no_lmdb_file_is_replaced(
    opener: Opener, clock: FakeClock, path: Path, garbage: bytes
) -> None:
    lmdb = await opener()
    await lmdb.store(KEY, entry_of(clock, b"x"))
    await lmdb.aclose()
    (path / VERSION_NAME / "data.mdb").write_bytes(garbage)
    again = await opener()
    assert await read(again, KEY) is None
    await again.store(KEY, entry_of(clock, b"y"))
    await flush(again)
    assert await read(again, KEY) is not None


async def test_a_log_without_an_end_starts_anew(lmdb: LmdbCoordinator, clock: FakeClock) -> None:
    await lmdb.store(KEY, entry_of(clock, b"x"))
    before = (await lmdb.append((row("m"),))).position
    assert (await lmdb.fetch((), START)).position == before
    plant(lmdb, "meta", b"position", b"garbage")
    fetched = await lmdb.fetch((KEY,), before)
    assert (fetched.position > before, fetched.entries) == (True, [None])
    await lmdb.append((row("n"),))
    rows = (await lmdb.fetch((), START)).rows
    assert [one.row.scope for one in rows] == ["all", "model:n"]
