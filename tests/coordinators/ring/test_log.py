"""One log made of many: what processes read when nodes and links fail."""

import asyncio
import math
from collections.abc import Sequence

import pytest

from routecache_middleware.coordinators.ring.coordinator import RingCoordinator
from routecache_middleware.coordinators.ring.members import Member
from routecache_middleware.coordinators.ring.merged import EVERYTHING
from routecache_middleware.core.cluster import NodeState
from routecache_middleware.core.invalidation import (
    InvalidationRow,
    InvalidationTable,
    LoggedRow,
    model_scope,
)
from routecache_middleware.core.keys import Layer, result_key
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from tests.coordinators.ring.conftest import Fleet, member, row, states
from tests.coordinators.ring.simulated import KEEP_S, Link, SimulatedNode

KEY = result_key("0" * 32, "m")


def entry_of(model: str, position: Position) -> Entry:
    scopes = (model_scope(model),)
    return Entry(Layer.RESULT, b"", 1_700_000_000.0, 600.0, position=position, scopes=scopes)


async def read(ring: RingCoordinator, after: Position = START) -> list[InvalidationRow]:
    """Rows of the log, without the one that it begins with."""
    await ring._log.refresh()
    fetched = await ring.fetch((), after)
    return [one.row for one in fetched.rows if one.row != EVERYTHING]


async def test_an_append_stands_in_all_logs_at_the_same_positions(fleet: Fleet) -> None:
    ring = await fleet.quiet("a")
    receipt = await ring.append([row("m"), row("x")])
    assert receipt.replicas_acknowledged == 2
    for log in fleet.logs():
        assert [one.row for one in log] == [EVERYTHING, row("m"), row("x")]
        assert [one.position for one in log[1:]] == [receipt.position - 1, receipt.position]


async def test_other_processes_read_it(fleet: Fleet) -> None:
    first, second = await fleet.quiet("a"), await fleet.quiet("b")
    await first.append([row("m")])
    assert await read(second) == [row("m")]


async def test_the_log_begins_with_one_row_for_everything_whoever_starts_first(
    fleet: Fleet,
) -> None:
    rings = [fleet.process(name) for name in "abc"]
    await asyncio.gather(*(ring.open() for ring in rings))
    assert [[one.row for one in log] for log in fleet.logs()] == [[EVERYTHING]] * 3
    assert len({log[0].position for log in fleet.logs()}) == 1


async def test_positions_are_not_below_the_wall_clock(fleet: Fleet, clock: FakeClock) -> None:
    """So that rows of processes that never met are still in order, as far as clocks agree."""
    ring = await fleet.quiet("a")
    clock.advance(3_600)
    receipt = await ring.append([row("m")])
    assert receipt.position >= int(clock.now_s() * 1000) << 20
    assert receipt.position < 2**62
    clock.step_wall(-7_200)
    assert (await ring.append([row("x")])).position > receipt.position


async def test_a_node_that_does_not_take_an_append_goes_down_over_it(fleet: Fleet) -> None:
    """Otherwise somebody could read there that nothing has happened."""
    ring = await fleet.quiet("a")
    fleet.network.links["a", "n1"] = Link.HUNG
    receipt = await ring.append([row("m")])
    assert receipt.replicas_acknowledged == 1
    assert states(ring) == [NodeState.UP, NodeState.DOWN, NodeState.UP]


async def test_an_answer_that_got_lost_leads_to_a_second_row_at_most(fleet: Fleet) -> None:
    ring = await fleet.quiet("a")
    fleet.network.links["a", "n1"] = Link.DEAF
    await ring.append([row("m")])
    fleet.network.links.clear()
    assert set(await read(await fleet.quiet("b"))) == {row("m")}


async def test_an_append_that_no_node_takes_fails(fleet: Fleet) -> None:
    ring = await fleet.quiet("a")
    for server in fleet.servers:
        server.is_running = False
    with pytest.raises(CoordinatorError, match="no node of the ring answers"):
        await ring.append([row("m")])
    assert NodeState.UP not in states(ring)


async def test_an_append_that_is_refused_is_done_again_above_and_everywhere(fleet: Fleet) -> None:
    """Another process's row got in between."""
    ring = await fleet.quiet("a")
    low = ring._log._propose(())
    fleet.servers[1].extend([row("x")], Position(low + 5))
    assert await ring._log._logs.append(ring._members.serving(), [row("m")], low) == 0
    receipt = await ring.append([row("m")])
    assert all(log[-1].position == receipt.position for log in fleet.logs())
    assert set(await read(await fleet.quiet("b"))) == {row("m"), row("x")}


async def test_a_captured_position_is_in_every_log_in_use_before_it_is_handed_out(
    fleet: Fleet,
) -> None:
    """Or an append by somebody who reaches only the shorter logs could come before it."""
    writer, reader = await fleet.quiet("a"), await fleet.quiet("b")
    for name in ("n1", "n2"):
        fleet.network.links["a", name] = Link.REFUSED
    receipt = await writer.append([row("m")])
    assert [log[-1].position == receipt.position for log in fleet.logs()] == [True, False, False]
    await read(reader)
    assert reader._log.reached == receipt.position
    assert [log[-1].position == receipt.position for log in fleet.logs()] == [True, True, True]


async def test_what_was_captured_before_an_append_elsewhere_does_not_survive_it(
    fleet: Fleet, clock: FakeClock
) -> None:
    """The scenario of the claim: appends that know nothing of each other, and clocks that differ.

    ``ahead`` reaches n0 alone and appends at a position far in the future. ``maker`` reads that and
    captures there. ``behind`` cannot reach n0; what it appends is to void what ``maker`` makes.
    """
    ahead, maker, behind = [await fleet.quiet(name) for name in ("ahead", "maker", "behind")]
    for name in ("n1", "n2"):
        fleet.network.links["ahead", name] = Link.REFUSED
    fleet.network.links["behind", "n0"] = Link.REFUSED
    clock.step_wall(86_400)
    await ahead.append([row("x")])
    clock.step_wall(-86_400)
    await read(maker)
    made = entry_of("m", maker._log.reached)
    await behind.append([row("m")])
    for reader in (maker, behind, await fleet.quiet("new")):
        table = InvalidationTable()
        await reader._log.refresh()
        table.fold((await reader.fetch((), START)).rows)
        assert not table.is_current(KEY, made)


@pytest.mark.parametrize("skew_s", [86_400.0, 0.0, -86_400.0])
async def test_a_maker_whose_clock_is_wrong_captures_only_what_all_its_nodes_have(
    fleet: Fleet, clock: FakeClock, skew_s: float
) -> None:
    """Or what it makes survives an invalidation by somebody who reaches only the shorter log.

    ``maker`` and ``behind`` share n1, so the claim holds. If ``maker`` told the age of rows by its
    own clock, it would miss none of yesterday's anywhere, and hand out positions beyond n1's log.
    """
    maker = await fleet.quiet("maker", skew_s=skew_s)
    ahead, behind = await fleet.quiet("ahead"), await fleet.quiet("behind", skew_s=-3_600.0)
    for name in ("n0", "n1"):
        fleet.network.links["ahead", name] = Link.REFUSED
    for name in ("n0", "n2"):
        fleet.network.links["behind", name] = Link.REFUSED
    fleet.network.links["maker", "n0"] = Link.REFUSED
    clock.advance(1.0)
    await ahead.append([row("m")])
    await read(maker)
    made = entry_of("m", maker._log.reached)
    await behind.append([row("m")])
    fleet.network.links.clear()
    for reader in (maker, behind, await fleet.quiet("new")):
        await reader._log.refresh()
        table = InvalidationTable()
        table.fold((await reader.fetch((), START)).rows)
        assert not table.is_current(KEY, made)


@pytest.mark.parametrize("skew_s", [86_400.0, 0.0, -86_400.0])
async def test_a_reader_whose_clock_is_wrong_reads_all_that_its_nodes_have(
    fleet: Fleet, clock: FakeClock, skew_s: float
) -> None:
    """It has read far on at n0 when n1 takes a row for what was captured before."""
    reader = await fleet.quiet("reader", skew_s=skew_s)
    one, other = await fleet.quiet("one"), await fleet.quiet("other", skew_s=-3_600.0)
    for name in ("n1", "n2"):
        fleet.network.links["one", name] = Link.REFUSED
    for name in ("n0", "n2"):
        fleet.network.links["other", name] = Link.REFUSED
    fleet.network.links["reader", "n2"] = Link.REFUSED
    made = entry_of("m", other._log.reached)
    clock.advance(1.0)
    table = InvalidationTable()
    await one.append([row("x")])
    await reader._log.refresh()
    table.fold(reader.tail_now(table.position).rows)
    await other.append([row("m")])
    await reader._log.refresh()
    table.fold(reader.tail_now(table.position).rows)
    assert not table.is_current(KEY, made)


async def test_an_append_by_a_clock_that_is_days_behind_is_not_trimmed_as_if_it_were_old(
    fleet: Fleet, clock: FakeClock
) -> None:
    """Nobody has appended for days, so the log's own end is no help: the nodes' clocks are."""
    behind = await fleet.quiet("behind", skew_s=-300_000.0)
    clock.advance(200_000.0)
    for name in "mxy":
        await behind.append([row(name)])
    assert [one.row for one in fleet.servers[0].log] == [EVERYTHING, *map(row, "mxy")]
    assert set(await read(await fleet.quiet("new"))) == {row("m"), row("x"), row("y")}


async def test_nodes_that_trim_at_different_times_seem_to_lack_nothing(
    fleet: Fleet, clock: FakeClock
) -> None:
    """What one has trimmed is spent, so it is not appended anew to void what it never voided."""
    ring = await fleet.quiet("a", timeout_s=5.0)
    for name in "mxy":
        await ring.append([row(name)])
        clock.advance(1.0)
    untrimmed = list(fleet.servers[1].log)
    clock.advance(KEEP_S)
    await ring.append([row("z")])
    fleet.servers[1].log[:-1] = untrimmed
    assert [len(log) for log in fleet.logs()] == [2, 5, 2]
    assert set(await read(await fleet.quiet("new", timeout_s=5.0))) == set(map(row, "mxyz"))
    assert [len(log) for log in fleet.logs()] == [2, 5, 2]


@pytest.mark.parametrize("skew_s", [86_400.0, 0.0, -86_400.0])
async def test_a_row_that_comes_late_is_appended_again_above_what_was_captured(
    fleet: Fleet, skew_s: float
) -> None:
    """Two halves that cannot see each other: beyond the claim, but healed when they meet."""
    left, right = await fleet.quiet("a", skew_s=skew_s), await fleet.quiet("b")
    for name in ("n0", "n1"):
        fleet.network.links["b", name] = Link.REFUSED
    fleet.network.links["a", "n2"] = Link.REFUSED
    await right.append([row("m")])
    await left.append([row("x")])
    made = entry_of("m", left._log.reached)
    fleet.network.links.clear()
    await left._keeper.bring_up([member(left, "n2")])
    fetched = await left.fetch((), made.position)
    assert [one.row for one in fetched.rows] == [row("m")]
    assert states(left) == [NodeState.UP] * 3
    tops = {log[-1] for log in fleet.logs()}
    assert {one.row for one in tops} == {row("m")}
    assert all(one.position > made.position for one in tops)


async def test_repairs_come_to_an_end(fleet: Fleet) -> None:
    """However many processes look at logs that once differed, they append nothing more."""
    left, right = await fleet.quiet("a"), await fleet.quiet("b")
    fleet.network.links["a", "n2"] = fleet.network.links["b", "n0"] = Link.REFUSED
    await right.append([row("m")])
    await left.append([row("x")])
    fleet.network.links.clear()
    for name in "cd":
        await fleet.quiet(name)
    before = [len(log) for log in fleet.logs()]
    for name in "efg":
        await read(await fleet.quiet(name))
    assert [len(log) for log in fleet.logs()] == before


async def test_a_log_that_was_lost_is_written_again_from_the_others(fleet: Fleet) -> None:
    ring = await fleet.quiet("a")
    await ring.append([row("m")])
    await ring.append([row("x")])
    fleet.servers[1].lose_log()
    assert not await read(ring, ring._log.reached)
    assert fleet.servers[1].log == fleet.servers[0].log


async def test_a_failover_that_lost_the_last_rows_is_made_good(fleet: Fleet) -> None:
    ring = await fleet.quiet("a")
    await ring.append([row("m")])
    await ring.append([row("x")])
    fleet.servers[1].lose_log(keep=2)
    await read(ring)
    assert fleet.servers[1].log == fleet.servers[0].log


async def test_when_all_logs_are_lost_everything_is_void_once(fleet: Fleet) -> None:
    rings = [await fleet.quiet(name) for name in "abc"]
    await rings[0].append([row("m")])
    for ring in rings:
        await read(ring)
    reached = rings[0]._log.reached
    for server in fleet.servers:
        server.lose_log()
    for ring in rings:
        await ring._log.refresh()
        assert [one.row for one in ring.tail_now(reached).rows] == [EVERYTHING]
    assert [[one.row for one in log] for log in fleet.logs()] == [[EVERYTHING]] * 3


async def test_when_the_latest_rows_are_lost_everywhere_everything_is_void(fleet: Fleet) -> None:
    ring = await fleet.quiet("a")
    await ring.append([row("m")])
    reached = ring._log.reached
    for server in fleet.servers:
        server.lose_log(keep=1)
    await ring._log.refresh()
    assert [one.row for one in ring.tail_now(reached).rows] == [EVERYTHING]


async def test_own_rows_are_read_back_at_once(fleet: Fleet) -> None:
    ring = await fleet.quiet("a")
    receipt = await ring.append([row("m")])
    assert ring.proof_age_s < 1.0
    assert ring.tail_now(START).position == receipt.position


async def test_rows_that_could_not_be_read_back_leave_no_proof(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = await fleet.quiet("a")
    log = ring._log
    align, appended = log._align, False

    async def fails_afterwards(*args: object) -> frozenset[str]:
        if appended:
            raise CoordinatorError("gone")
        return await align(*args)  # type: ignore[arg-type]

    append = log._logs.append

    async def then_fail(members: list[Member], rows: list[InvalidationRow], at: Position) -> int:
        nonlocal appended
        takers = await append(members, rows, at)
        appended = True
        return takers

    monkeypatch.setattr(log, "_align", fails_afterwards)
    monkeypatch.setattr(log._logs, "append", then_fail)
    await ring.append([row("m")])
    assert ring.proof_age_s == math.inf
    monkeypatch.undo()
    assert (await ring.fetch((), START)).rows[-1].row == row("m")


async def test_who_is_called_off_with_what_it_waits_for_ends(fleet: Fleet) -> None:
    """An event loop that ends cancels all tasks at once: nobody may go on after that."""
    ring = await fleet.quiet("a")
    fleet.network.delay_s = 0.01
    calling = asyncio.ensure_future(ring._log.refresh())
    await asyncio.sleep(0)
    for task in (calling, *ring._log._reading):
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


async def test_the_proof_dates_from_when_reading_began(fleet: Fleet, clock: FakeClock) -> None:
    ring = await fleet.quiet("a", timeout_s=5.0)
    await ring._log.refresh()
    clock.advance(0.4)
    assert ring.proof_age_s == pytest.approx(0.4)
    fleet.network.delay_s = 0.01
    reading = asyncio.ensure_future(ring._log.refresh())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.advance(0.3)  # this process was stopped, say
    await reading
    assert ring.proof_age_s == pytest.approx(0.3)


async def test_a_node_that_does_not_answer_and_is_not_down_leaves_no_new_proof(
    fleet: Fleet, clock: FakeClock
) -> None:
    """It may be the only one that took a row."""
    ring = await fleet.quiet("a")
    fleet.network.links["a", "n1"] = Link.HUNG
    for age_s in (1.0, 2.0):
        clock.advance(1.0)
        await ring._log.refresh()
        assert ring.proof_age_s == pytest.approx(age_s)
    clock.advance(1.0)
    await ring._log.refresh()  # the third failure in a row
    await ring._log.refresh()
    assert states(ring)[1] is NodeState.DOWN
    assert ring.proof_age_s == 0.0


async def test_a_position_from_elsewhere_proves_nothing(fleet: Fleet) -> None:
    ring = await fleet.quiet("a")
    asked = Position(ring._log.reached + 1_000_000)
    tail = ring.tail_now(asked)
    assert tail.is_rewound
    assert ring.proof_age_s == math.inf
    fetched = await ring.fetch((), asked)
    assert fetched.is_rewound
    assert fetched.position > asked
    assert ring.proof_age_s < math.inf
    assert all(log[-1].row == EVERYTHING for log in fleet.logs())


async def test_an_entry_captured_further_on_makes_the_reader_catch_up(
    fleet: Fleet, clock: FakeClock
) -> None:
    maker, reader = await fleet.quiet("a"), await fleet.quiet("b")
    receipt = await maker.append([row("x")])
    made = entry_of("m", receipt.position)
    assert await maker.store(KEY, made)
    fetched = await reader.fetch((KEY,), START)  # its proof is young
    assert list(fetched.entries) == [made]
    assert fetched.position == receipt.position


async def test_an_entry_captured_where_no_log_has_been_is_a_miss(fleet: Fleet) -> None:
    """It was captured in logs that are no more."""
    ring = await fleet.quiet("a")
    await ring.store(KEY, entry_of("m", Position(ring._log.reached + 1)))
    assert list((await ring.fetch((KEY,), START)).entries) == [None]


async def test_many_who_read_at_once_share_one_read(fleet: Fleet, clock: FakeClock) -> None:
    ring = await fleet.quiet("a")
    clock.advance(10.0)
    before = member(ring, "n0").ops
    await asyncio.gather(*(ring.fetch((), START) for _ in range(50)))
    assert member(ring, "n0").ops <= before + 2


async def test_who_stops_waiting_does_not_stop_the_others(fleet: Fleet, clock: FakeClock) -> None:
    ring = await fleet.quiet("a")
    clock.advance(10.0)
    waiting = [asyncio.ensure_future(ring.fetch((), START)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    assert (await waiting[1]).position == ring._log.reached
    await asyncio.wait(waiting)


async def test_closing_is_an_error_for_who_still_reads_and_no_cancellation(
    fleet: Fleet, clock: FakeClock
) -> None:
    ring = await fleet.quiet("a", timeout_s=5.0)
    clock.advance(10.0)
    for server in fleet.servers:
        server.is_paused = True
    reading = asyncio.ensure_future(ring.fetch((), START))
    await asyncio.sleep(0.01)
    await ring.aclose()
    with pytest.raises(CoordinatorError):
        await reading


async def test_concurrent_appends_of_many_processes_all_stay(fleet: Fleet) -> None:
    rings = [await fleet.quiet(name) for name in "abcd"]
    fleet.network.delay_s = 0.001
    names = [f"{ring}-{number}" for ring in range(4) for number in range(5)]
    await asyncio.gather(*(rings[int(name[0])].append([row(name)]) for name in names))
    for ring in rings:
        await ring._log.refresh()
    for ring in [*rings, await fleet.quiet("new")]:
        assert {one.scope for one in await read(ring)} == {row(name).scope for name in names}


async def test_a_node_that_hangs_while_it_joins_holds_up_nobody(fleet: Fleet) -> None:
    """Its log may be long, so it gets time; the others' logs are read meanwhile."""
    ring = await fleet.quiet("a")
    fleet.network.links["a", "n1"] = Link.REFUSED
    await ring._log.refresh()
    ring._log.forget("n1")
    fleet.network.links["a", "n1"] = Link.HUNG
    member(ring, "n1").health.answers()
    joining = asyncio.ensure_future(ring._log.join([member(ring, "n1")]))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(0.5):
        await ring._log.refresh()
    assert not joining.done()
    await ring.aclose()
    joining.cancel()
    await asyncio.wait((joining,))


async def test_what_a_joining_node_gets_while_its_log_is_read_is_not_overlooked(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = await fleet.quiet("a")
    fleet.network.links["a", "n1"] = Link.REFUSED
    await ring._log.refresh()
    fleet.network.links.clear()
    ring._log.forget("n1")
    member(ring, "n1").health.answers()
    read_whole = ring._log._logs.read_whole

    async def then_append(joining: list[Member]) -> None:
        await read_whole(joining)
        fleet.servers[1].extend([row("m")], Position(fleet.servers[1].top + 10))

    monkeypatch.setattr(ring._log._logs, "read_whole", then_append)
    await ring._log.join([member(ring, "n1")])
    assert states(ring) == [NodeState.UP] * 3
    assert await read(ring) == [row("m")]


async def test_a_node_is_not_up_to_date_because_this_process_overslept(
    fleet: Fleet, clock: FakeClock
) -> None:
    """It is not blamed for the silence, but nor is it known to have the log."""
    ring = await fleet.quiet("a")
    fleet.network.links["a", "n1"] = Link.REFUSED
    await ring._log.refresh()
    fleet.network.links["a", "n1"] = Link.HUNG
    member(ring, "n1").health.answers()
    asyncio.get_running_loop().call_later(0.001, clock.advance, 10.0)
    await ring._log.join([member(ring, "n1")])
    assert not member(ring, "n1").health.is_serving


async def test_a_node_that_answers_but_takes_no_append_goes_down_over_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full, say. It could be read, and would tell that nothing has happened."""
    ring = await fleet.quiet("a")
    append_at = SimulatedNode.append_at

    async def is_full(self: SimulatedNode, rows: Sequence[InvalidationRow], at: Position) -> bool:
        if self.name == "n1":
            raise CoordinatorError("full")
        return await append_at(self, rows, at)

    monkeypatch.setattr(SimulatedNode, "append_at", is_full)
    assert (await ring.append([row("m")])).replicas_acknowledged == 1
    assert states(ring)[1] is NodeState.DOWN


async def test_an_append_that_loses_at_the_first_node_was_written_nowhere_else(
    fleet: Fleet,
) -> None:
    """Every process asks the same node first, so two appenders do not cross."""
    ring = await fleet.quiet("a")
    at = ring._log._propose(())
    fleet.servers[0].extend([row("x")], at)
    members = list(reversed(ring._members.serving()))
    assert await ring._log._logs.append(members, [row("m")], at) == 0
    assert [len(log) for log in fleet.logs()] == [2, 1, 1]


async def test_a_log_begins_at_the_same_node_in_every_process(fleet: Fleet) -> None:
    ring = await fleet.quiet("a")
    for server in fleet.servers:
        server.lose_log()
    await ring._log._logs.begin(list(reversed(ring._members.serving())), START)
    assert [len(log) for log in fleet.logs()] == [1, 0, 0]


async def test_of_rows_to_push_none_overtakes_one_that_was_refused(fleet: Fleet) -> None:
    ring = await fleet.quiet("a")
    top = fleet.servers[1].top
    rows = [LoggedRow(Position(top + offset), row(f"m{offset}")) for offset in (0, 5)]
    await ring._log._logs.push([member(ring, "n1")], {"n1": rows})
    assert fleet.servers[1].top == top
    await ring._log._logs.push([member(ring, "n1")], {"n1": rows[1:]})
    assert fleet.servers[1].log[-1] == rows[1]


async def test_an_append_fails_when_the_last_node_goes_down_after_its_log_was_read(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that runs meanwhile may find out first."""
    ring = await fleet.quiet("a")
    align = ring._log._align

    async def then_all_go_down(members: Sequence[Member]) -> frozenset[str]:
        in_line = await align(members)
        for one in members:
            one.health.failed(0.0, 0.0, was_refused=True)
        return in_line

    monkeypatch.setattr(ring._log, "_align", then_all_go_down)
    with pytest.raises(CoordinatorError):
        await ring.append([row("m")])
