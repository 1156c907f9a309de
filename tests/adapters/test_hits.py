"""The short way to a stored answer: it is as good as the long one, and falls back to it."""

import threading
from collections.abc import Sequence

import pytest

from routecache_middleware import RouteCache, RouteCacheMiddleware
from routecache_middleware.adapters.asgi.quick import QuickLane
from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.core.events import RequestFinished
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import Outcome, Position
from routecache_middleware.core.ports import Fetched
from routecache_middleware.dialects import openai_chat, openai_stream
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.engine.test_engine import Watcher
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import fetch, scope_of, settle
from tests.support.chat import ask, completion


class Faulty(MemoryCoordinator):
    """A coordinator whose reads can be made to fail."""

    error: BaseException | None = None

    def fetch_now(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        if self.error is not None:
            raise self.error
        return super().fetch_now(keys, after)


async def test_header_pairs_may_be_lists(gateway: Gateway) -> None:
    """ASGI says iterables of two items; servers send tuples, some test clients lists."""
    mw = gateway()
    scope = scope_of()
    scope["headers"] = [list(pair) for pair in scope["headers"]]
    assert (await fetch(mw, scope=scope)).outcome == "MISS"
    assert (await fetch(mw)).outcome == "HIT"


async def test_a_read_that_fails_on_the_short_way_fails_no_request(clock: FakeClock) -> None:
    """Design 10: counted, labelled, and forwarded as if without us."""
    coordinator = Faulty(max_bytes=1 << 24, clock=clock)
    cache = RouteCache(coordinator=coordinator, observers=[], clock=clock)
    mw = RouteCacheMiddleware(ScriptedApp(), cache=cache)
    await fetch(mw)
    coordinator.error = CoordinatorError("down")
    got = await fetch(mw)
    assert (got.status, got.body) == (200, completion())
    assert got.get("cache-status") == "routecache; fwd=bypass; detail=coordinator-error"
    assert cache.stats().result.errors == 1
    coordinator.error = None
    assert (await fetch(mw)).outcome == "HIT"


class Stopped(BaseException):
    """Such as a cancellation: not an error."""


async def test_being_stopped_in_a_read_is_no_failure_of_the_read(clock: FakeClock) -> None:
    """Only errors are caught, not a shutdown."""
    coordinator = Faulty(max_bytes=1 << 24, clock=clock)
    mw = RouteCacheMiddleware(
        ScriptedApp(), cache=RouteCache(coordinator=coordinator, observers=[], clock=clock)
    )
    await fetch(mw)
    coordinator.error = Stopped()
    with pytest.raises(Stopped):
        await fetch(mw)


async def test_a_coordinator_without_synchronous_reads_serves_the_same(clock: FakeClock) -> None:
    """``fetch_now`` is an optional capability."""

    class Waiting(MemoryCoordinator):
        fetch_now = None  # type: ignore[assignment]

        async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
            return MemoryCoordinator.fetch_now(self, keys, after)

    coordinator = Waiting(max_bytes=1 << 24, clock=clock)
    cache = RouteCache(coordinator=coordinator, observers=[], clock=clock)
    mw = RouteCacheMiddleware(ScriptedApp(), cache=cache)
    first, again = await fetch(mw), await fetch(mw)
    assert (first.outcome, again.outcome) == ("MISS", "HIT")
    assert again.body == first.body


async def test_nothing_is_read_twice(clock: FakeClock) -> None:
    """What the short way found out, the long way does not ask for again."""

    class Counting(MemoryCoordinator):
        reads = 0

        def fetch_now(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
            self.reads += bool(keys)
            return super().fetch_now(keys, after)

    coordinator = Counting(max_bytes=1 << 24, clock=clock)
    cache = RouteCache(coordinator=coordinator, observers=[], clock=clock)
    mw = RouteCacheMiddleware(ScriptedApp(), cache=cache)
    await fetch(mw)
    await cache.invalidate_all()
    for expected in ("MISS", "HIT"):
        coordinator.reads = 0
        assert (await fetch(mw)).outcome == expected
        assert coordinator.reads == 1


async def test_a_large_answer_is_converted_off_the_loop(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Converting 2,000 chunks takes 12 ms; other requests must not wait for that."""
    threads: list[threading.Thread] = []

    def replay(body: bytes, *, with_usage: bool = False) -> bytes | None:
        threads.append(threading.current_thread())
        return openai_stream.replay(body, with_usage=with_usage)

    monkeypatch.setattr(openai_chat, "replay", replay)
    for text, is_large in (("short", False), ("long " * 300, True)):
        mw = gateway(ScriptedApp(json_answer(completion(text))), hash_in_thread_bytes=1000)
        await fetch(mw)
        got = await fetch(mw, ask(stream=True))
        assert got.outcome == "HIT"
        assert text.encode() in got.body
        assert (threads[-1] is not threading.main_thread()) == is_large


@pytest.mark.parametrize("method", ["head", "answer"])
async def test_a_fault_on_the_short_way_costs_nothing_but_the_way(
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    """Design 1: no fault of the cache may change what a client gets; it is logged once."""

    def broken(*_: object) -> object:
        raise ZeroDivisionError

    mw = gateway()
    await fetch(mw)
    monkeypatch.setattr(QuickLane, method, broken)
    for _ in range(2):
        got = await fetch(mw)
        assert (got.outcome, got.body) == ("HIT", completion())
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("the cache failed with ZeroDivisionError at ")


async def test_a_repeat_that_comes_in_pieces_is_a_hit_too(gateway: Gateway) -> None:
    """The long way takes over where the short one stops."""
    mw = gateway()
    await fetch(mw)
    body = ask()
    pieces = [
        {"type": "http.request", "body": body[:9], "more_body": True},
        {"type": "http.request", "body": body[9:], "more_body": False},
    ]
    assert (await fetch(mw, pieces)).outcome == "HIT"


async def test_what_cannot_be_cached_is_bypassed_however_often_it_comes(gateway: Gateway) -> None:
    """The memo remembers that too."""
    mw = gateway()
    for _ in range(2):
        got = await fetch(mw, ask(store=True))
        assert got.get("cache-status") == "routecache; fwd=bypass; detail=store"


async def test_what_another_process_invalidated_is_no_hit_on_the_short_way(
    clock: FakeClock,
) -> None:
    """Design 8: the read brings the log's tail along, taken in before anything is served."""
    coordinator = MemoryCoordinator(max_bytes=1 << 24, clock=clock)
    here = RouteCache(coordinator=coordinator, observers=[], clock=clock)
    there = RouteCache(coordinator=coordinator, observers=[], clock=clock)
    mw = RouteCacheMiddleware(ScriptedApp(), cache=here)
    assert [(await fetch(mw)).outcome for _ in range(2)] == ["MISS", "HIT"]
    await there.invalidate_model("m")
    assert [(await fetch(mw)).outcome for _ in range(2)] == ["MISS", "HIT"]


async def test_what_the_short_way_may_not_wait_for_is_looked_up_once_the_long_way(
    clock: FakeClock,
) -> None:
    """As behind a near cache that is not sure: counted once, and one span."""

    class Unsure(MemoryCoordinator):
        is_shared = True
        asked = 0

        def fetch_now(self, keys: Sequence[CacheKey], after: Position) -> Fetched | None:  # type: ignore[override]
            return None

        async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
            self.asked += bool(keys)
            return MemoryCoordinator.fetch_now(self, keys, after)

    class Quiet(Watcher):
        def request(self, record: RequestFinished) -> None:
            pass

    watcher = Quiet()
    coordinator = Unsure(max_bytes=1 << 24, clock=clock)
    cache = RouteCache(coordinator=coordinator, observers=[watcher], clock=clock)
    mw = RouteCacheMiddleware(ScriptedApp(), cache=cache)
    await fetch(mw)
    await settle()
    coordinator.asked = 0
    watcher.begun.clear()
    watcher.finished.clear()
    assert (await fetch(mw)).outcome == "HIT"
    assert coordinator.asked == 1
    assert watcher.begun == ["cache.get result"]
    assert watcher.all_are_finished()
    stats = cache.stats().result
    assert (stats.hits, stats.misses) == (1, 1)
    await cache.aclose()


async def test_what_is_not_there_and_may_not_be_asked_for_is_told_as_a_miss(
    clock: FakeClock,
) -> None:
    told: list[RequestFinished] = []

    class Telling(Watcher):
        def request(self, record: RequestFinished) -> None:
            told.append(record)

    async with RouteCache(url="memory://", observers=[Telling()], clock=clock) as cache:
        mw = RouteCacheMiddleware(ScriptedApp(), cache=cache)
        only = (b"cache-control", b"only-if-cached")
        assert (await fetch(mw, headers=[(b"authorization", b"Bearer k"), only])).status == 504
    assert told == [RequestFinished(Outcome.MISS)]


async def test_a_near_cache_that_has_it_answers_the_short_way(clock: FakeClock) -> None:
    class Near(MemoryCoordinator):
        is_shared = True
        asked = 0

        async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
            self.asked += bool(keys)
            return await super().fetch(keys, after)

    coordinator = Near(max_bytes=1 << 24, clock=clock)
    cache = RouteCache(coordinator=coordinator, observers=[], clock=clock)
    mw = RouteCacheMiddleware(ScriptedApp(), cache=cache)
    await cache.open()
    assert (await fetch(mw)).outcome == "MISS"
    await settle()
    asked = coordinator.asked
    assert (await fetch(mw)).outcome == "HIT"
    assert coordinator.asked == asked
    await cache.aclose()
