"""The stream that is the log: positions, markers, what was lost, what is dropped."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from routecache_middleware.coordinators.redis.address import Address
from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.redis.links import Links, connect
from routecache_middleware.coordinators.redis.log import StreamLog
from routecache_middleware.coordinators.redis.rows import id_of, position_of, split_position
from routecache_middleware.coordinators.redis.server_time import ServerTime
from routecache_middleware.coordinators.url import CoordinatorUrl
from routecache_middleware.core.invalidation import ALL, InvalidationRow, tag_scope
from routecache_middleware.core.models import START, Position
from tests.coordinators.redis.support import CLOCK, row
from tests.support.valkey import ValkeyServer

KEYS = Keys()
MARKER = InvalidationRow(ALL)
HOUR = 3_600_000 << 20


@pytest.fixture
async def links(valkey_url: str) -> AsyncIterator[Links]:
    address = Address.parse(CoordinatorUrl.parse(valkey_url))
    links = connect(address, KEYS.log, CLOCK)
    yield links
    await links.aclose()


@pytest.fixture
def log(links: Links) -> StreamLog:
    return StreamLog(links.log, KEYS, time=ServerTime(CLOCK))


async def test_of_many_that_begin_a_log_one_does(log: StreamLog) -> None:
    """Three cold processes that start together must not void each other's entries."""
    await asyncio.gather(*(log.begin() for _ in range(20)))
    tail = await log.tail(START)
    assert [one.row for one in tail.rows] == [MARKER]


async def test_an_append_to_a_log_that_is_gone_begins_it_with_a_marker(log: StreamLog) -> None:
    receipt = await log.append((row("a"),))
    tail = await log.tail(START)
    assert [one.row for one in tail.rows] == [MARKER, row("a")]
    assert tail.top == receipt.position


async def test_rows_of_one_append_have_consecutive_positions(log: StreamLog) -> None:
    await log.begin()
    receipt = await log.append([row(str(number)) for number in range(5)])
    positions = [one.position for one in (await log.tail(START)).rows[1:]]
    assert positions == list(range(receipt.position - 4, receipt.position + 1))


async def test_positions_go_on_beyond_what_the_caller_knows(log: StreamLog) -> None:
    """A clock that was set back, or a new primary whose clock is late, changes nothing."""
    await log.begin()
    floor = Position((await log.top()) + HOUR)
    first = await log.append((row("a"),), floor=floor)
    second = await log.append((row("b"),))
    assert floor < first.position < second.position
    assert second.position - first.position == 1  # the server's clock is an hour behind


async def test_sequence_numbers_do_not_spill_over(log: StreamLog) -> None:
    """2**20 rows in one millisecond, and the next one stands in the next."""
    ms, _ = split_position(Position((await log.append((row(),))).position + HOUR))
    floor = Position(ms << 20 | (1 << 20) - 2)
    receipt = await log.append((row("a"), row("b"), row("c")), floor=floor)
    assert split_position(receipt.position) == (ms + 1, 2)
    assert (await log.tail(START)).top == receipt.position


async def test_a_position_and_its_id_are_one() -> None:
    position = Position(1_763_900_000_000 << 20 | 1_048_575)
    assert position_of(id_of(position).encode()) == position
    assert id_of(Position(position + 1)) == "1763900000001-0"
    assert position < 2**62


async def test_rows_at_given_positions_are_taken_above_the_end_only(log: StreamLog) -> None:
    top = (await log.append((row("a"),))).position
    assert await log.append_at((row("b"),), top) is None
    assert await log.append_at((row("b"),), Position(top - 1)) is None
    last = await log.append_at((row("b"), row("c")), Position(top + HOUR))
    assert last == top + HOUR + 1
    tail = await log.tail(top)
    assert [one.row for one in tail.rows] == [row("b"), row("c")]


async def test_a_log_may_begin_at_a_given_position_without_a_marker(log: StreamLog) -> None:
    assert await log.append_at((row("a"),), Position(HOUR)) == HOUR
    assert [one.row for one in (await log.tail(START)).rows] == [row("a")]


async def test_a_tail_tells_whether_the_row_before_it_is_there(log: StreamLog) -> None:
    top = (await log.append((row("a"),))).position
    assert (await log.tail(top)).holds_after
    assert not (await log.tail(Position(top + 1))).holds_after
    assert not (await log.tail(Position(top - 10))).holds_after


async def test_a_long_tail_is_read_in_pages(log: StreamLog) -> None:
    await log.begin()
    rows = [row(str(number)) for number in range(3_000)]
    for _ in range(3):
        receipt = await log.append(rows)
    tail = await log.tail(START)
    assert len(tail.rows) == 9_001
    assert tail.top == receipt.position


async def test_what_was_lost_is_marked_once(log: StreamLog, valkey: ValkeyServer) -> None:
    """Everybody notices by himself; one failover with loss costs everybody's entries once."""
    kept = (await log.append((row("a"),))).position
    lost = (await log.append((row("b"),))).position
    valkey.command("XDEL", KEYS.log, id_of(lost))
    tails = await asyncio.gather(*(log.recover(lost) for _ in range(10)))
    rows = [one.row for one in (await log.tail(kept)).rows]
    assert rows == [MARKER]
    assert all(tail.top > lost and not tail.holds_after for tail in tails)


async def test_a_marker_stands_above_what_was_lost(log: StreamLog, valkey: ValkeyServer) -> None:
    """Entries captured at a lost position have to be void."""
    top = (await log.append((row("a"),))).position
    known = Position(top + HOUR)
    tail = await log.recover(known)
    assert tail.top > known
    assert tail.rows[-1].row == MARKER


async def test_a_row_that_is_there_needs_no_marker(log: StreamLog) -> None:
    first = (await log.append((row("a"),))).position
    await log.append((row("b"),))
    tail = await log.recover(first)
    assert tail.holds_after
    assert [one.row for one in tail.rows] == [row("b")]


async def test_invalidating_everything_marks_as_well(log: StreamLog, valkey: ValkeyServer) -> None:
    """A row of the user's for all, later than what was lost, voids the same."""
    lost = (await log.append((row("a"),))).position
    await log.append((MARKER,))
    valkey.command("XDEL", KEYS.log, id_of(lost))
    before = await log.top()
    assert (await log.recover(lost)).top == before


async def test_old_rows_are_dropped_but_never_the_one_an_idle_reader_stands_on(
    links: Links,
) -> None:
    """Rows past the longest life of an entry void nothing that is left."""
    log = StreamLog(links.log, KEYS, time=ServerTime(CLOCK), keep_s=0.2)
    await log.append([row(str(number)) for number in range(50)])
    idle = (await log.append((row("last"),))).position
    await asyncio.sleep(0.4)
    await log.append((row("new"),))
    tail = await log.tail(START)
    assert [one.row for one in tail.rows] == [row("last"), row("new")]
    assert (await log.tail(idle)).holds_after


async def test_who_stands_on_a_dropped_row_voids_nobody_elses_entries(links: Links) -> None:
    """Nothing was lost: the row is older than any entry. Only that reader starts over."""
    log = StreamLog(links.log, KEYS, time=ServerTime(CLOCK), keep_s=0.1)
    old = (await log.append((row("a"),))).position
    for name in "bc":
        await asyncio.sleep(0.2)
        await log.append((row(name),))
    assert not (await log.tail(old)).holds_after
    tail = await log.recover(old)
    assert not tail.holds_after
    assert MARKER not in [one.row for one in tail.rows]


async def test_something_else_under_the_logs_name_is_a_log_that_was_lost(
    log: StreamLog, valkey: ValkeyServer
) -> None:
    top = (await log.append((row("a"),))).position
    valkey.command("SET", KEYS.log, "hostile")
    assert not (await log.tail(top)).holds_after
    tail = await log.recover(top)
    assert [one.row for one in tail.rows] == [MARKER]
    assert tail.top > top


@pytest.mark.parametrize(
    "fields",
    [("x", "y"), ("r", b"\xff"), ("r", b"\x94\x02\xa1x\xc0\xc0"), ("r", b""), ("r", b"\x80")],
)
async def test_a_row_that_cannot_be_read_voids_everything(
    log: StreamLog, valkey: ValkeyServer, fields: tuple[str, bytes]
) -> None:
    """Damaged, or of a newer version: colder, never staler."""
    top = (await log.append((row("a"),))).position
    valkey.command("XADD", KEYS.log, "*", *fields)
    assert [one.row for one in (await log.tail(top)).rows] == [MARKER]


async def test_conditions_are_kept_on_the_servers_clock(links: Links) -> None:
    ahead, behind = ServerTime(CLOCK), ServerTime(CLOCK)
    ahead.offset_s, behind.offset_s = 8.0, 2.5
    rule = InvalidationRow(tag_scope("t"), older_than_s=1_763_900_000.25, router_version="v\ud800")
    await StreamLog(links.log, KEYS, time=ahead).append((rule,))
    read = (await StreamLog(links.log, KEYS, time=behind).tail(START)).rows[-1].row
    assert read.older_than_s == 1_763_900_000.25 + 8.0 - 2.5
    assert read.router_version == rule.router_version


async def test_the_log_expires_when_nobody_uses_it(log: StreamLog, valkey: ValkeyServer) -> None:
    await log.begin()
    week_ms = 7 * 86_400_000
    assert week_ms - 10_000 < valkey.command("PTTL", KEYS.log) <= week_ms  # type: ignore[operator]
    valkey.command("PEXPIRE", KEYS.log, 10_000)
    await log.prolong()
    assert valkey.command("PTTL", KEYS.log) > 10_000  # type: ignore[operator]


async def test_waiting_ends_with_the_first_row(log: StreamLog, links: Links) -> None:
    top = (await log.append((row("a"),))).position
    reading = StreamLog(links.reading, KEYS, time=ServerTime(CLOCK))
    started_s = CLOCK.monotonic_s()
    waiting = asyncio.create_task(reading.wait(top, 0.6))
    await asyncio.sleep(0.05)
    await log.append((row("b"),))
    waited = await waiting
    assert CLOCK.monotonic_s() - started_s < 0.5
    assert [one.row for one in waited.tail.rows] == [row("b")]
    assert waited.is_complete
    assert waited.tail.holds_after
