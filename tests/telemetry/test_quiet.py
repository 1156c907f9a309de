"""Hits that nobody could see are not told of: what that saves and what it must not lose."""

from math import inf
from time import perf_counter

import pytest
from opentelemetry.sdk.trace import TracerProvider

from routecache_middleware import RouteCache, Settings
from routecache_middleware.core.events import Operation, RequestFinished
from routecache_middleware.core.ports import OpenOperation
from routecache_middleware.telemetry.fanout import combine
from routecache_middleware.telemetry.null import NULL_OBSERVER, NULL_OPERATION
from routecache_middleware.telemetry.otel import OtelObserver


class Quiet:
    """Says that nothing would come of it until some time, and counts what it is told."""

    def __init__(self, quiet_until_s: float, opened: OpenOperation = NULL_OPERATION) -> None:
        self.until_s = quiet_until_s
        self.begun = 0
        self._opened = opened

    @property
    def quiet_until_s(self) -> float:
        return self.until_s

    def begin(
        self,
        operation: Operation,
        target: str,
        *,
        model: str = "",
        verb: str = "",
    ) -> OpenOperation:
        self.begun += 1
        return self._opened

    def request(self, record: RequestFinished) -> None:
        """Nothing."""


class Faulty(Quiet):
    @property
    def quiet_until_s(self) -> float:
        raise RuntimeError("no")


async def lookups(observer: object, times: int = 3) -> RouteCache:
    cache = RouteCache(url="memory://", settings=Settings(), observers=[observer])  # type: ignore[list-item]
    async with cache:
        for _ in range(times):
            await cache.get_routing_decision("q")
    return cache


async def test_a_quiet_observer_is_asked_once() -> None:
    observer = Quiet(perf_counter() + 60)
    cache = await lookups(observer)
    assert observer.begun == 1
    assert cache.engine.is_quiet
    assert cache.stats().routing.misses == 3


@pytest.mark.parametrize("until_s", [-inf, 0.0])
async def test_one_that_is_quiet_no_more_is_told_everything(until_s: float) -> None:
    observer = Quiet(until_s)
    cache = await lookups(observer)
    assert observer.begun == 3
    assert not cache.engine.is_quiet


async def test_one_that_cannot_say_is_told_everything() -> None:
    observer = Faulty(inf)
    await lookups(observer)
    assert observer.begun == 3


def test_several_are_as_quiet_as_the_least_quiet() -> None:
    soon, later = Quiet(5.0), Quiet(9.0)
    assert combine([soon, later, NULL_OBSERVER]).quiet_until_s == 5.0  # type: ignore[attr-defined]
    assert NULL_OBSERVER.quiet_until_s == inf


def test_opentelemetry_is_quiet_while_there_is_no_sdk_and_for_ever_when_off() -> None:
    assert OtelObserver(enabled=False).quiet_until_s == inf
    provider = TracerProvider(shutdown_on_exit=False)
    assert OtelObserver(tracer_provider=provider, enabled=True).quiet_until_s == -inf
    observer = OtelObserver(enabled=True)
    assert observer.quiet_until_s == -inf
    now_s = perf_counter()
    observer.begin(Operation.GET, "result")
    assert now_s < observer.quiet_until_s < perf_counter() + 1.1


async def test_an_sdk_that_samples_is_seen_from_the_first_lookup_on() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    cache = await lookups(OtelObserver(tracer_provider=provider, enabled=True))
    assert not cache.engine.is_quiet
