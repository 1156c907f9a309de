"""Who may use the directory, and when its data is not trusted."""

import asyncio
import fcntl
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from routecache_middleware.coordinators.lmdb import directory as module
from routecache_middleware.coordinators.lmdb.directory import Directory
from routecache_middleware.coordinators.lmdb.layout import VERSION_NAME
from routecache_middleware.coordinators.table import create
from routecache_middleware.core.choices import Compression
from routecache_middleware.core.settings import Settings
from routecache_middleware.errors import ConfigurationError, CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract import KEY, row
from tests.coordinators.lmdb.conftest import Opener
from tests.coordinators.lmdb.support import MIB, Peer, entry_of, flush, make, read

StartPeer = Callable[..., Awaitable[Peer]]


def use(path: Path, boot_id: str, *, is_clean: bool) -> None:
    """Open and close, or open and die, under a boot id; a stand-in for data is left behind."""
    directory = Directory(path, boot_id=lambda: boot_id)
    directory.prepare()
    with directory.guard():
        directory.claim()
        (directory.data_path / "data.mdb").touch()
        directory.disclaim((lambda: None) if is_clean else None)


def made(path: Path, mode: int) -> Path:
    """Make a directory with a mode that no umask has a say in."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    return path


@contextmanager
def held(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write(path: Path, content: str) -> None:
    path.write_text(content)


@pytest.mark.parametrize(
    ("first", "is_clean", "then", "is_kept"),
    [
        ("boot-1", False, "boot-1", True),
        ("boot-1", True, "boot-1", True),
        ("boot-1", True, "boot-2", True),
        ("boot-1", False, "boot-2", False),
    ],
)
def test_only_data_that_a_crash_of_the_system_may_have_torn_is_wiped(
    path: Path, first: str, *, is_clean: bool, then: str, is_kept: bool
) -> None:
    """A process may die at any time: its pages are the system's already."""
    use(path, first, is_clean=is_clean)
    directory = Directory(path, boot_id=lambda: then)
    directory.prepare()
    with directory.guard():
        directory.claim()
    assert (directory.data_path / "data.mdb").exists() == is_kept
    directory.disclaim()


def test_after_a_crash_of_the_system_the_second_user_does_not_wipe_again(path: Path) -> None:
    """Processes that start together would else wipe each other's entries."""
    use(path, "boot-1", is_clean=False)
    first, second = (Directory(path, boot_id=lambda: "boot-2") for _ in range(2))
    first.prepare()
    with first.guard():
        first.claim()
        (first.data_path / "data.mdb").touch()
    with second.guard():
        second.claim()
    assert (first.data_path / "data.mdb").exists()
    first.disclaim()
    second.disclaim()


def test_only_the_last_user_says_that_the_data_is_complete(path: Path) -> None:
    first, second = (Directory(path, boot_id=lambda: "boot-1") for _ in range(2))
    first.prepare()
    flushed: list[str] = []
    for one in (first, second):
        with one.guard():
            one.claim()
    state = first.data_path / "state"
    with first.guard():
        first.disclaim(lambda: flushed.append("first"))
    assert (flushed, state.read_text()) == ([], "boot-1\nin use")
    with second.guard():
        second.disclaim(lambda: flushed.append("second"))
    assert (flushed, state.read_text()) == (["second"], "boot-1\nclosed")


def test_a_damaged_state_is_no_proof(path: Path) -> None:
    use(path, "boot-1", is_clean=True)
    directory = Directory(path, boot_id=lambda: "boot-1")
    (directory.data_path / "state").write_bytes(b"\xff\xfe")
    with directory.guard():
        directory.claim()
    assert not (directory.data_path / "data.mdb").exists()
    directory.disclaim()


async def test_a_coordinator_after_a_crash_of_the_system_starts_cold_and_beyond(
    opener: Opener, clock: FakeClock, path: Path
) -> None:
    lmdb = await opener()
    await lmdb.store(KEY, entry_of(clock, b"x"))
    before = (await lmdb.append((row("m"),))).position
    await lmdb.aclose()
    write(path / VERSION_NAME / "state", "of another boot\nin use")
    clock.advance(1.0)
    again = await opener()
    assert await read(again, KEY) is None
    fetched = await again.fetch((), before)
    assert fetched.position > before
    assert [one.row.scope for one in fetched.rows] == ["all"]


async def test_three_cold_processes_starting_together_do_not_wipe_each_other(
    path: Path, start_peer: StartPeer
) -> None:
    use(path, "of another boot", is_clean=False)
    peers = await asyncio.gather(*(start_peer() for _ in range(3)))
    await asyncio.gather(
        *(peer.do("store", f"result:{number}:m", "x") for number, peer in enumerate(peers))
    )
    for peer in peers:
        for number in range(3):
            assert await peer.do("fetch", f"result:{number}:m") == "x"


def open_to_others(path: Path) -> list[Path]:
    return [
        found for found in [path, *path.rglob("*")] if stat.S_IMODE(found.stat().st_mode) & 0o077
    ]


async def test_everything_is_made_for_its_owner_alone(opener: Opener, path: Path) -> None:
    await opener()
    assert open_to_others(path) == []


async def test_missing_parents_are_made(opener: Opener, tmp_path: Path) -> None:
    lmdb = await opener(tmp_path / "a" / "b" / "c")
    assert (await lmdb.append((row("m"),))).position > 0


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720, 0o702])
async def test_a_directory_that_others_can_write_to_is_refused(
    path: Path, clock: FakeClock, mode: int
) -> None:
    made(path, mode)
    lmdb = make(path, clock)
    with pytest.raises(ConfigurationError, match="chmod 700"):
        await lmdb.open()


async def test_what_lies_inside_is_checked_as_well(path: Path, clock: FakeClock) -> None:
    made(path / VERSION_NAME, 0o777)
    made(path, 0o755)
    with pytest.raises(ConfigurationError, match="chmod 700"):
        await make(path, clock).open()


async def test_a_directory_of_somebody_else_is_refused(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(path, 0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 4_711)
    with pytest.raises(ConfigurationError, match="belongs to user"):
        await make(path, clock).open()


@pytest.mark.parametrize("below", ["", "/below"])
async def test_a_path_that_is_a_file_is_refused(
    tmp_path: Path, clock: FakeClock, below: str
) -> None:
    write(tmp_path / "file", "")
    with pytest.raises(ConfigurationError, match="directory that this user can write to"):
        await make(Path(f"{tmp_path}/file{below}"), clock).open()


async def test_a_directory_that_cannot_be_written_is_refused(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(path, 0o700)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(ConfigurationError, match="cannot be written"):
        await make(path, clock).open()


async def test_a_refused_directory_may_be_put_right_and_opened(
    path: Path, clock: FakeClock
) -> None:
    made(path, 0o777)
    lmdb = make(path, clock)
    with pytest.raises(ConfigurationError):
        await lmdb.open()
    made(path, 0o700)
    await lmdb.open()
    assert (await lmdb.append((row("m"),))).position > 0
    await lmdb.aclose()


async def test_a_guard_held_for_ever_is_an_error_and_no_hang(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(path, 0o700)
    monkeypatch.setattr(module, "_GUARD_TIMEOUT_S", 0.2)
    lmdb = make(path, clock)
    with held(path / "guard"), pytest.raises(CoordinatorError, match="has been opening"):
        await lmdb.open()
    await lmdb.open()
    await lmdb.aclose()


def test_a_system_without_boot_ids_never_wipes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BOOT_ID", path / "missing")
    for _ in range(2):
        directory = Directory(path)
        directory.prepare()
        with directory.guard():
            directory.claim()
        directory.disclaim()
        (directory.data_path / "data.mdb").touch()
    assert (directory.data_path / "state").read_text() == "unknown\nin use"
    assert (directory.data_path / "data.mdb").exists()


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("lmdb://", "/path/to/a/directory"),
        ("lmdb://relative/path", "names no absolute path"),
        ("lmdb:///", "names no directory"),
        ("lmdb:////", "names no directory"),
        ("lmdb:///tmp/x\0y", "names no directory"),
        ("lmdb:///tmp/x?size=1", "one of max_bytes, map_bytes"),
        ("lmdb:///tmp/x?max_bytes=many", "a whole number"),
        ("lmdb:///tmp/x?map_bytes=1000", "at least 1048576"),
    ],
)
def test_a_wrong_url_is_refused_with_its_remedy(url: str, remedy: str, clock: FakeClock) -> None:
    with pytest.raises(ConfigurationError, match=remedy):
        create(url, Settings(), clock)


def test_building_makes_nothing(path: Path, clock: FakeClock) -> None:
    create(f"lmdb://{path}", Settings(compression=Compression.ZSTD), clock)
    assert not path.exists()


def test_a_missing_package_is_named(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ConfigurationError, match=r"routecache-middleware\[lmdb\]"):
        create(f"lmdb://{path}", Settings(), clock)


async def test_other_versions_are_left_alone(opener: Opener, path: Path, clock: FakeClock) -> None:
    """During a rolling deployment both run at the same time."""
    other = made(path / "v0.9", 0o700) / "data.mdb"
    made(path, 0o700)
    write(other, "of another version")
    lmdb = await opener()
    await lmdb.store(KEY, entry_of(clock, b"x"))
    await flush(lmdb)
    assert [await asyncio.to_thread(other.read_text)] == ["of another version"]


async def test_the_map_is_four_times_the_budget_and_never_tiny(
    opener: Opener, tmp_path: Path
) -> None:
    for budget, expected in ((100 * MIB, 400 * MIB), (MIB, 64 * MIB)):
        lmdb = await opener(tmp_path / str(budget), max_bytes=budget)
        assert lmdb._shared is not None
        assert lmdb._shared.environment.handle.info()["map_size"] == expected
