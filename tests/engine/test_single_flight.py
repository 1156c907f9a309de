"""One computation for all who want the same value; failures stay with whom they happened to."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from routecache_middleware.core.events import Finished, WaitFinished
from routecache_middleware.core.models import Outcome, Position
from routecache_middleware.core.ports import OpenOperation
from routecache_middleware.engine.single_flight import SingleFlight
from routecache_middleware.testing.clock import FakeClock

KEY = "route:x"


class Waiting:
    traceparent = ""
    is_watched = True

    def __init__(self, ended: list[WaitFinished]) -> None:
        self._ended = ended

    def finish(self, record: Finished) -> None:
        assert isinstance(record, WaitFinished)
        self._ended.append(record)


class Caller:
    """Wants what ``compute`` makes."""

    def __init__(
        self,
        compute: Callable[[], Awaitable[object]],
        *,
        position: int = 0,
        invalidated: list[int] | None = None,
    ) -> None:
        self.position = Position(position)
        self.traceparent = "00-leader"
        self.make = compute
        self.entry = None
        self.waits = 0
        self.ended: list[WaitFinished] = []
        self._invalidated = [] if invalidated is None else invalidated

    make: Callable[[], Any]

    def lead(self, *, is_promoted: bool) -> Awaitable[object]:
        made: Awaitable[object] = self.make()
        return made

    def may_join(self, position: Position) -> bool:
        return not any(row > position for row in self._invalidated)

    def may_share(self, value: object, position: Position) -> bool:
        return self.may_join(position)

    def begin_waiting(self) -> OpenOperation:
        self.waits += 1
        return Waiting(self.ended)


class Upstream:
    """Counts calls, and ends each when told: with a value, or with an error of its own."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Future[object]] = []

    async def __call__(self) -> object:
        call: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.calls.append(call)
        return await call


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def flights(clock: FakeClock) -> SingleFlight[object]:
    return SingleFlight(clock)


def start(
    flights: SingleFlight[object], upstream: Upstream, count: int, **options: Any
) -> list[asyncio.Task[Any]]:
    return [
        asyncio.ensure_future(flights.run(KEY, Caller(upstream, **options))) for _ in range(count)
    ]


def assert_nothing_is_left(flights: SingleFlight[object]) -> None:
    assert len(flights) == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_fifty_callers_make_one_computation(flights: SingleFlight[object]) -> None:
    upstream = Upstream()
    tasks = start(flights, upstream, 50)
    await settle()
    assert len(upstream.calls) == 1
    assert len(flights) == 1
    upstream.calls[0].set_result("value")
    flown = await asyncio.gather(*tasks)
    assert [one.value for one in flown] == ["value"] * 50
    assert [one.is_shared for one in flown] == [False] + [True] * 49
    assert_nothing_is_left(flights)


async def test_a_later_caller_computes_anew(flights: SingleFlight[object]) -> None:
    upstream = Upstream()
    for number in range(2):
        (task,) = start(flights, upstream, 1)
        await settle()
        upstream.calls[number].set_result(number)
        assert (await task).value == number


async def test_a_leaders_error_is_its_own_and_one_follower_is_promoted(
    flights: SingleFlight[object],
) -> None:
    upstream = Upstream()
    tasks = start(flights, upstream, 10)
    await settle()
    upstream.calls[0].set_exception(ValueError("first"))
    await settle()
    assert len(upstream.calls) == 2  # exactly one
    upstream.calls[1].set_result("value")
    ended: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(ended[0], ValueError)
    assert [one.value for one in ended[1:]] == ["value"] * 9
    assert [one.is_shared for one in ended[1:]].count(False) == 1
    assert_nothing_is_left(flights)


async def test_after_two_failures_everybody_goes_alone_for_a_second(
    flights: SingleFlight[object], clock: FakeClock
) -> None:
    """Errors are only ever the caller's own."""
    upstream = Upstream()
    tasks = start(flights, upstream, 10)
    await settle()
    upstream.calls[0].set_exception(ValueError("0"))
    await settle()
    upstream.calls[1].set_exception(ValueError("1"))
    await settle()
    assert len(upstream.calls) == 10
    clock.advance(0.999)
    (newcomer,) = start(flights, upstream, 1)
    await settle()
    assert len(upstream.calls) == 11
    for number, call in enumerate(upstream.calls[2:], 2):
        call.set_exception(ValueError(str(number)))
    ended = await asyncio.gather(*tasks, newcomer, return_exceptions=True)
    assert {str(error) for error in ended} == {str(number) for number in range(11)}
    clock.advance(0.001)
    later = start(flights, upstream, 5)
    await settle()
    assert len(upstream.calls) == 12  # together again
    upstream.calls[11].set_result("value")
    await asyncio.gather(*later)
    assert_nothing_is_left(flights)


async def test_a_success_in_between_forgets_the_failure(flights: SingleFlight[object]) -> None:
    upstream = Upstream()
    for _ in range(3):  # each time one failure, then a promotion that works
        tasks = start(flights, upstream, 5)
        await settle()
        upstream.calls[-1].set_exception(ValueError("mine"))
        await settle()
        upstream.calls[-1].set_result("value")
        await asyncio.gather(*tasks, return_exceptions=True)
    assert len(upstream.calls) == 6


async def test_a_failure_nobody_waited_for_is_no_reason_to_go_alone(
    flights: SingleFlight[object],
) -> None:
    upstream = Upstream()
    for number in range(3):
        (task,) = start(flights, upstream, 1)
        await settle()
        upstream.calls[number].set_exception(ValueError("mine"))
        with pytest.raises(ValueError, match="mine"):
            await task
    tasks = start(flights, upstream, 5)
    await settle()
    assert len(upstream.calls) == 4
    upstream.calls[3].set_result("value")
    await asyncio.gather(*tasks)


async def test_a_cancelled_leader_leaves_its_followers_one_of_whom_takes_over(
    flights: SingleFlight[object],
) -> None:
    upstream = Upstream()
    leader, *followers = start(flights, upstream, 5)
    await settle()
    leader.cancel()
    await settle()
    assert leader.cancelled()
    assert len(upstream.calls) == 2
    upstream.calls[1].set_result("value")
    assert [one.value for one in await asyncio.gather(*followers)] == ["value"] * 4
    assert_nothing_is_left(flights)


async def test_a_cancelled_follower_disturbs_nobody(flights: SingleFlight[object]) -> None:
    upstream = Upstream()
    leader, follower, other = start(flights, upstream, 3)
    await settle()
    follower.cancel()
    await settle()
    assert follower.cancelled()
    assert len(upstream.calls) == 1
    upstream.calls[0].set_result("value")
    assert [(await task).value for task in (leader, other)] == ["value"] * 2
    assert_nothing_is_left(flights)


async def test_the_leaders_context_is_its_own(flights: SingleFlight[object]) -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    seen: list[str] = []

    async def compute() -> object:
        seen.append(who.get())
        await asyncio.sleep(0)
        who.set("compute")
        return who.get()

    async def call(name: str) -> str:
        who.set(name)
        await flights.run(KEY, Caller(compute))
        return who.get()

    assert list(await asyncio.gather(call("one"), call("two"))) == ["compute", "two"]
    assert seen == ["one"]


async def test_a_newcomer_does_not_join_a_doomed_flight(flights: SingleFlight[object]) -> None:
    upstream, rows = Upstream(), list[int]()
    first = start(flights, upstream, 3, invalidated=rows)
    await settle()
    rows.append(1)
    second = start(flights, upstream, 3, invalidated=rows, position=1)
    await settle()
    assert len(upstream.calls) == 2
    upstream.calls[0].set_result("old")
    leader, *followers = await asyncio.gather(*first)
    assert leader.value == "old"  # it asked before the invalidation
    assert followers == [None, None]  # they look it up again
    third = start(flights, upstream, 1, invalidated=rows, position=1)
    await settle()
    assert len(upstream.calls) == 2  # the end of the doomed flight left the other one open
    upstream.calls[1].set_result("new")
    for flown in await asyncio.gather(*second, *third):
        assert flown.value == "new"
    assert_nothing_is_left(flights)


async def test_a_wait_is_told_once_however_it_ends(flights: SingleFlight[object]) -> None:
    upstream = Upstream()
    callers = [Caller(upstream) for _ in range(4)]
    tasks = [asyncio.ensure_future(flights.run(KEY, caller)) for caller in callers]
    await settle()
    tasks[1].cancel()
    await settle()
    upstream.calls[0].set_exception(ValueError())
    await settle()
    upstream.calls[1].set_result("value")
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [caller.waits for caller in callers] == [0, 1, 1, 2]
    outcomes = [[record.outcome for record in caller.ended] for caller in callers]
    error, shared = Outcome.ERROR, Outcome.COALESCED
    assert outcomes == [[], [error], [error], [error, shared]]
    assert callers[3].ended[1].leader == "00-leader"


async def test_a_computation_that_wants_its_own_value_does_not_wait_for_itself(
    flights: SingleFlight[object],
) -> None:
    async def inner() -> object:
        return "inner"

    async def outer() -> object:
        flown = await flights.run(KEY, Caller(inner))
        return flown and flown.value

    flown = await asyncio.wait_for(flights.run(KEY, Caller(outer)), 5)
    assert flown is not None
    assert flown.value == "inner"
    assert_nothing_is_left(flights)


def test_a_flight_of_another_event_loop_is_not_waited_for(clock: FakeClock) -> None:
    flights: SingleFlight[object] = SingleFlight(clock)
    upstream = Upstream()

    async def value() -> object:
        return "value"

    async def here() -> object:
        flown = await flights.run(KEY, Caller(value))
        return flown and flown.value

    abandoned = asyncio.new_event_loop()
    task = abandoned.create_task(flights.run(KEY, Caller(upstream)))
    abandoned.run_until_complete(asyncio.sleep(0))
    try:
        assert asyncio.run(here()) == "value"
    finally:
        task.cancel()
        abandoned.run_until_complete(asyncio.gather(task, return_exceptions=True))
        abandoned.close()
    assert len(flights) == 0
