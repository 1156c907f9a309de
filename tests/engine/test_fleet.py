"""Get-or-compute over several processes, and the parts of it (design 9)."""

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Self

import pytest

from routecache_middleware import ModelMetadata, QueryResult, RoutingDecision
from routecache_middleware.core.budget import current_budget, open_budget
from routecache_middleware.core.events import Operation, WaitFinished
from routecache_middleware.core.invalidation import InvalidationRow, LoggedRow, model_scope
from routecache_middleware.core.keys import Layer, route_key
from routecache_middleware.core.models import DiscardReason, Entry, Outcome, Position
from routecache_middleware.core.ports import Fetched, Gap, Leader, Parallel, Released
from routecache_middleware.engine.leases import Placing, after_discard_s, after_placing_s
from routecache_middleware.engine.wakeups import WakeUps
from routecache_middleware.errors import CoordinatorError
from tests.engine.test_engine import Watcher
from tests.support.asgi import settle
from tests.support.fleets import Link, Process, new_store
from tests.support.virtual_time import LoopClock, in_virtual_time

HASH = "ab" * 16
KEY = route_key(HASH)


class Router:
    """Decides when told, and counts how often it was asked."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Future[RoutingDecision]] = []

    async def __call__(self) -> RoutingDecision:
        call: asyncio.Future[RoutingDecision] = asyncio.get_running_loop().create_future()
        self.calls.append(call)
        return await call

    def decide(self, at: int = 0, model: str = "m") -> None:
        self.calls[at].set_result(RoutingDecision(model, 0.5, (("second", 0.4),)))

    def fail(self, at: int = 0) -> None:
        self.calls[at].set_exception(OSError("the router failed"))


class Fleet(AsyncExitStack):
    def __init__(self, size: int = 3, **options: object) -> None:
        super().__init__()
        self.store = new_store()
        self.processes = [Process(self.store, **options) for _ in range(size)]  # type: ignore[arg-type]
        self.router = Router()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        for process in self.processes:
            await self.enter_async_context(process)
        return self

    def route(self, at: int, **options: object) -> "asyncio.Task[RoutingDecision]":
        cache = self.processes[at].cache
        return asyncio.ensure_future(cache.route(HASH, self.router, **options))  # type: ignore[arg-type]

    async def lease_is_free(self) -> bool:
        acquired = await self.store.acquire(KEY, token="probe", ttl_s=0.001)
        await self.store.release(KEY, token="probe")
        return isinstance(acquired, Leader)


def counted(process: Process) -> dict[str, int]:
    counters = process.cache.engine.recorder.layers[Layer.ROUTING]
    return {name: count for name in counters.__slots__ if (count := getattr(counters, name))}


@in_virtual_time
async def test_one_decision_is_made_for_all_processes() -> None:
    async with Fleet() as fleet:
        tasks = [fleet.route(at % 3) for at in range(30)]
        await asyncio.sleep(20)
        assert len(fleet.router.calls) == 1
        fleet.router.decide()
        found = await asyncio.gather(*tasks)
        assert {one.selected_model for one in found} == {"m"}
        outcomes = sorted(one.outcome for one in found)
        assert outcomes == [Outcome.COALESCED] * 29 + [Outcome.MISS]
        assert counted(fleet.processes[0]) == {"misses": 1, "coalesced": 9, "writes": 1}
        assert counted(fleet.processes[1]) == {"coalesced": 10}


@in_virtual_time
async def test_answers_and_metadata_are_made_once_too() -> None:
    async with Fleet(2) as fleet:
        calls: list[str] = []

        async def answer() -> bytes:
            calls.append("answer")
            await asyncio.sleep(10)
            return b"{}"

        async def load(model_id: str) -> ModelMetadata:
            calls.append("load")
            await asyncio.sleep(10)
            return ModelMetadata(model_id, {"tools": True})

        caches = [process.cache for process in fleet.processes]
        answers: list[QueryResult] = await asyncio.gather(
            *(cache.result(HASH, "m", answer) for cache in caches)
        )
        loaded = await asyncio.gather(*(cache.metadata("m", load) for cache in caches))
        assert calls == ["answer", "load"]
        assert [one.result_data for one in answers] == [b"{}"] * 2
        assert [one.capabilities for one in loaded] == [{"tools": True}] * 2


@in_virtual_time
async def test_what_appears_before_the_lease_was_asked_for_is_a_hit() -> None:
    async with Fleet(2) as fleet:
        first = fleet.route(0)
        await settle()
        link, asked = fleet.processes[1].link, asyncio.Event()
        link.on_call = lambda method: asked.set() if method == "acquire" else None
        link.delay = lambda: 1.0
        second = fleet.route(1)
        third = fleet.route(1)
        await asked.wait()
        fleet.router.decide()
        assert (await first).outcome is Outcome.MISS
        assert (await second).outcome is Outcome.HIT
        assert (await third).outcome is Outcome.COALESCED
        assert (await second).age_s > 0
        assert counted(fleet.processes[1]) == {"hits": 1, "coalesced": 1}


@in_virtual_time
async def test_each_local_follower_takes_out_of_the_entry_what_will_do_for_it() -> None:
    """``eligible`` is the caller's own."""
    async with Fleet(2) as fleet:
        first = fleet.route(0)
        await settle()
        picky = fleet.route(1, eligible=lambda model: model == "second")
        await settle()
        plain = fleet.route(1)
        await settle()
        fleet.router.decide()
        assert (await first).selected_model == "m"
        assert (await picky).selected_model == "second"
        assert (await plain).selected_model == "m"


@in_virtual_time
async def test_an_entry_that_will_not_do_is_made_anew_by_who_cannot_use_it() -> None:
    async with Fleet(2) as fleet:
        first = fleet.route(0)
        await settle()
        picky = fleet.route(1, eligible=lambda model: model == "third")
        await settle()
        fleet.router.decide()
        await first
        await settle()
        fleet.router.decide(1, "third")
        assert (await picky).selected_model == "third"


@in_virtual_time
async def test_of_several_who_cannot_use_it_one_makes_it_anew_for_the_rest() -> None:
    """Within a process and over processes; also for who had joined it."""
    async with Fleet(3) as fleet:
        first = fleet.route(0)
        await settle()
        picky = [fleet.route(at, eligible=lambda model: model == "third") for at in (1, 2, 2)]
        await settle()
        joined = fleet.route(1)
        await settle()
        fleet.router.decide()
        assert (await first).selected_model == "m"
        await asyncio.sleep(1)
        assert len(fleet.router.calls) == 2
        fleet.router.decide(1, "third")
        found = await asyncio.gather(*picky, joined)
        assert {one.selected_model for one in found} == {"third"}


@in_virtual_time
async def test_a_local_follower_that_cannot_use_what_was_found_looks_for_itself() -> None:
    async with Fleet(2) as fleet:
        first = fleet.route(0)
        await settle()
        plain = fleet.route(1)
        await settle()
        picky = fleet.route(1, eligible=lambda model: model == "third")
        await settle()
        fleet.router.decide()
        assert (await first).selected_model == (await plain).selected_model == "m"
        await settle()
        fleet.router.decide(1, "third")
        assert (await picky).selected_model == "third"


@in_virtual_time
async def test_who_finds_useless_entries_again_and_again_goes_alone() -> None:
    """Somebody who has not heard of an invalidation stores them as fast as they are read."""
    async with Fleet(2) as fleet:
        process = fleet.processes[0]
        await process.cache.invalidate_model("m")
        bodies = iter(range(100))

        def on_call(method: str) -> None:
            if method == "acquire":
                now_s, scopes = LoopClock().now_s(), (model_scope("m"),)
                body = str(next(bodies)).encode()
                fleet.store.store_now(KEY, Entry(Layer.ROUTING, body, now_s, 60, scopes=scopes))

        process.link.on_call = on_call
        task = fleet.route(0)
        await settle()
        assert process.link.calls["acquire"] == 3
        fleet.router.decide()
        assert (await task).outcome is Outcome.MISS


@in_virtual_time
async def test_an_error_is_its_callers_alone_and_one_other_is_promoted() -> None:
    async with Fleet(4) as fleet:
        tasks = [fleet.route(at) for at in range(4)]
        await settle()
        fleet.router.fail(0)
        await settle()
        assert len(fleet.router.calls) == 2
        fleet.router.fail(1)
        await settle()
        assert len(fleet.router.calls) == 4
        fleet.router.decide(2)
        fleet.router.decide(3)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(one, OSError) for one in found] == [True, True, False, False]


@in_virtual_time
async def test_who_was_promoted_within_a_process_counts_as_promoted_for_all() -> None:
    async with Fleet(3) as fleet:
        tasks = [fleet.route(0), fleet.route(0)]
        await settle()
        fleet.router.fail(0)
        await settle()
        assert len(fleet.router.calls) == 2
        tasks += [fleet.route(1), fleet.route(2)]
        await settle()
        assert len(fleet.router.calls) == 2
        fleet.router.fail(1)
        await settle()
        assert len(fleet.router.calls) == 4
        fleet.router.decide(2)
        fleet.router.decide(3)
        await asyncio.gather(*tasks, return_exceptions=True)


@in_virtual_time
async def test_a_cancelled_leader_is_no_failure_and_gives_the_lease_back() -> None:
    async with Fleet(3) as fleet:
        for at in range(3):
            task = fleet.route(at)
            await settle()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await settle()
            assert await fleet.lease_is_free()


@in_virtual_time
async def test_a_cancelled_waiter_leaves_nothing_behind() -> None:
    async with Fleet(2) as fleet:
        first = fleet.route(0)
        await settle()
        waiting = fleet.route(1)
        await settle()
        assert fleet.processes[1].link.listeners == 1
        waiting.cancel()
        await settle()
        assert fleet.processes[1].link.listeners == 0
        fleet.router.decide()
        await first


@in_virtual_time
async def test_who_waited_too_long_goes_alone_and_stores_only_when_the_lease_is_free() -> None:
    async with Fleet(2, max_wait_s=3.0) as fleet:
        first, late = fleet.route(0), fleet.route(1)
        await asyncio.sleep(4)
        fleet.router.decide(1, "late")
        assert (await late).selected_model == "late"
        assert counted(fleet.processes[1]) == {"misses": 1, "discards": 1}
        fleet.router.decide(0, "first")
        assert (await first).selected_model == "first"
        assert (await fleet.route(1)).selected_model == "first"


@in_virtual_time
async def test_who_waited_too_long_stores_when_the_leader_has_failed_meanwhile() -> None:
    async with Fleet(2, max_wait_s=3.0) as fleet:
        first, late = fleet.route(0), fleet.route(1)
        await asyncio.sleep(4)
        fleet.router.fail(0)
        with pytest.raises(OSError, match="router"):
            await first
        await settle()
        fleet.router.decide(1, "late")
        await late
        await settle()
        assert counted(fleet.processes[1]) == {"misses": 1, "writes": 1}
        assert await fleet.lease_is_free() is False  # found: the entry is there


@pytest.mark.parametrize("trouble", ["acquire", "append"])
def test_who_waited_too_long_stores_nothing_when_the_lease_cannot_be_asked_for(
    trouble: str,
) -> None:
    """Or when it was invalidated meanwhile and that could not be recorded."""

    @in_virtual_time
    async def test() -> None:
        async with Fleet(2, max_wait_s=3.0) as fleet:
            first, late = fleet.route(0), fleet.route(1)
            await asyncio.sleep(4)
            process = fleet.processes[1]
            process.link.broken.add(trouble)
            if trouble == "append":
                with pytest.raises(CoordinatorError):
                    await process.cache.invalidate_routing_decision(HASH)
            fleet.router.decide(1)
            assert (await late).selected_model == "m"
            assert counted(process) == {"misses": 1, "discards": 1}
            process.link.broken.clear()
            fleet.router.decide(0)
            await first

    test()


@pytest.mark.parametrize("broken", ["acquire", "release", "renew"])
def test_leases_that_fail_fail_nobody(broken: str) -> None:
    @in_virtual_time
    async def test() -> None:
        async with Fleet(2) as fleet:
            for process in fleet.processes:
                process.link.broken.add(broken)
            tasks = [fleet.route(at % 2) for at in range(4)]
            await asyncio.sleep(1)
            for call in range(len(fleet.router.calls)):
                fleet.router.decide(call)
            found = await asyncio.gather(*tasks)
            assert {one.selected_model for one in found} == {"m"}
            assert len(fleet.router.calls) == (2 if broken == "acquire" else 1)

    test()


@in_virtual_time
async def test_after_a_failed_lookup_no_lease_is_asked_for_and_nothing_is_stored() -> None:
    async with Fleet(1) as fleet:
        link = fleet.processes[0].link
        link.broken.add("fetch")
        tasks = [fleet.route(0) for _ in range(3)]
        await settle()
        fleet.router.decide()
        found = await asyncio.gather(*tasks)
        assert [one.outcome for one in found] == [Outcome.ERROR] + [Outcome.COALESCED] * 2
        assert link.calls["acquire"] == link.calls["store"] == 0
        assert counted(fleet.processes[0]) == {"errors": 1, "coalesced": 2, "write_errors": 1}


@pytest.mark.parametrize("options", [{"store": False}, {"refresh": True}])
def test_what_is_not_for_all_takes_no_lease(options: dict[str, bool]) -> None:
    @in_virtual_time
    async def test() -> None:
        async with Fleet(2) as fleet:
            tasks = [fleet.route(at, **options) for at in range(2)]
            await settle()
            assert len(fleet.router.calls) == 2
            fleet.router.decide(0)
            fleet.router.decide(1)
            await asyncio.gather(*tasks)
            assert sum(process.link.calls["acquire"] for process in fleet.processes) == 0

    test()


@pytest.mark.parametrize("ttl_s", [0.0, None])
def test_a_value_that_cannot_be_stored_leaves_a_marker(ttl_s: float | None) -> None:
    """Nobody waits for the next one; a value that can be stored leaves none."""

    @in_virtual_time
    async def test() -> None:
        async with Fleet(2) as fleet:
            task = fleet.route(0, ttl_s=ttl_s)
            await settle()
            fleet.router.decide()
            await task
            await settle()
            await fleet.store.delete(KEY)
            acquired = await fleet.store.acquire(KEY, token="probe", ttl_s=1)
            assert isinstance(acquired, Parallel) == (ttl_s == 0)

    test()


@in_virtual_time
async def test_a_mode_that_changed_meanwhile_stores_nothing_and_gives_the_lease_back() -> None:
    async with Fleet(1) as fleet:
        task = fleet.route(0)
        await settle()
        fleet.processes[0].cache.mode = "read_only"
        fleet.router.decide()
        await task
        await settle()
        assert await fleet.lease_is_free()


@in_virtual_time
async def test_a_leader_that_asks_for_the_same_key_within_does_not_wait_for_itself() -> None:
    async with Fleet(1) as fleet:
        cache = fleet.processes[0].cache

        async def inner() -> RoutingDecision:
            return RoutingDecision("inner")

        async def outer() -> RoutingDecision:
            return await cache.route(HASH, inner)

        assert (await cache.route(HASH, outer)).selected_model == "inner"


@in_virtual_time
async def test_an_invalidation_while_it_waits_makes_a_waiter_take_over() -> None:
    async with Fleet(3) as fleet:
        doomed, waiting = fleet.route(0), fleet.route(1)
        await settle()
        await fleet.processes[2].cache.invalidate_routing_decision(HASH)
        await settle()
        assert len(fleet.router.calls) == 2
        fleet.router.decide(0, "old")
        fleet.router.decide(1, "new")
        assert (await doomed).selected_model == "old"
        assert (await waiting).selected_model == "new"
        assert (await fleet.route(2)).selected_model == "new"


@in_virtual_time
async def test_the_wait_has_a_span_linked_to_who_stored_the_entry() -> None:
    watcher = Watcher()
    async with Fleet(1) as fleet, Process(fleet.store, observers=[watcher]) as watched:
        first = asyncio.ensure_future(watched.cache.route(HASH, fleet.router))
        await settle()
        other = Watcher()
        async with Process(fleet.store, observers=[other]) as second:
            waiting = asyncio.ensure_future(second.cache.route(HASH, fleet.router))
            await settle()
            fleet.router.decide()
            await asyncio.gather(first, waiting)
            waits = [record for _, record in other.finished if isinstance(record, WaitFinished)]
            leader = f"00-{1:032x}-{1:016x}-01"
            assert waits == [WaitFinished(Outcome.COALESCED, leader)]
            assert f"{Operation.WAIT} route" in other.begun
            assert other.all_are_finished()


@in_virtual_time
async def test_within_a_request_the_store_is_nobodys_wait_and_has_no_budget() -> None:
    """What a slow lookup left of the budget must not keep the decision from being stored."""
    async with Fleet(1) as fleet:
        link, budgets = fleet.processes[0].link, []

        def on_call(method: str) -> None:
            if method == "store":
                budgets.append(current_budget())

        link.on_call = on_call
        with open_budget(0.05):
            task = fleet.route(0)
            await settle()
            link.delay = lambda: 5.0
            fleet.router.decide()
            began_s = asyncio.get_running_loop().time()
            await task
        assert asyncio.get_running_loop().time() - began_s < 1
        await asyncio.sleep(20)
        assert budgets == [None]
        assert counted(fleet.processes[0]) == {"misses": 1, "writes": 1}


@in_virtual_time
async def test_waiting_is_no_part_of_the_budget_of_a_request() -> None:
    async with Fleet(2) as fleet:
        link, budgets = fleet.processes[1].link, []
        link.on_call = lambda method: (
            budgets.append(current_budget()) if method == "acquire" else None
        )
        first = fleet.route(0)
        await settle()
        with open_budget(0.05) as budget:
            waiting = fleet.route(1)
        await asyncio.sleep(3)
        fleet.router.decide()
        await asyncio.gather(first, waiting)
        assert budgets[0] is budget
        assert set(budgets[1:]) == {None}


@in_virtual_time
async def test_while_nobody_tells_anything_who_waits_asks_now_and_then() -> None:
    """At ``poll_s``, then less often, but at least once a second."""
    async with Fleet(2) as fleet:
        link = fleet.processes[1].link
        link.is_deaf = True
        first, waiting = fleet.route(0), fleet.route(1)
        await asyncio.sleep(10)
        assert 9 <= link.calls["acquire"] <= 18
        fleet.router.decide()
        await first
        began_s = asyncio.get_running_loop().time()
        assert (await waiting).outcome is Outcome.COALESCED
        assert asyncio.get_running_loop().time() - began_s < 1.3


@in_virtual_time
async def test_a_coordinator_that_wants_to_be_asked_often_is() -> None:
    async with Fleet(2, poll_s=0.01) as fleet:
        link = fleet.processes[1].link
        link.is_deaf = True
        first, waiting = fleet.route(0), fleet.route(1)
        await asyncio.sleep(1)
        assert 18 <= link.calls["acquire"] <= 40  # every 50 ms
        fleet.router.decide()
        await asyncio.gather(first, waiting)


@in_virtual_time
async def test_events_that_fail_leave_the_asking() -> None:
    class Mute(Link):
        def events(self) -> object:  # type: ignore[override]
            raise CoordinatorError("down")

    async with Fleet(2) as fleet:
        fleet.processes[1].cache.engine.fleet.wakeups._coordinator = Mute(fleet.store)  # type: ignore[union-attr]
        first, waiting = fleet.route(0), fleet.route(1)
        await settle()
        fleet.router.decide()
        assert (await first).selected_model == (await waiting).selected_model == "m"


@in_virtual_time
async def test_a_lease_is_renewed_at_a_third_of_its_life_until_it_is_given_back() -> None:
    async with Fleet(1, lease_ttl_s=6.0) as fleet:
        link = fleet.processes[0].link
        task = fleet.route(0)
        await asyncio.sleep(9.5)
        assert link.calls["renew"] == 4
        fleet.router.decide()
        await task
        await asyncio.sleep(10)
        assert link.calls["renew"] == 4


@in_virtual_time
async def test_a_lost_lease_is_not_renewed_any_more() -> None:
    async with Fleet(1) as fleet:
        link = fleet.processes[0].link
        task = fleet.route(0)
        await settle()
        fleet.store._leases.clear()
        await asyncio.sleep(10)
        assert link.calls["renew"] == 1
        fleet.router.decide()
        assert (await task).selected_model == "m"
        assert counted(fleet.processes[0]) == {"misses": 1, "discards": 1}


@pytest.mark.parametrize("reason", list(DiscardReason))
def test_each_reason_not_to_store_says_whether_others_would_wait_in_vain(
    reason: DiscardReason,
) -> None:
    first = after_discard_s(reason, is_promoted=False)
    second = after_discard_s(reason, is_promoted=True)
    match reason:
        case (
            DiscardReason.STATUS
            | DiscardReason.INCOMPLETE
            | DiscardReason.ERROR_BODY
            | DiscardReason.EMPTY
        ):
            assert (first, second) == (0.0, 1.0)
        case (
            DiscardReason.MODE
            | DiscardReason.NO_STORE
            | DiscardReason.DISABLED
            | DiscardReason.CAPTURE_FULL
        ):
            assert (first, second) == (0.0, 0.0)
        case _:
            assert (first, second) == (10.0, 10.0)


def test_what_does_not_fit_will_not_fit_next_time_either() -> None:
    waits = {placing: after_placing_s(placing) for placing in Placing}
    in_vain = {placing for placing, seconds in waits.items() if seconds == 10}
    assert in_vain == {Placing.TOO_LARGE, Placing.REFUSED}
    assert set(waits.values()) == {0.0, 10.0}


@in_virtual_time
async def test_a_wake_up_before_the_wait_is_not_lost() -> None:
    store, caught_up = new_store(), 0

    async def catch_up() -> None:
        nonlocal caught_up
        caught_up += 1

    wakeups = WakeUps(Link(store), catch_up)
    loop = asyncio.get_running_loop()
    with wakeups.expect(KEY) as mine, wakeups.expect(route_key("other")) as other:
        await settle()
        store._subscribers.publish(Released(KEY))
        await settle()
        began_s = loop.time()
        await mine.wait(5)
        assert loop.time() - began_s < 0.1
        await other.wait(5)
        assert loop.time() - began_s == pytest.approx(5, abs=0.1)
        assert caught_up == 0
        store._subscribers.publish(Gap())  # whatever was lost may have been for anybody
        await asyncio.gather(mine.wait(5), other.wait(5))
        assert loop.time() - began_s == pytest.approx(5, abs=0.1)
        assert caught_up == 1
    assert len(wakeups) == 0
    await wakeups.aclose()


@in_virtual_time
async def test_rows_and_a_rewound_log_are_learned_together_and_what_is_owed_stays() -> None:
    """Design 8: cold, never stale."""
    async with Fleet(1) as fleet:
        engine = fleet.processes[0].cache.engine
        fleet.processes[0].link.broken.add("append")
        with pytest.raises(CoordinatorError):
            await fleet.processes[0].cache.invalidate_model("owed")
        row = LoggedRow(Position(12), InvalidationRow(model_scope("m")))
        engine._learn(Fetched((), Position(12), [row], is_rewound=True))
        scopes, others = (model_scope("m"),), (model_scope("n"),)
        assert engine.table.position == 12
        assert not engine.is_current_since(KEY, scopes, Position(11))
        assert not engine.is_current_since(KEY, others, Position(11))
        assert engine.is_current_since(KEY, scopes, Position(12))
        assert engine.latest(KEY, scopes) == 12
        assert engine.latest(KEY, (model_scope("owed"),)) is None
        late = LoggedRow(Position(13), InvalidationRow(model_scope("m")))
        engine._learn(Fetched((), Position(12), [late], is_rewound=True))
        assert not engine.is_current_since(KEY, scopes, Position(12))
        assert engine.is_current_since(KEY, others, Position(12))
        fleet.processes[0].link.broken.clear()
