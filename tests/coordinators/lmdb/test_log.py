"""The log in the file: positions never go back, and what is dropped is covered."""

import pytest

from routecache_middleware.coordinators.lmdb import log
from routecache_middleware.coordinators.lmdb.coordinator import LmdbCoordinator
from routecache_middleware.core.invalidation import ALL, InvalidationRow, InvalidationTable
from routecache_middleware.core.models import START, Position
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract import KEY, row
from tests.coordinators.lmdb.conftest import Opener
from tests.coordinators.lmdb.support import entry_of

DAY_S = 86_400.0


async def scopes(lmdb: LmdbCoordinator, after: Position = START) -> list[str]:
    return [one.row.scope for one in (await lmdb.fetch((), after)).rows]


async def test_positions_fit_into_62_bits_and_tell_the_time(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    position = (await lmdb.append((row("m"),))).position
    assert position >> 20 == int(clock.now_s() * 1000)
    assert position < 2**62


async def test_positions_rise_when_the_clock_is_set_back(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    before = (await lmdb.append((row("a"),))).position
    clock.step_wall(-10_000.0)
    after = (await lmdb.append((row("b"), row("c")))).position
    assert after == before + 2
    clock.step_wall(20_000.0)
    assert (await lmdb.append((row("d"),))).position > after


async def test_rows_older_than_a_day_are_dropped_and_covered(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    """An entry may live longer than its row: from then on it is void, not resurrected."""
    entry = entry_of(clock, lifetime_s=10 * DAY_S)
    first = (await lmdb.append((row("a"),))).position
    last_old = (await lmdb.append((row("b"),))).position
    clock.advance(DAY_S + 1.0)
    await lmdb.append((row("c"),))
    assert await scopes(lmdb) == [ALL, "model:c"]
    assert await scopes(lmdb, first) == [ALL, "model:c"]
    assert await scopes(lmdb, last_old) == ["model:c"]
    table = InvalidationTable()
    table.fold((await lmdb.fetch((), START)).rows)
    assert not table.is_current(KEY, entry)


async def test_the_last_row_is_kept_however_old_it_is(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    position = (await lmdb.append((row("a"),))).position
    clock.advance(10 * DAY_S)
    assert (await lmdb.append(())).position == position
    assert await scopes(lmdb) == [ALL, "model:a"]


async def test_a_new_reader_of_a_trimmed_log_is_not_rewound(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    """Else each restart of a worker would void what the others have stored lately."""
    await lmdb.append((row("a"),))
    clock.advance(DAY_S + 1.0)
    captured = (await lmdb.append((row("b"),))).position
    fetched = await lmdb.fetch((), START)
    assert not fetched.is_rewound
    assert all(one.position <= captured for one in fetched.rows)


async def test_too_many_rows_are_dropped_and_covered(
    lmdb: LmdbCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MAX_ROWS", 100)
    positions = [(await lmdb.append((row(f"{number}"),))).position for number in range(300)]
    rows = (await lmdb.fetch((), START)).rows
    assert len(rows) == 100
    assert rows[0].row == InvalidationRow(ALL)
    assert [one.position for one in rows[1:]] == positions[-99:]
    assert [one.row.scope for one in rows[1:]] == [f"model:{number}" for number in range(201, 300)]
    assert rows[0].position == positions[-100]


async def test_one_append_of_very_many_rows_is_trimmed_bit_by_bit(
    lmdb: LmdbCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MAX_ROWS", 100)
    await lmdb.append([row(f"{number}") for number in range(300)])
    for _ in range(5):
        await lmdb.append((row("more"),))
    assert len(await scopes(lmdb)) == 100


async def test_a_position_from_the_future_is_rewound_for_all_who_read_before(
    lmdb: LmdbCoordinator, opener: Opener
) -> None:
    position = (await lmdb.append((row("m"),))).position
    asked = Position(position + 10**15)
    assert lmdb.fetch_now((KEY,), asked) is None
    fetched = await lmdb.fetch((KEY,), asked)
    assert fetched.is_rewound
    assert fetched.position > asked
    assert await scopes(lmdb, position) == [ALL]
    again = await lmdb.fetch((KEY,), fetched.position)
    assert not again.is_rewound
    assert (await lmdb.append((row("m"),))).position > fetched.position


async def test_reading_the_log_and_an_entry_is_one_look(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    """What the position says is what the rows say, whatever is appended meanwhile."""
    position = (await lmdb.fetch((), START)).position
    for number in range(50):
        await lmdb.append((row(f"{number}"),))
        fetched = lmdb.fetch_now((KEY,), position)
        assert fetched is not None
        assert fetched.rows[-1].position == fetched.position
        position = fetched.position
