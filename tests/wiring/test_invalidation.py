"""What each invalidation drops, and what it spares."""

from collections.abc import Awaitable, Callable

import pytest

from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.reports import InvalidationReport
from routecache_middleware.core.settings import Settings
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.wiring.cache import RouteCache

EVERYTHING = frozenset(
    {
        "decision m",
        "decision n",
        "decision m of t",
        "answer m",
        "answer n",
        "answer m of t",
        "metadata m",
        "metadata n",
        "metadata m of t",
        "load m",
        "load n",
    }
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def memory(clock: FakeClock) -> MemoryCoordinator:
    return MemoryCoordinator(max_bytes=10_000_000, clock=clock)


@pytest.fixture
def cache(memory: MemoryCoordinator, clock: FakeClock) -> RouteCache:
    settings = Settings(router_version="v1", load_ttl_s=100.0)
    return RouteCache(coordinator=memory, settings=settings, clock=clock, observers=[])


async def fill(cache: RouteCache) -> None:
    await cache.cache_routing_decision("qm", "m", 0.5, tags=["x"])
    await cache.cache_routing_decision("qn", "n", 0.5, router_version="v2", tags=["y"])
    await cache.cache_routing_decision("qm", "m", 0.5, tenant="t")
    await cache.cache_query_result("q", "m", b"m", 1.0, tags=("x", "y"))
    await cache.cache_query_result("q", "n", b"n", 1.0)
    await cache.cache_query_result("q", "m", b"tm", 1.0, tenant="t")
    for model in ("m", "n"):
        await cache.cache_model_metadata(model, {}, 0, 0)
        await cache.cache_load_metrics(model, in_flight=1)
    await cache.cache_model_metadata("m", {"of": "t"}, 0, 0, tenant="t", tags=["x"])


async def held(cache: RouteCache) -> set[str]:
    found = {
        "decision m": await cache.get_routing_decision("qm"),
        "decision n": await cache.get_routing_decision("qn"),
        "decision m of t": await cache.get_routing_decision("qm", tenant="t"),
        "answer m": await cache.get_query_result("q", "m"),
        "answer n": await cache.get_query_result("q", "n"),
        "answer m of t": await cache.get_query_result("q", "m", tenant="t"),
        "metadata m": await cache.get_model_metadata("m"),
        "metadata n": await cache.get_model_metadata("n"),
        "metadata m of t": await cache.get_model_metadata("m", tenant="t"),
        "load m": await cache.get_load_metrics("m"),
        "load n": await cache.get_load_metrics("n"),
    }
    return {name for name, record in found.items() if record is not None}


Invalidate = Callable[[RouteCache], Awaitable[InvalidationReport]]
OF_M = {name for name in EVERYTHING if " m" in name}
OF_T = {name for name in EVERYTHING if name.endswith("of t")}


@pytest.mark.parametrize(
    ("invalidate", "scope", "dropped"),
    [
        (lambda c: c.invalidate_model("m"), "model:m", OF_M),
        (lambda c: c.invalidate_model("m", tenant="t"), "tenant-model:t:m", OF_T),
        (
            lambda c: c.invalidate_model("m", tenant=""),
            "tenant-model::m",
            {"decision m", "answer m"},
        ),
        (lambda c: c.invalidate_model("nobody"), "model:nobody", set()),
        (lambda c: c.invalidate_model("m", router_version="v2"), "model:m", set()),
        (
            lambda c: c.invalidate_model("m", router_version="v1"),
            "model:m",
            {"decision m", "decision m of t"},
        ),
        (lambda c: c.invalidate_routing_decision("qm"), "key:route:qm", {"decision m"}),
        (
            lambda c: c.invalidate_routing_decision("qm", tenant="t"),
            "key:route:t@qm",
            {"decision m of t"},
        ),
        (
            lambda c: c.invalidate_routing_decision("qm", router_version="v2"),
            "key:route:qm",
            set(),
        ),
        (lambda c: c.invalidate_query_result("q", "m"), "key:result:q:m", {"answer m"}),
        (
            lambda c: c.invalidate_query_result("q", "m", tenant="t"),
            "key:result:t@q:m",
            {"answer m of t"},
        ),
        (
            lambda c: c.invalidate_query_result("q", "m", older_than=1.0),
            "key:result:q:m",
            set(),
        ),
        (lambda c: c.invalidate_tenant("t"), "tenant:t", OF_T),
        (
            lambda c: c.invalidate_tenant(""),
            "tenant:",
            {"decision m", "decision n", "answer m", "answer n"},
        ),
        (
            lambda c: c.invalidate_tag("x"),
            "tag:x",
            {"decision m", "answer m", "metadata m of t"},
        ),
        (lambda c: c.invalidate_tag("y"), "tag:y", {"decision n", "answer m"}),
        (
            lambda c: c.invalidate_layer("route"),
            "layer:route",
            {name for name in EVERYTHING if name.startswith("decision")},
        ),
        (
            lambda c: c.invalidate_layer(Layer.RESULT),
            "layer:result",
            {name for name in EVERYTHING if name.startswith("answer")},
        ),
        (
            lambda c: c.invalidate_layer("meta"),
            "layer:meta",
            {name for name in EVERYTHING if name.startswith("metadata")},
        ),
        (lambda c: c.invalidate_layer("load"), "layer:load", {"load m", "load n"}),
        (lambda c: c.invalidate_all(), "all", EVERYTHING),
        (lambda c: c.invalidate_all(router_version="v2"), "all", {"decision n"}),
        (
            lambda c: c.invalidate_layer("route", router_version="v1"),
            "layer:route",
            {"decision m", "decision m of t"},
        ),
    ],
)
async def test_what_an_invalidation_drops(
    cache: RouteCache,
    memory: MemoryCoordinator,
    clock: FakeClock,
    *,
    invalidate: Invalidate,
    scope: str,
    dropped: set[str],
) -> None:
    await fill(cache)
    other = RouteCache(coordinator=memory, settings=Settings(), clock=clock, observers=[])
    assert await held(cache) == await held(other) == EVERYTHING
    report = await invalidate(cache)
    assert report == InvalidationReport(report.scope, report.position, 0)
    assert (report.scope, report.position) == (scope, 1)
    assert await held(cache) == EVERYTHING - dropped
    assert await held(other) == EVERYTHING - dropped
    await fill(cache)
    assert await held(cache) == await held(other) == EVERYTHING
    assert cache.stats().invalidations == 1


async def test_what_is_newer_is_spared(cache: RouteCache, clock: FakeClock) -> None:
    await cache.cache_routing_decision("old", "m")
    clock.advance(10.0)
    await cache.cache_routing_decision("new", "m")
    await cache.invalidate_model("m", older_than=clock.now_s())
    assert await cache.get_routing_decision("old") is None
    assert await cache.get_routing_decision("new") is not None


async def test_both_conditions_have_to_hold(cache: RouteCache, clock: FakeClock) -> None:
    await cache.cache_routing_decision("a", "m", router_version="v1")
    await cache.cache_routing_decision("b", "m", router_version="v2")
    clock.advance(10.0)
    await cache.cache_routing_decision("c", "m", router_version="v1")
    await cache.invalidate_all(older_than=clock.now_s(), router_version="v1")
    found = [await cache.get_routing_decision(name) is not None for name in "abc"]
    assert found == [False, True, True]


async def test_a_lookup_with_tags_finds_nothing_from_before_they_were_invalidated(
    cache: RouteCache,
) -> None:
    await cache.cache_routing_decision("q", "m")
    assert await cache.get_routing_decision("q", tags=["x"]) is not None
    await cache.invalidate_tag("x")
    assert await cache.get_routing_decision("q") is not None
    assert await cache.get_routing_decision("q", tags=["x"]) is None


@pytest.mark.parametrize("older_than", [float("nan"), float("inf"), -float("inf")])
async def test_a_time_that_is_none_is_refused(cache: RouteCache, older_than: float) -> None:
    with pytest.raises(ValueError, match="it has to be Unix seconds"):
        await cache.invalidate_all(older_than=older_than)


async def test_a_layer_that_is_none_is_refused(cache: RouteCache) -> None:
    with pytest.raises(ValueError, match="not a valid Layer"):
        await cache.invalidate_layer("routes")
    assert cache.stats().invalidations == 0
