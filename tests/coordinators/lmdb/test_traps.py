"""What LMDB does to those who use it carelessly, each reproduced before this was written."""

import asyncio
import shutil
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import lmdb as driver
import pytest

from routecache_middleware.coordinators.lmdb.coordinator import LmdbCoordinator
from routecache_middleware.core.keys import Layer, model_key, result_key, route_key
from routecache_middleware.core.models import START
from routecache_middleware.core.ports import Leader
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract import KEY, row
from tests.coordinators.lmdb.conftest import Opener
from tests.coordinators.lmdb.support import MIB, ROOT, Peer, data_directory, entry_of, flush, read

StartPeer = Callable[..., Awaitable[Peer]]


def file_bytes(path: Path) -> int:
    """Bytes that the file occupies: it is sparse."""
    return (data_directory(path) / "data.mdb").stat().st_blocks * 512


def open_readers(lmdb: LmdbCoordinator) -> int:
    """Read transactions that are open in any process, by LMDB's own table."""
    assert lmdb._shared is not None
    lines = lmdb._shared.environment.handle.readers().splitlines()[1:]
    return sum(not line.endswith("-") for line in lines if line)


async def fill(
    lmdb: LmdbCoordinator, clock: FakeClock, sizes: list[int], *, prefix: str = "", burst: int = 40
) -> None:
    for number, size in enumerate(sizes):
        key = result_key(f"{prefix}{number}", "m")
        assert await lmdb.store(key, entry_of(clock, bytes([number % 256]) * size))
        if number % burst == burst - 1:
            await flush(lmdb)
    await flush(lmdb)


@pytest.mark.parametrize(("size", "map_mib"), [(200, 1), (2_100, 1), (5_000, 1), (60_000, 2)])
async def test_a_map_ten_times_smaller_than_the_traffic_never_turns_read_only(
    opener: Opener, clock: FakeClock, path: Path, size: int, map_mib: int
) -> None:
    """Traps 1, 2 and 4: only the file's own watermark evicts here, as the budget is far greater."""
    lmdb = await opener(map_bytes=map_mib * MIB)
    count = 10 * map_mib * MIB // (size + 200)
    await fill(lmdb, clock, [size] * count)
    for number in range(count - 10, count):
        entry = await read(lmdb, result_key(f"{number}", "m"))
        assert entry is not None
        assert entry.body == bytes([number % 256]) * size
    assert isinstance(await lmdb.acquire(route_key("h"), token="a", ttl_s=1.0), Leader)
    await lmdb.append((row("m"),))
    assert file_bytes(path) <= map_mib * MIB
    assert lmdb._shared is not None
    assert lmdb._shared.room.wipes == 0
    usage = lmdb.stats().layers[Layer.RESULT]
    assert usage.evictions == count - usage.entries > 0


async def test_values_of_all_sizes_in_a_small_map(
    opener: Opener, clock: FakeClock, path: Path
) -> None:
    """Trap 4: large values need pages that lie side by side."""
    lmdb = await opener(map_bytes=4 * MIB)
    sizes = [(number * 7_919) % 120_000 for number in range(700)]
    await fill(lmdb, clock, sizes)
    assert file_bytes(path) <= 4 * MIB
    entry = await read(lmdb, result_key("699", "m"))
    assert entry is not None
    assert len(entry.body) == sizes[699]


async def test_each_layer_keeps_to_its_share_of_the_budget(
    opener: Opener, clock: FakeClock
) -> None:
    lmdb = await opener(max_bytes=2 * MIB)
    others = [route_key("h"), model_key(Layer.METADATA, "m"), model_key(Layer.LOAD, "m")]
    for key, layer in zip(others, (Layer.ROUTING, Layer.METADATA, Layer.LOAD), strict=True):
        assert await lmdb.store(key, entry_of(clock, b"x", layer))
    for number in range(1_000):
        await lmdb.store(result_key(f"{number}", "m"), entry_of(clock, bytes(5_000)))
        if number % 97 == 0:
            await flush(lmdb)
            usage = lmdb.stats().layers[Layer.RESULT]
            assert usage.bytes <= usage.limit_bytes
    await flush(lmdb)
    usage = lmdb.stats().layers[Layer.RESULT]
    assert usage.bytes <= usage.limit_bytes
    assert usage.evictions == 1_000 - usage.entries > 0
    assert all((await lmdb.fetch(others, START)).entries)


async def test_what_is_read_again_and_again_outlives_what_is_not(
    opener: Opener, clock: FakeClock
) -> None:
    lmdb = await opener(max_bytes=2 * MIB)
    await lmdb.store(KEY, entry_of(clock, b"hot"))
    for number in range(1_000):
        await lmdb.store(result_key(f"{number}", "m"), entry_of(clock, bytes(5_000)))
        if number % 20 == 0:
            await flush(lmdb)
            assert await read(lmdb, KEY) is not None


async def test_a_write_too_large_for_its_layer_in_one_piece_is_split(
    opener: Opener, clock: FakeClock
) -> None:
    """Fifty entries at once may be more than a small layer holds."""
    lmdb = await opener(max_bytes=8 * MIB)
    keys = [model_key(Layer.LOAD, f"{number}") for number in range(50)]
    for key in keys:
        assert await lmdb.store(key, entry_of(clock, bytes(20_000), Layer.LOAD))
    await flush(lmdb)
    usage = lmdb.stats().layers[Layer.LOAD]
    assert 0 < usage.bytes <= usage.limit_bytes
    assert await read(lmdb, keys[-1]) is not None


async def test_a_file_that_a_reader_of_another_process_fills_up_is_replaced(
    start_peer: StartPeer, opener: Opener, path: Path, clock: FakeClock
) -> None:
    """Trap 3: an open read transaction keeps all pages of its time, and nothing frees them."""
    lmdb = await opener(map_bytes=2 * MIB)
    peer = await start_peer(map_bytes=2 * MIB)
    before = (await lmdb.append((row("m"),))).position
    await peer.do("hold_read")
    await fill(lmdb, clock, [5_000] * 1_000, burst=20)
    assert lmdb._shared is not None
    assert lmdb._shared.room.wipes > 0
    entry = await read(lmdb, result_key("999", "m"))
    assert entry is not None
    assert file_bytes(path) <= 2 * MIB
    # The log started anew: colder, never staler, in the other process as well.
    assert (await lmdb.fetch((), before)).rows[0].row.scope == "all"
    for _ in range(100):
        rows = await peer.do("rows")
        if rows == ["all"]:
            break
        await asyncio.sleep(0.05)
    assert rows == ["all"]


async def test_no_lookup_leaves_a_read_transaction_behind(opener: Opener, clock: FakeClock) -> None:
    """Trap 3 again: twenty thousand overwrites fit into a small map, if nobody holds old pages."""
    lmdb = await opener(map_bytes=4 * MIB)
    keys = [result_key(f"{number}", "m") for number in range(100)]
    for turn in range(60):
        for key in keys:
            await lmdb.store(key, entry_of(clock, bytes([turn]) * 1_000))
            lmdb.fetch_now((key,), START)
        lmdb.stats()
        await lmdb.cluster_stats()
        await flush(lmdb)
    assert lmdb._shared is not None
    assert open_readers(lmdb) == 0
    assert lmdb._shared.room.wipes == 0
    assert lmdb.stats().layers[Layer.RESULT].entries == 100


async def test_a_killed_reader_is_cleared_away(
    opener: Opener, clock: FakeClock, start_peer: StartPeer
) -> None:
    """Trap 8: its slot in the reader table stays, and acts as trap 3."""
    lmdb = await opener(map_bytes=2 * MIB)
    peer = await start_peer(map_bytes=2 * MIB)
    await peer.do("hold_read")
    peer.kill()
    for turn in range(60):
        await fill(lmdb, clock, [5_000] * 30, prefix=f"{turn % 2}-")
    entry = await read(lmdb, result_key("1-29", "m"))
    assert entry is not None
    assert open_readers(lmdb) == 0


async def test_a_writer_killed_in_the_midst_of_a_transaction_leaves_no_trace(
    real: LmdbCoordinator, start_peer: StartPeer, system_clock: SystemClock
) -> None:
    """Trap 7: LMDB's mutex is robust."""
    peer = await start_peer()
    await real.store(KEY, entry_of(system_clock, b"kept"))
    await flush(real)
    assert await peer.do("hold_write", 30.0) == "held"
    peer.kill()
    assert await real.store(KEY, entry_of(system_clock, b"new"))
    await flush(real)
    entry = await read(real, KEY)
    assert entry is not None
    assert entry.body == b"new"


async def kill_writers(
    real: LmdbCoordinator, start_peer: StartPeer, *, times: int, clock: SystemClock
) -> None:
    """Kill processes that write all the time, and check every entry after each."""
    seen = 0
    for number in range(times):
        peer = await start_peer(map_bytes=16 * MIB)
        assert await peer.do("write_on", "", 3_000) == "writing"
        await asyncio.sleep(0.02 + 0.013 * (number % 7))
        peer.kill()
        await real.append((row("m"),))
        keys = [result_key(f"{one}", "m") for one in range(500)]
        for key, entry in zip(keys, (await real.fetch(keys, START)).entries, strict=True):
            if entry is not None:
                seen += 1
                assert entry.body == (key * (3_000 // len(key) + 1)).encode()
        usage = real.stats().layers[Layer.RESULT]
        found = await real.sample(Layer.RESULT, 1_000)
        assert usage.entries == len(found) > 0
        await real.store(KEY, entry_of(clock, b"{}"))
    assert seen > 0
    assert real.stats().corrupt_entries == 0


async def test_twenty_killed_writers_leave_no_corrupt_entry(
    real: LmdbCoordinator, start_peer: StartPeer, system_clock: SystemClock
) -> None:
    await kill_writers(real, start_peer, times=20, clock=system_clock)


@pytest.mark.slow
async def test_two_hundred_killed_writers_leave_no_corrupt_entry(
    real: LmdbCoordinator, start_peer: StartPeer, system_clock: SystemClock
) -> None:
    await kill_writers(real, start_peer, times=200, clock=system_clock)


async def test_two_coordinators_of_one_process_share_the_open_file(
    opener: Opener, clock: FakeClock, path: Path, tmp_path: Path
) -> None:
    """Trap 6: LMDB must not open a file twice, under whatever name."""
    first = await opener()
    alias = tmp_path / "alias"
    alias.symlink_to(path)
    second = await opener(alias)
    await first.store(KEY, entry_of(clock, b"x"))
    assert await read(second, KEY) is not None
    await first.aclose()
    entry = await read(second, KEY)
    assert entry is not None
    third = await opener()
    assert await read(third, KEY) == entry
    await second.aclose()
    await third.aclose()
    assert await read(await opener(), KEY) == entry


async def test_a_file_grown_by_a_process_with_a_greater_map_is_still_read_and_written(
    opener: Opener, clock: FakeClock, path: Path
) -> None:
    """Trap 9: MapResizedError, in a rolling deployment with a new budget."""
    lmdb = await opener(map_bytes=1 * MIB)
    await lmdb.store(KEY, entry_of(clock, b"x"))
    await flush(lmdb)
    code = (
        "import lmdb, sys\n"
        f"env = lmdb.open({str(data_directory(path))!r}, map_size=8 << 20, max_dbs=16)\n"
        "db = env.open_db(b'of another version')\n"
        "with env.begin(write=True) as txn:\n"
        "    txn.put(b'k', bytes(3 << 20), db=db)\n"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=True)
    assert lmdb.fetch_now((KEY,), START) is None
    assert await read(lmdb, KEY) is not None
    await lmdb.store(KEY, entry_of(clock, b"y"))
    await flush(lmdb)
    entry = await read(lmdb, KEY)
    assert entry is not None
    assert entry.body == b"y"


async def test_a_directory_deleted_under_us_is_made_again(
    opener: Opener, clock: FakeClock, path: Path
) -> None:
    lmdb = await opener()
    await lmdb.store(KEY, entry_of(clock, b"x"))
    before = (await lmdb.append((row("m"),))).position
    shutil.rmtree(path)
    for _ in range(100):
        entry = await read(lmdb, KEY)
        if entry is None:
            break
        await asyncio.sleep(0.02)
    assert entry is None
    after = await lmdb.fetch((), before)
    assert after.position > before
    assert [one.row.scope for one in after.rows] == ["all"]
    await lmdb.store(KEY, entry_of(clock, b"y"))
    await flush(lmdb)
    assert await read(lmdb, KEY) is not None
    assert file_bytes(path) > 0


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from routecache_middleware.core.keys import result_key
from routecache_middleware.core.models import START
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.contract import KEY, row
from tests.coordinators.lmdb.support import entry_of, flush, make

async def main(path):
    clock = SystemClock()
    lmdb = make(path, clock)
    await lmdb.open()
    await lmdb.store(KEY, entry_of(clock, b"kept"))
    await flush(lmdb)
    size = next(path.glob("v*/data.mdb")).stat().st_size
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        await flush_much(lmdb, clock)
    except CoordinatorError as error:
        assert error.__cause__ is not None
    else:
        raise AssertionError("it should have failed")
    assert (await lmdb.fetch((KEY,), START)).entries[0] is not None
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    while True:
        try:
            await flush_much(lmdb, clock)
            break
        except CoordinatorError:
            pass
    await lmdb.append((row("m"),))
    assert (await lmdb.fetch((result_key("99", "m"),), START)).entries[0] is not None
    await lmdb.aclose()
    print("recovered")

async def flush_much(lmdb, clock):
    for number in range(100):
        await lmdb.store(result_key(f"{number}", "m"), entry_of(clock, bytes(5000)))
    await flush(lmdb)

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_a_full_disk_is_an_error_and_passes(path: Path) -> None:
    """In a process of its own, as it is the process's file size limit that stands for the disk."""
    run = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", FULL_DISK, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout == "recovered\n", run.stderr


async def test_reads_of_many_threads_do_not_disturb_each_other(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    keys = [result_key(f"{number}", "m") for number in range(50)]
    for number, key in enumerate(keys):
        await lmdb.store(key, entry_of(clock, b"%d" % number))
    wrong: list[object] = []

    def use() -> None:
        position = START
        for turn in range(400):
            number = turn % len(keys)
            fetched = lmdb.fetch_now((keys[number],), position)
            assert fetched is not None
            entry, position = fetched.entries[0], fetched.position
            if entry is None or entry.body != b"%d" % number:
                wrong.append(entry)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        await lmdb.append((row("m"),))
        await lmdb.store(keys[0], entry_of(clock, b"0"))
    assert not wrong


async def test_a_file_found_to_be_damaged_is_replaced(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    await lmdb.store(KEY, entry_of(clock, b"x"))
    before = (await lmdb.append((row("m"),))).position
    assert lmdb._shared is not None
    lmdb._shared.environment.is_broken = True  # as a reader notes that found a page missing
    fetched = await lmdb.fetch((KEY,), before)
    assert fetched.entries == [None]
    assert [one.row.scope for one in fetched.rows] == ["all"]


async def test_expired_entries_are_freed_without_being_asked_for(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    await fill(lmdb, clock, [100] * 300)
    clock.advance(100.0)
    await lmdb.store(KEY, entry_of(clock, b"x"))
    await flush(lmdb)
    usage = lmdb.stats().layers[Layer.RESULT]
    assert (usage.entries, usage.evictions) == (1, 0)


async def test_the_driver_is_used_as_the_design_says(lmdb: LmdbCoordinator) -> None:
    assert lmdb._shared is not None
    handle = lmdb._shared.environment.handle
    flags = handle.flags()
    assert not flags["sync"]
    assert not flags["writemap"]
    assert not flags["readahead"]
    assert flags["lock"]
    assert handle.info()["max_readers"] == 512
    assert handle.info()["map_size"] == 4 * 268_435_456
    assert isinstance(driver.version(), tuple)


async def test_a_crowded_queue_drops_the_oldest_entries_and_says_so(
    lmdb: LmdbCoordinator, clock: FakeClock, start_peer: StartPeer
) -> None:
    peer = await start_peer()
    assert await peer.do("hold_write", 0.5) == "held"
    told = 0
    for number in range(4_000):
        try:
            await lmdb.store(result_key(f"{number}", "m"), entry_of(clock, b"x"))
        except CoordinatorError:
            told += 1
    assert told > 0
    assert await peer.answer() is None
    assert lmdb._shared is not None
    assert len(lmdb._shared.writer.pending) <= 2_048
