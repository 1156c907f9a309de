"""GuardedCoordinator: the contract, and that one that fails costs a request next to nothing.

Waits are real here: what is tested is asyncio's behaviour. Deadlines are short and bounds generous.
"""

import asyncio
import gc
import logging
import os
import random
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress

import pytest

from routecache_middleware.coordinators import outage, shielded
from routecache_middleware.coordinators.guarded import GuardedCoordinator
from routecache_middleware.core.budget import open_budget
from routecache_middleware.core.cluster import NodeState
from routecache_middleware.core.keys import CacheKey, Layer, result_key
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import (
    Coordinator,
    CoordinatorEvent,
    Fetched,
    Gap,
    Invalidated,
)
from routecache_middleware.errors import ConfigurationError, CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract import KEY, CoordinatorContract, row
from tests.support.faulty import FaultyCoordinator, ProbedCoordinator

TIMEOUT_S = 0.05
SOON_S = 0.04  # less than a deadline, far more than a turn of the loop


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def inner(clock: FakeClock) -> ProbedCoordinator:
    return ProbedCoordinator(clock)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What was logged so far."""
    caplog.set_level(logging.WARNING, "routecache")
    yield lambda: [record.getMessage() for record in caplog.records]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


@pytest.fixture
def _quick_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probe often, and believe soon."""
    monkeypatch.setattr(outage, "_FIRST_PROBE_S", 0.01)
    monkeypatch.setattr(outage, "_MAX_PROBE_S", 0.02)
    monkeypatch.setattr(outage, "_SETTLED_S", 0.02)


@pytest.fixture
async def guard(inner: ProbedCoordinator, clock: FakeClock) -> AsyncIterator[GuardedCoordinator]:
    guard = GuardedCoordinator(inner, clock=clock, timeout_s=TIMEOUT_S, write_timeout_s=TIMEOUT_S)
    await guard.open()
    yield guard
    inner.heal()
    await guard.aclose()


class TestContract(CoordinatorContract):
    @pytest.fixture(params=[FaultyCoordinator, ProbedCoordinator])
    async def coordinator(
        self, clock: FakeClock, request: pytest.FixtureRequest
    ) -> AsyncIterator[Coordinator]:
        guard = GuardedCoordinator(request.param(clock), clock=clock, timeout_s=5.0)
        await guard.open()
        yield guard
        await guard.aclose()


def entry_of(clock: FakeClock, body: bytes = b"{}") -> Entry:
    return Entry(
        layer=Layer.RESULT, body=body, created_s=clock.now_s(), freshness_lifetime_s=3600.0
    )


async def timed(call: Awaitable[object]) -> float:
    """How long a call takes that fails, seconds."""
    started_s = time.monotonic()
    with pytest.raises(CoordinatorError):
        await call
    return time.monotonic() - started_s


async def until(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.002)


async def open_reads(guard: GuardedCoordinator) -> None:
    """Let reads fail until they are not let through any more."""
    while guard.is_reading:
        await timed(guard.fetch((KEY,), START))


# -- deadlines and budgets


async def test_a_call_that_hangs_is_waited_for_until_the_deadline(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    inner.hang()
    assert TIMEOUT_S * 0.9 <= await timed(guard.fetch((KEY,), START)) <= 10 * TIMEOUT_S


async def test_the_error_of_a_missed_deadline_is_chained_and_names_the_deadline(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    inner.hang()
    with pytest.raises(CoordinatorError, match="no answer within 50 ms") as caught:
        await guard.fetch((KEY,), START)
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_all_calls_of_a_request_share_its_budget(
    inner: ProbedCoordinator, clock: FakeClock
) -> None:
    """Two slow calls that are each in time are not in time together."""
    guard = GuardedCoordinator(inner, clock=clock, timeout_s=1.0)
    inner.delay_s = 0.2
    with open_budget(0.3) as budget:
        assert budget is not None
        await guard.fetch((KEY,), START)
        assert 0.0 < budget.remaining_s <= 0.1
        assert await timed(guard.acquire(KEY, token="a", ttl_s=1.0)) < 0.18
        assert budget.remaining_s == 0.0
    await guard.aclose()


async def test_after_the_first_failure_a_request_asks_no_more(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    inner.fail("fetch")
    with open_budget(10.0):
        await timed(guard.fetch((KEY,), START))
        assert await timed(guard.acquire(KEY, token="a", ttl_s=1.0)) < SOON_S
    assert inner.asked["acquire"] == 0
    assert guard.is_writing
    await guard.acquire(KEY, token="a", ttl_s=1.0)  # the next request does


async def test_a_spent_budget_says_nothing_about_the_coordinator(
    guard: GuardedCoordinator,
) -> None:
    with open_budget(0.0):
        for _ in range(20):
            await timed(guard.fetch((KEY,), START))
    assert guard.is_reading


async def test_a_loop_that_stood_still_is_no_coordinator_that_hangs(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    """The answers came in while the app blocked the loop; the timers are due before they do."""
    inner.delay_s = TIMEOUT_S / 2
    calls = [asyncio.ensure_future(guard.fetch((KEY,), START)) for _ in range(20)]
    await asyncio.sleep(0.001)
    time.sleep(3 * TIMEOUT_S)  # noqa: ASYNC251 - the fault itself
    assert all(fetched.entries == [None] for fetched in await asyncio.gather(*calls))
    assert guard.is_reading


async def test_a_stalled_loop_lengthens_a_deadline_only_a_little(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    inner.hang()
    call = asyncio.ensure_future(timed(guard.fetch((KEY,), START)))
    await asyncio.sleep(0.001)
    time.sleep(2 * TIMEOUT_S)  # noqa: ASYNC251 - the fault itself
    assert await call < 0.4


async def test_a_loop_that_stays_behind_is_no_coordinator_that_hangs(
    guard: GuardedCoordinator, inner: ProbedCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A herd keeps the loop busy, turn after turn, and the answer needs some turns to be read."""
    at_once = inner.fetch

    async def in_some_turns(keys: Sequence[CacheKey], after: Position) -> Fetched:
        for _ in range(10):
            await asyncio.sleep(0)
        return await at_once(keys, after)

    async def keep_busy() -> None:
        while True:
            time.sleep(0.3 * TIMEOUT_S)  # noqa: ASYNC251 - the fault itself
            await asyncio.sleep(0)

    monkeypatch.setattr(inner, "fetch", in_some_turns)
    busy = asyncio.ensure_future(keep_busy())
    fetched = await guard.fetch((KEY,), START)
    busy.cancel()
    assert fetched.entries == [None]


# -- what opens and closes


@pytest.mark.parametrize("how", ["hang", "fail"])
async def test_after_three_failures_nobody_waits_or_asks_any_more(
    guard: GuardedCoordinator, inner: ProbedCoordinator, how: str
) -> None:
    getattr(inner, how)()
    for _ in range(3):
        await timed(guard.fetch((KEY,), START))
    asked = inner.asked["fetch"]
    assert asked == 3
    started_s = time.monotonic()
    for _ in range(1000):
        with suppress(CoordinatorError):
            await guard.fetch((KEY,), START)
    assert time.monotonic() - started_s < 1000 * 0.0005
    assert inner.asked["fetch"] == asked


async def test_under_a_storm_each_request_pays_one_deadline_at_most(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    inner.hang()
    waits = await asyncio.gather(*(timed(guard.fetch((KEY,), START)) for _ in range(200)))
    assert max(waits) < 10 * TIMEOUT_S
    assert await timed(guard.fetch((KEY,), START)) < SOON_S


async def test_reads_go_on_where_only_writes_fail(
    guard: GuardedCoordinator, inner: ProbedCoordinator, clock: FakeClock
) -> None:
    """A store that is full, or a replica, still answers."""
    inner.fail("store", "probe writes")
    for _ in range(3):
        await timed(guard.store(KEY, entry_of(clock)))
    assert guard.is_reading
    assert not guard.is_writing
    for call in (
        guard.store(KEY, entry_of(clock)),
        guard.append((row("m"),)),
        guard.acquire(KEY, token="a", ttl_s=1.0),
        guard.renew(KEY, token="a", ttl_s=1.0),
        guard.release(KEY, token="a"),
        guard.delete(KEY),
    ):
        assert await timed(call) < SOON_S
    assert inner.asked["append"] == 0
    assert (await guard.fetch((KEY,), START)).entries == [None]


async def test_a_wrong_configuration_opens_nothing_and_passes(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    inner.fail(error=ConfigurationError("setting x is wrong"))
    for _ in range(5):
        with pytest.raises(ConfigurationError, match="setting x"):
            await guard.fetch((KEY,), START)
    assert guard.is_reading


async def test_an_error_of_the_driver_is_translated_without_its_text(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    inner.fail(error=OSError("redis://:hunter2@h is gone"))
    with pytest.raises(CoordinatorError, match="raised OSError") as caught:
        await guard.fetch((KEY,), START)
    assert isinstance(caught.value.__cause__, OSError)
    assert "hunter2" not in str(caught.value)


# -- shielding


async def test_a_client_that_leaves_does_not_cancel_a_command_in_flight(
    guard: GuardedCoordinator, inner: ProbedCoordinator, clock: FakeClock
) -> None:
    inner.delay_s = 0.01
    leaving = asyncio.ensure_future(guard.store(KEY, entry_of(clock)))
    await asyncio.sleep(0.001)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await until(lambda: inner.fetch_now((KEY,), START).entries != [None])
    assert inner.cancelled == 0
    assert guard.is_writing


async def test_calls_whose_clients_left_are_counted_too(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    """Clients that lose patience before the deadline must not keep the breaker from opening."""
    inner.hang()
    for _ in range(3):
        leaving = asyncio.ensure_future(guard.fetch((KEY,), START))
        await asyncio.sleep(0.001)
        leaving.cancel()
    await until(lambda: not guard.is_reading, 1.0)


async def test_ten_thousand_cancellations_give_no_wrong_answer_and_leave_no_task(
    guard: GuardedCoordinator, inner: ProbedCoordinator, clock: FakeClock
) -> None:
    keys = [result_key(f"{number:032x}", "m") for number in range(100)]
    for number, key in enumerate(keys):
        await guard.store(key, entry_of(clock, b"%d" % number))
    before = asyncio.all_tasks()
    rng, wrong, answered, left = random.Random(7), 0, 0, 0

    async def ask(number: int) -> None:
        nonlocal wrong, answered
        fetched = await guard.fetch((keys[number],), START)
        entry = fetched.entries[0]
        wrong += entry is None or entry.body != b"%d" % number
        answered += 1

    while left < 10_000:
        asking = [asyncio.ensure_future(ask(rng.randrange(100))) for _ in range(200)]
        for _ in range(rng.randrange(5)):
            await asyncio.sleep(0)
        for task in rng.sample(asking, 150):
            left += task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    assert wrong == 0
    assert answered > 1000
    await until(lambda: asyncio.all_tasks() == before)
    assert inner.cancelled == 0
    assert guard.is_reading


async def test_calls_under_way_are_bounded(
    guard: GuardedCoordinator, inner: ProbedCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shielded, "_MAX_CALLS", 10)
    inner.hang()
    waits = await asyncio.gather(*(timed(guard.fetch((KEY,), START)) for _ in range(50)))
    assert sum(wait < SOON_S for wait in waits) == 40
    assert inner.asked["fetch"] == 10


async def test_what_was_left_behind_ends_even_if_the_driver_has_no_timeout(
    guard: GuardedCoordinator, inner: ProbedCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shielded, "_LEFT_BEHIND_S", 0.02)
    before = asyncio.all_tasks()
    inner.hang("fetch")
    await timed(guard.fetch((KEY,), START))
    await until(lambda: asyncio.all_tasks() == before, 1.0)
    assert inner.cancelled == 1


async def test_an_error_is_freed_without_a_garbage_collection(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    """One per request in an outage: cycles would pile up with all that their frames hold."""

    async def fail() -> "weakref.ref[CoordinatorError]":
        try:
            await guard.fetch((KEY,), START)
        except CoordinatorError as error:
            return weakref.ref(error)
        raise AssertionError

    gc.disable()
    try:
        inner.fail(error=OSError())  # made once, so that its traceback stays
        failed = await fail()
        inner.hang()
        missed = await fail()
        while guard.is_reading:
            await fail()
        refused = await fail()
        await asyncio.sleep(0)
        assert [reference() for reference in (failed, missed, refused)] == [None, None, None]
    finally:
        gc.enable()


# -- outages


@pytest.mark.usefixtures("_quick_recovery")
@pytest.mark.parametrize("how", ["hang", "fail"])
async def test_an_outage_is_two_log_lines_and_ends_by_itself(
    guard: GuardedCoordinator,
    inner: ProbedCoordinator,
    clock: FakeClock,
    lines: Callable[[], list[str]],
    how: str,
) -> None:
    getattr(inner, how)()
    for _ in range(10):
        await timed(guard.fetch((KEY,), START))
        await timed(guard.store(KEY, entry_of(clock)))
    await asyncio.sleep(0.2)
    assert len(lines()) == 1
    reason = "TimeoutError: no answer" if how == "hang" else "CoordinatorError: connection refused"
    for words in ("faulty", reason, "requests go on without it"):
        assert words in lines()[0]
    inner.heal()
    await until(lambda: len(lines()) == 2)
    assert lines()[1] == "coordinator faulty works again"
    assert await guard.store(KEY, entry_of(clock, b"after"))
    assert (await guard.fetch((KEY,), START)).entries == [entry_of(clock, b"after")]


@pytest.mark.usefixtures("_quick_recovery")
async def test_probes_are_not_bound_by_the_budget_of_the_request_that_failed(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    inner.fail()
    while guard.is_reading:
        with open_budget(0.2):  # the third of them begins the outage
            await timed(guard.fetch((KEY,), START))
    inner.heal()
    await until(lambda: guard.is_reading)


@pytest.mark.usefixtures("_quick_recovery")
async def test_a_coordinator_that_comes_and_goes_is_one_outage(
    guard: GuardedCoordinator,
    inner: ProbedCoordinator,
    lines: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outage, "_SETTLED_S", 0.5)
    for _ in range(5):
        inner.fail("fetch")
        await open_reads(guard)
        await until(lambda: guard.is_reading)
    assert len(lines()) == 1
    inner.heal()
    await until(lambda: len(lines()) == 2)


@pytest.mark.usefixtures("_quick_recovery")
async def test_an_outage_soon_after_another_has_to_be_over_for_longer(
    guard: GuardedCoordinator,
    inner: ProbedCoordinator,
    clock: FakeClock,
    lines: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two lines for every flap would be hundreds."""
    inner.fail()
    await open_reads(guard)
    inner.heal()
    await until(lambda: len(lines()) == 2)
    for _ in range(3):
        inner.fail()
        await open_reads(guard)
        inner.heal()
        await until(lambda: guard.is_reading)
        await asyncio.sleep(0.1)  # longer than a first outage would have to be over
    assert len(lines()) == 3


@pytest.mark.usefixtures("_quick_recovery")
async def test_outages_far_apart_are_two_lines_each(
    guard: GuardedCoordinator,
    inner: ProbedCoordinator,
    clock: FakeClock,
    lines: Callable[[], list[str]],
) -> None:
    for number in (1, 2, 3):
        inner.fail()
        await open_reads(guard)
        inner.heal()
        await until(lambda number=number: len(lines()) == 2 * number)  # type: ignore[misc]
        clock.advance(3600.0)


async def test_probes_come_ever_less_often_but_every_two_seconds(
    guard: GuardedCoordinator, inner: ProbedCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep
    loop = asyncio.get_running_loop()

    async def note(seconds: float) -> None:
        if asyncio.get_running_loop() is not loop:  # a server of other tests, in its thread
            await sleep(seconds)
            return
        slept.append(seconds)
        await sleep(0)

    inner.fail()
    await open_reads(guard)
    monkeypatch.setattr(asyncio, "sleep", note)
    inner.delay_s = 0
    started = len(slept)
    while len([one for one in slept[started:] if one > 0]) < 10:
        await sleep(0.001)
    monkeypatch.undo()
    waits = [one for one in slept if one > 0][:10]
    longest = [0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    nominal = longest if waits[0] > 0.25 else [0.25, *longest]
    for wait_s, limit_s in zip(waits, nominal, strict=False):
        assert 0.75 * limit_s <= wait_s <= limit_s
    assert len({wait_s / limit_s for wait_s, limit_s in zip(waits, nominal, strict=False)}) > 1


@pytest.mark.usefixtures("_quick_recovery")
async def test_a_coordinator_without_probes_is_tried_with_a_read_and_one_write(
    clock: FakeClock,
) -> None:
    inner = FaultyCoordinator(clock)
    guard = GuardedCoordinator(inner, clock=clock, timeout_s=TIMEOUT_S, write_timeout_s=TIMEOUT_S)
    await guard.open()
    inner.fail()
    await open_reads(guard)
    while guard.is_writing:
        await timed(guard.delete(KEY))
    asked = inner.asked["delete"]
    await asyncio.sleep(0.05)
    await timed(guard.delete(KEY))  # let through on trial, and fails
    assert inner.asked["delete"] == asked + 1
    inner.heal()
    await until(lambda: guard.is_reading)
    assert not guard.is_writing
    await asyncio.sleep(0.05)
    await guard.delete(KEY)
    await guard.delete(KEY)  # no longer on trial
    await guard.aclose()


# -- opening and closing


async def test_opening_a_coordinator_that_hangs_holds_nobody_up(
    inner: ProbedCoordinator,
    clock: FakeClock,
    lines: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outage, "_FIRST_PROBE_S", 0.01)
    monkeypatch.setattr(outage, "_SETTLED_S", 0.02)
    guard = GuardedCoordinator(inner, clock=clock, timeout_s=TIMEOUT_S)
    inner.hang("open")
    started_s = time.monotonic()
    await guard.open()
    assert 0.4 < time.monotonic() - started_s < 1.5
    assert len(lines()) == 1
    started_s = time.monotonic()
    await guard.open()
    await timed(guard.fetch((KEY,), START))
    await timed(guard.append((row("m"),)))
    assert time.monotonic() - started_s < SOON_S
    inner.heal()
    await until(lambda: guard.is_reading)
    assert inner.asked["open"] == 1  # the one that hung
    assert (await guard.fetch((KEY,), START)).entries == [None]
    await until(lambda: len(lines()) == 2)
    await guard.aclose()


@pytest.mark.usefixtures("_quick_recovery")
async def test_a_coordinator_that_cannot_be_opened_is_opened_later(
    inner: ProbedCoordinator, clock: FakeClock, lines: Callable[[], list[str]]
) -> None:
    guard = GuardedCoordinator(inner, clock=clock, timeout_s=TIMEOUT_S)
    inner.fail("open")
    await guard.open()
    assert "connection refused; start the server" in lines()[0]
    await until(lambda: inner.asked["open"] > 3)
    inner.heal()
    await until(lambda: len(lines()) == 2)
    await guard.append((row("m"),))
    await guard.aclose()


async def test_a_wrong_configuration_ends_the_start(
    inner: ProbedCoordinator, clock: FakeClock, lines: Callable[[], list[str]]
) -> None:
    guard = GuardedCoordinator(inner, clock=clock, timeout_s=TIMEOUT_S)
    inner.fail("open", error=ConfigurationError("URL has no such option"))
    with pytest.raises(ConfigurationError, match="no such option"):
        await guard.open()
    assert not lines()
    await guard.aclose()


@pytest.mark.usefixtures("_quick_recovery")
async def test_a_wrong_configuration_found_out_later_is_told_once(
    inner: ProbedCoordinator, clock: FakeClock, lines: Callable[[], list[str]]
) -> None:
    guard = GuardedCoordinator(inner, clock=clock, timeout_s=TIMEOUT_S)
    inner.fail("open")
    await guard.open()
    inner.fail("open", error=ConfigurationError("the server has no streams; install version 5"))
    await until(lambda: inner.asked["open"] > 5)
    assert len(lines()) == 2
    assert "install version 5" in lines()[1]
    await guard.aclose()


async def test_closing_ends_what_hangs_and_tells_who_waits(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    before = asyncio.all_tasks()
    inner.hang()
    slow = GuardedCoordinator(inner, clock=FakeClock(), timeout_s=60.0)
    waiting = asyncio.ensure_future(timed(slow.fetch((KEY,), START)))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(slow.aclose())
    slow._write_timeout_s = 0.01
    await closing
    await waiting
    assert asyncio.all_tasks() == before


async def test_a_call_that_had_not_begun_when_it_was_closed_still_ends(
    inner: ProbedCoordinator, clock: FakeClock
) -> None:
    guard = GuardedCoordinator(inner, clock=clock, timeout_s=60.0, write_timeout_s=0.0)
    guard._write_timeout_s = 0.0
    waiting = asyncio.ensure_future(timed(guard.fetch((KEY,), START)))
    waiting.get_loop().call_soon(lambda: [c.task.cancel() for c in guard._calls._calls])
    await asyncio.sleep(0)
    await guard.aclose()
    await asyncio.wait_for(waiting, 1.0)


async def test_closing_waits_a_moment_for_writes_under_way(
    guard: GuardedCoordinator, inner: ProbedCoordinator, clock: FakeClock
) -> None:
    inner.delay_s = 0.01
    storing = asyncio.ensure_future(guard.store(KEY, entry_of(clock)))
    await asyncio.sleep(0.001)
    await guard.aclose()
    assert await storing
    assert inner.cancelled == 0


async def test_closing_is_bounded_and_silent_when_the_coordinator_hangs(
    inner: ProbedCoordinator, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    guard = GuardedCoordinator(inner, clock=clock, timeout_s=TIMEOUT_S)
    await guard.open()
    monkeypatch.setattr(inner, "aclose", hang)
    monkeypatch.setattr("routecache_middleware.coordinators.guarded._CLOSE_S", 0.02)
    await asyncio.wait_for(guard.aclose(), 1.0)


@pytest.mark.usefixtures("_quick_recovery")
async def test_calls_after_the_close_do_not_open_it_again(
    guard: GuardedCoordinator, inner: ProbedCoordinator, lines: Callable[[], list[str]]
) -> None:
    await guard.aclose()
    before = asyncio.all_tasks()
    inner.fail()
    for _ in range(10):
        await timed(guard.fetch((KEY,), START))
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == before
    assert inner.asked["open"] == 1
    assert not lines()
    inner.heal()
    await guard.open()
    assert (await guard.fetch((KEY,), START)).entries == [None]


@pytest.mark.usefixtures("_quick_recovery")
def test_it_goes_on_in_a_new_event_loop(
    inner: ProbedCoordinator, clock: FakeClock, lines: Callable[[], list[str]]
) -> None:
    """A test client makes one per test, and the old one stops without a word in the middle."""
    guard = GuardedCoordinator(inner, clock=clock, timeout_s=TIMEOUT_S)

    async def break_it() -> None:
        await guard.open()
        inner.fail()
        await open_reads(guard)

    async def still_broken() -> None:
        await timed(guard.fetch((KEY,), START))  # without opening it here
        inner.heal()
        await until(lambda: guard.is_reading)

    async def use() -> None:
        await guard.open()
        assert (await guard.fetch((KEY,), START)).entries == [None]
        await until(lambda: len(lines()) == 2)
        await guard.aclose()

    with asyncio.Runner() as stopped:
        stopped.run(break_it())
        asyncio.run(still_broken())
        asyncio.run(use())
    assert inner.asked["open"] == 2


def test_calls_of_a_loop_that_stopped_are_forgotten(
    inner: ProbedCoordinator, clock: FakeClock
) -> None:
    """They count among the calls under way, of which there may be so many."""
    guard = GuardedCoordinator(inner, clock=clock, timeout_s=TIMEOUT_S)
    inner.hang("fetch")
    with asyncio.Runner() as stopped:
        stopped.run(timed(guard.fetch((KEY,), START)))
        assert len(guard._calls) == 1
        asyncio.run(guard.open())
        assert len(guard._calls) == 0


def test_it_works_in_a_forked_child(inner: ProbedCoordinator, clock: FakeClock) -> None:
    guard = GuardedCoordinator(inner, clock=clock, timeout_s=5.0)

    async def use() -> None:
        await guard.open()
        assert (await guard.fetch((KEY,), START)).entries == [None]

    asyncio.run(use())
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio.run(use())
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0


# -- events and figures


async def test_events_survive_a_failure_with_gaps(
    guard: GuardedCoordinator, inner: ProbedCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routecache_middleware.coordinators.resume._FIRST_PAUSE_S", 0.01)
    seen: list[CoordinatorEvent] = []

    async def listen() -> None:
        async for event in guard.events():
            seen.append(event)  # noqa: PERF401 - read while it grows

    listening = asyncio.ensure_future(listen())
    await until(lambda: len(inner._subscribers) == 1)
    await guard.append((row("a"),))
    await until(lambda: inner.asked["event"] == 1)
    await asyncio.sleep(0.01)
    inner.fail("event", "listen")
    await guard.append((row("b"),))  # it is after this one that listening fails
    await until(lambda: seen[-1] == Gap())
    await until(lambda: inner.asked["listen"] > 2)
    before = list(seen)
    seen.clear()
    inner.heal()
    await until(lambda: seen == [Gap()])  # what came in between was not heard
    assert len(inner._subscribers) == 1
    await guard.append((row("c"),))
    await until(lambda: isinstance(seen[-1], Invalidated))
    told = [
        one.row for event in before + seen if isinstance(event, Invalidated) for one in event.rows
    ]
    assert told == [row("a"), row("b"), row("c")]
    await guard.aclose()
    await asyncio.wait_for(listening, 1.0)


async def test_listening_ends_at_once_when_it_is_closed_in_an_outage(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    inner.fail("listen")
    events = guard.events()
    assert await asyncio.wait_for(anext(events), 0.1) == Gap()  # at once, for who waits
    ending = asyncio.ensure_future(anext(events, None))
    await asyncio.sleep(0)
    await guard.aclose()
    assert await asyncio.wait_for(ending, 0.1) is None


async def test_a_listener_that_stops_listens_no_more(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    async def listen() -> None:
        async for _ in guard.events():
            pass

    listening = asyncio.ensure_future(listen())
    await until(lambda: len(inner._subscribers) == 1)
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    assert len(inner._subscribers) == 0


async def test_while_reads_fail_the_nodes_are_down(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    assert (await guard.cluster_stats()).count(NodeState.UP) == 1
    inner.fail()
    with pytest.raises(CoordinatorError):
        await guard.cluster_stats()
    assert guard.is_reading  # an operator who looks proves nothing
    await open_reads(guard)
    stats = await guard.cluster_stats()
    assert [(node.name, node.state) for node in stats.nodes] == [("memory", NodeState.DOWN)]


async def test_what_the_coordinator_offers_besides_is_offered(
    guard: GuardedCoordinator, inner: ProbedCoordinator
) -> None:
    assert guard.probe == inner.probe
    assert not hasattr(guard, "tail_now")
    assert not hasattr(guard, "_no_such_thing")
    assert (guard.name, guard.is_shared, guard.poll_s) == ("faulty", True, inner.poll_s)
