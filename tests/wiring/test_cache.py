"""RouteCache as a library, over memory:// with a clock that stands still."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.keys import Layer, route_key
from routecache_middleware.core.models import (
    LoadMetrics,
    ModelMetadata,
    Outcome,
    Position,
    QueryResult,
    RoutingDecision,
)
from routecache_middleware.core.settings import Settings
from routecache_middleware.core.stats import CacheStats, LayerStats
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.wiring.cache import RouteCache
from tests.engine.test_engine import Watcher

ODD_IDS = [
    "",
    " ",
    "a:b",
    "a/b@c",
    "openai/gpt-4o:x",
    "a@b",
    "%3A",
    "Ü\u202e\x00\n",
    "\ud800",
    "x\udfff:\ud800",
    "🦜",
    "x" * 500,
]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def cache(clock: FakeClock, watcher: Watcher) -> RouteCache:
    return RouteCache(url="memory://", settings=Settings(), clock=clock, observers=[watcher])


def build(clock: FakeClock, **settings: Any) -> RouteCache:
    return RouteCache(url="memory://", settings=Settings(**settings), clock=clock, observers=[])


class Compute:
    """Counts its calls."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.calls = 0

    async def __call__(self, *_: str) -> Any:
        self.calls += 1
        await asyncio.sleep(0)
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


# The get and cache pairs.


async def test_a_decision_comes_back_as_it_was(cache: RouteCache, clock: FakeClock) -> None:
    assert await cache.get_routing_decision("q") is None
    assert await cache.cache_routing_decision(
        "q",
        "m",
        0.75,
        alternatives=[("n", 0.5)],
        strategy="s",
        router_version="v",
        score_kind="cosine",
        decide_ms=3.5,
    )
    clock.advance(12.5)
    found = await cache.get_routing_decision("q")
    assert found == RoutingDecision("m", 0.75, (("n", 0.5),), "s", "v", "cosine", 3.5)
    assert (found.outcome, found.age_s) == (Outcome.HIT, 12.5)


async def test_an_answer_comes_back_byte_for_byte(cache: RouteCache, clock: FakeClock) -> None:
    assert await cache.get_query_result("q", "m") is None
    body = bytes(range(256))
    assert await cache.cache_query_result("q", "m", body, 250.0, content_type="text/x")
    clock.advance(1.0)
    found = await cache.get_query_result("q", "m")
    assert found == QueryResult(body, "m", 250.0, "text/x")
    assert (found.outcome, found.age_s) == (Outcome.HIT, 1.0)
    assert await cache.get_query_result("q", "n") is None


async def test_metadata_comes_back_as_it_was(cache: RouteCache, clock: FakeClock) -> None:
    assert await cache.get_model_metadata("m") is None
    capabilities = {"tools": True, "context": 128_000, "modes": ["text", None], "x": {"y": 0.5}}
    assert await cache.cache_model_metadata("m", capabilities, 3, 120.5)
    clock.advance(2.0)
    found = await cache.get_model_metadata("m")
    assert found == ModelMetadata("m", capabilities, 3, 120.5)
    assert (found.outcome, found.age_s) == (Outcome.HIT, 2.0)


async def test_load_comes_back_as_it_was(cache: RouteCache, clock: FakeClock) -> None:
    assert await cache.get_load_metrics("m") is None
    assert await cache.cache_load_metrics(
        "m", in_flight=2, requests_per_s=1.5, avg_response_time_ms=80.0, error_rate=0.1
    )
    clock.advance(0.5)
    found = await cache.get_load_metrics("m")
    assert found == LoadMetrics("m", 2, 1.5, 80.0, 0.1)
    assert (found.outcome, found.age_s) == (Outcome.HIT, 0.5)


@pytest.mark.parametrize("odd", ODD_IDS)
async def test_any_text_will_do_for_a_name(cache: RouteCache, odd: str) -> None:
    await cache.cache_routing_decision(odd, odd, tenant=odd, tags=[odd])
    await cache.cache_query_result(odd, odd, b"body", tenant=odd, tags=[odd])
    await cache.cache_model_metadata(odd, {odd: odd}, tenant=odd)
    await cache.cache_load_metrics(odd, tenant=odd)
    decision = await cache.get_routing_decision(odd, tenant=odd)
    result = await cache.get_query_result(odd, odd, tenant=odd)
    metadata = await cache.get_model_metadata(odd, tenant=odd)
    load = await cache.get_load_metrics(odd, tenant=odd)
    assert decision is not None
    assert result is not None
    assert metadata is not None
    assert load is not None
    assert decision.selected_model == result.model_id == metadata.model_id == load.model_id == odd
    assert metadata.capabilities == {odd: odd}
    assert (await cache.route(odd, Compute(None), tenant=odd)).outcome is Outcome.HIT
    assert (await cache.result(odd, odd, Compute(None), tenant=odd)).outcome is Outcome.HIT
    assert (await cache.metadata(odd, Compute(None), tenant=odd)).outcome is Outcome.HIT
    await cache.invalidate_model(odd)
    assert await cache.get_routing_decision(odd, tenant=odd) is None
    assert await cache.get_query_result(odd, odd, tenant=odd) is None
    assert await cache.get_model_metadata(odd, tenant=odd) is None
    assert await cache.get_load_metrics(odd, tenant=odd) is None


async def test_odd_names_never_meet(cache: RouteCache) -> None:
    for number, odd in enumerate(ODD_IDS):
        await cache.cache_routing_decision(odd, str(number))
        await cache.cache_routing_decision("q", str(number), tenant=f"t{odd}")
    for number, odd in enumerate(ODD_IDS):
        for found in (
            await cache.get_routing_decision(odd),
            await cache.get_routing_decision("q", tenant=f"t{odd}"),
        ):
            assert found is not None
            assert found.selected_model == str(number)


TENANTS = ["", "a", "a@b", "b"]


async def test_tenants_see_nothing_of_each_other(cache: RouteCache) -> None:
    for tenant in TENANTS:
        assert await cache.get_routing_decision("q", tenant=tenant) is None
        assert await cache.get_query_result("q", "m", tenant=tenant) is None
        assert await cache.get_model_metadata("m", tenant=tenant) is None
        assert await cache.get_load_metrics("m", tenant=tenant) is None
        await cache.cache_routing_decision("q", f"m{tenant}", tenant=tenant)
        await cache.cache_query_result("q", "m", tenant.encode(), tenant=tenant)
        await cache.cache_model_metadata("m", {"of": tenant}, tenant=tenant)
        await cache.cache_load_metrics("m", in_flight=len(tenant), tenant=tenant)
    for tenant in TENANTS:
        decision = await cache.route("q", Compute(None), tenant=tenant)
        result = await cache.result("q", "m", Compute(None), tenant=tenant)
        metadata = await cache.metadata("m", Compute(None), tenant=tenant)
        load = await cache.get_load_metrics("m", tenant=tenant)
        assert decision.selected_model == f"m{tenant}"
        assert result.result_data == tenant.encode()
        assert metadata.capabilities == {"of": tenant}
        assert load is not None
        assert load.in_flight == len(tenant)


async def test_tenants_share_no_flight(cache: RouteCache) -> None:
    computes = {tenant: Compute(RoutingDecision(f"m{tenant}")) for tenant in TENANTS}
    found = await asyncio.gather(
        *(cache.route("q", computes[tenant], tenant=tenant) for tenant in TENANTS * 3)
    )
    assert [one.selected_model for one in found] == [f"m{tenant}" for tenant in TENANTS * 3]
    assert [compute.calls for compute in computes.values()] == [1] * 4


# How long, and whether at all.

Write = Callable[[RouteCache, float | None], Awaitable[bool]]
Read = Callable[[RouteCache], Awaitable[object]]
PAIRS: list[tuple[Layer, Write, Read]] = [
    (
        Layer.ROUTING,
        lambda c, ttl: c.cache_routing_decision("q", "m", ttl_s=ttl),
        lambda c: c.get_routing_decision("q"),
    ),
    (
        Layer.RESULT,
        lambda c, ttl: c.cache_query_result("q", "m", b"", ttl_s=ttl),
        lambda c: c.get_query_result("q", "m"),
    ),
    (
        Layer.METADATA,
        lambda c, ttl: c.cache_model_metadata("m", {}, ttl_s=ttl),
        lambda c: c.get_model_metadata("m"),
    ),
    (
        Layer.LOAD,
        lambda c, ttl: c.cache_load_metrics("m", ttl_s=ttl),
        lambda c: c.get_load_metrics("m"),
    ),
]


@pytest.mark.parametrize("profile", ["development", "production", "high-traffic"])
@pytest.mark.parametrize(("layer", "write", "read"), PAIRS)
async def test_each_layer_lives_as_long_as_its_profile_says(
    clock: FakeClock, profile: str, layer: Layer, write: Write, read: Read
) -> None:
    settings = Settings.profile(profile)
    cache = RouteCache(url="memory://", settings=settings, clock=clock, observers=[])
    await write(cache, None)
    clock.advance(settings.ttl_s(layer) - 0.001)
    assert await read(cache) is not None
    clock.advance(0.001)
    assert await read(cache) is None


@pytest.mark.parametrize(("layer", "write", "read"), PAIRS)
async def test_a_lifetime_can_be_given(
    cache: RouteCache, clock: FakeClock, layer: Layer, write: Write, read: Read
) -> None:
    assert await write(cache, 0) is False
    assert await read(cache) is None
    assert await write(cache, 7.5) is True
    clock.advance(7.4)
    assert await read(cache) is not None
    clock.advance(0.2)
    assert await read(cache) is None
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="ttl_s is"):
            await write(cache, wrong)
    assert cache.stats().layer(layer).writes == 1


async def test_get_or_compute_takes_a_lifetime_too_and_checks_it_first(
    cache: RouteCache, clock: FakeClock
) -> None:
    compute = Compute(RoutingDecision("m"))
    with pytest.raises(ValueError, match="ttl_s is -1"):
        await cache.route("q", compute, ttl_s=-1)
    assert compute.calls == 0
    await cache.route("q", compute, ttl_s=0)
    assert cache.stats().routing.writes == 0
    await cache.route("q", compute, ttl_s=5)
    clock.advance(4.9)
    assert (await cache.route("q", compute)).outcome is Outcome.HIT
    clock.advance(0.2)
    assert (await cache.route("q", compute)).outcome is Outcome.MISS


async def test_tags_are_never_the_letters_of_one(cache: RouteCache) -> None:
    with pytest.raises(TypeError, match="several strings"):
        await cache.cache_routing_decision("q", "m", tags="blue")
    with pytest.raises(TypeError, match="several strings"):
        await cache.route("q", Compute(None), tags="blue")


async def test_answers_over_the_limit_are_not_stored(clock: FakeClock) -> None:
    cache = build(clock, max_result_bytes=10)
    assert await cache.cache_query_result("q", "m", b"x" * 10)
    assert not await cache.cache_query_result("r", "m", b"x" * 11)
    assert await cache.get_query_result("r", "m") is None
    compute = Compute(b"x" * 11)
    for _ in range(2):
        assert (await cache.result("s", "m", compute)).outcome is Outcome.MISS
    stats = cache.stats()
    assert (stats.result.writes, stats.result.discards) == (1, 3)
    assert stats.discards == {"too-large": 3}


async def test_what_cannot_fit_at_all_is_a_discard(clock: FakeClock) -> None:
    cache = build(clock, max_memory_bytes=1000)
    assert not await cache.cache_query_result("q", "m", b"x" * 5000)
    assert cache.stats().result == LayerStats(discards=1)


@pytest.mark.parametrize("data", [bytearray(b"x"), memoryview(b"x")])
async def test_bytes_of_any_kind_are_stored_as_bytes(cache: RouteCache, data: Any) -> None:
    await cache.cache_query_result("q", "m", data)
    found = await cache.get_query_result("q", "m")
    assert found is not None
    assert type(found.result_data) is bytes
    assert (await cache.result("r", "m", Compute(data))).result_data == b"x"


@pytest.mark.parametrize("data", ["text", None, 3, {"a": 1}])
async def test_an_answer_that_is_not_bytes_is_refused(cache: RouteCache, data: Any) -> None:
    with pytest.raises(TypeError, match="has to be bytes"):
        await cache.cache_query_result("q", "m", data)
    with pytest.raises(TypeError, match="has to be bytes"):
        await cache.result("q", "m", Compute(data))


# Get-or-compute.


async def test_a_decision_is_computed_once(cache: RouteCache, clock: FakeClock) -> None:
    made = RoutingDecision("m", 0.5, (("n", 0.1),), strategy="s")
    compute = Compute(made)
    first = await cache.route("q", compute)
    clock.advance(3.0)
    second = await cache.route("q", compute)
    assert first == second == made
    assert (first.outcome, first.age_s) == (Outcome.MISS, 0.0)
    assert (second.outcome, second.age_s) == (Outcome.HIT, 3.0)
    assert compute.calls == 1
    assert await cache.get_routing_decision("q") == made


async def test_an_answer_is_computed_once(cache: RouteCache, clock: FakeClock) -> None:
    async def compute() -> bytes:
        clock.advance(0.25)
        return b"answer"

    first = await cache.result("q", "m", compute)
    assert first == QueryResult(b"answer", "m", 250.0)
    clock.advance(3.0)
    second = await cache.result("q", "m", Compute(None))
    assert second == first
    assert (first.outcome, second.outcome, second.age_s) == (Outcome.MISS, Outcome.HIT, 3.0)


async def test_a_whole_answer_keeps_what_it_says(cache: RouteCache) -> None:
    made = QueryResult(
        b"x", "m-2024", 5.0, "text/event-stream", headers=((b"a", b"b"),), has_usage=True
    )
    assert await cache.result("q", "m", Compute(made)) == made
    assert await cache.get_query_result("q", "m") == made
    for name in ("m", "m-2024"):  # both are names of the model that made it
        await cache.result("q", "m", Compute(made))
        await cache.invalidate_model(name)
        assert await cache.get_query_result("q", "m") is None


async def test_metadata_is_loaded_once(cache: RouteCache, clock: FakeClock) -> None:
    load = Compute(ModelMetadata("m", {"tools": True}))
    first = await cache.metadata("m", load)
    clock.advance(3.0)
    second = await cache.metadata("m", load)
    assert first == second == ModelMetadata("m", {"tools": True})
    assert (first.outcome, second.outcome, second.age_s) == (Outcome.MISS, Outcome.HIT, 3.0)
    assert load.calls == 1


async def test_concurrent_callers_share_one_computation(cache: RouteCache) -> None:
    compute = Compute(RoutingDecision("m", outcome=Outcome.HIT, age_s=9.0))
    found = await asyncio.gather(*(cache.route("q", compute) for _ in range(50)))
    assert compute.calls == 1
    assert [one.outcome for one in found] == [Outcome.MISS] + [Outcome.COALESCED] * 49
    assert {one.age_s for one in found} == {0.0}
    assert cache.stats().routing == LayerStats(
        misses=1, coalesced=49, writes=1, entries=1, bytes=cache.stats().routing.bytes
    )
    assert len(cache._decisions) == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_metadata_and_answers_are_shared_too(cache: RouteCache) -> None:
    load, compute = Compute(ModelMetadata("m")), Compute(b"x")
    models = await asyncio.gather(*(cache.metadata("m", load) for _ in range(3)))
    answers = await asyncio.gather(*(cache.result("q", "m", compute) for _ in range(3)))
    assert (load.calls, compute.calls) == (1, 1)
    expected = [Outcome.MISS, Outcome.COALESCED, Outcome.COALESCED]
    assert [one.outcome for one in models] == expected
    assert [one.outcome for one in answers] == expected


async def test_without_coalescing_everybody_computes(clock: FakeClock) -> None:
    cache = build(clock, coalescing=False)
    compute = Compute(b"x")
    found = await asyncio.gather(*(cache.result("q", "m", compute) for _ in range(5)))
    assert compute.calls == 5
    assert [one.outcome for one in found] == [Outcome.MISS] * 5


async def test_refresh_makes_it_anew(cache: RouteCache) -> None:
    await cache.route("q", Compute(RoutingDecision("old")))
    found = await cache.route("q", Compute(RoutingDecision("new")), refresh=True)
    assert (found.selected_model, found.outcome) == ("new", Outcome.MISS)
    found = await cache.route("q", Compute(None))
    assert (found.selected_model, found.outcome) == ("new", Outcome.HIT)
    assert (cache.stats().routing.misses, cache.stats().routing.hits) == (2, 1)


async def test_store_false_leaves_no_trace(cache: RouteCache) -> None:
    compute = Compute(RoutingDecision("m"))
    for _ in range(2):
        assert (await cache.route("q", compute, store=False)).outcome is Outcome.MISS
    assert compute.calls == 2
    assert cache.stats().routing.writes == 0


async def test_errors_of_the_callers_own_pass_and_are_misses(
    cache: RouteCache, watcher: Watcher
) -> None:
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        await cache.route("q", Compute(error))
    assert caught.value is error
    assert cache.stats().routing == LayerStats(misses=1)
    assert watcher.all_are_finished()


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda c: c.route("q", Compute("m")), "RoutingDecision"),
        (lambda c: c.metadata("m", Compute({})), "ModelMetadata"),
    ],
)
async def test_a_value_of_the_wrong_kind_is_a_type_error(
    cache: RouteCache, call: Callable[[RouteCache], Awaitable[object]], kind: str
) -> None:
    with pytest.raises(TypeError, match=f"returned no {kind}"):
        await call(cache)


async def test_what_cannot_be_written_down_is_still_returned(cache: RouteCache) -> None:
    made = ModelMetadata("m", {"x": object()})
    assert await cache.metadata("m", Compute(made)) == made
    assert cache.stats().metadata.write_errors == 1
    with pytest.raises(TypeError, match="cannot be stored"):
        await cache.cache_model_metadata("m", {"x": object()})


async def test_an_entry_that_cannot_be_read_is_a_miss(clock: FakeClock) -> None:
    memory = MemoryCoordinator(max_bytes=10_000_000, clock=clock)
    cache = RouteCache(coordinator=memory, settings=Settings(), clock=clock, observers=[])
    await cache.cache_routing_decision("q", "m")
    entry = memory.fetch_now([route_key("q")], Position(0)).entries[0]
    assert entry is not None
    memory.store_now(route_key("q"), msgspec.structs.replace(entry, body=b"\xc1"))
    assert await cache.get_routing_decision("q") is None
    compute = Compute(RoutingDecision("n"))
    assert (await cache.route("q", compute)).outcome is Outcome.MISS
    assert (await cache.route("q", compute)).outcome is Outcome.HIT
    assert (cache.stats().routing.misses, cache.stats().routing.hits) == (2, 1)


async def test_the_router_version_of_the_settings_is_the_default(clock: FakeClock) -> None:
    cache = build(clock, router_version="v2")
    first = await cache.route("q", Compute(RoutingDecision("m")))
    assert first.router_version == "v2"
    assert await cache.get_routing_decision("q") == first
    other = await cache.route("r", Compute(RoutingDecision("m", router_version="v1")))
    assert other.router_version == "v1"
    await cache.cache_routing_decision("s", "m")
    found = await cache.get_routing_decision("s")
    assert found is not None
    assert found.router_version == "v2"


async def test_a_cached_decision_falls_back_to_an_eligible_model(cache: RouteCache) -> None:
    made = RoutingDecision("a", 0.9, (("b", 0.5),))
    compute = Compute(made)
    await cache.route("q", compute)
    found = await cache.route("q", compute, eligible=lambda model: model == "b")
    assert (found.selected_model, found.score, found.outcome) == ("b", 0.5, Outcome.HIT)
    assert await cache.route("q", compute, eligible=lambda _: True) == made
    assert compute.calls == 1
    # None is eligible: made anew, and returned as it is when that does not help.
    found = await cache.route("q", compute, eligible=lambda _: False)
    assert (found.selected_model, found.outcome) == ("a", Outcome.MISS)
    assert compute.calls == 2


async def test_each_caller_of_a_flight_has_its_own_idea_of_what_is_eligible(
    cache: RouteCache,
) -> None:
    compute = Compute(RoutingDecision("a", 0.9, (("b", 0.5),)))
    found = await asyncio.gather(
        cache.route("q", compute, eligible=lambda model: model == "b"),
        cache.route("q", compute),
    )
    assert [one.selected_model for one in found] == ["b", "a"]
    assert compute.calls == 1
    stored = await cache.get_routing_decision("q")
    assert stored == RoutingDecision("a", 0.9, (("b", 0.5),))


# Live load and metadata.


async def test_live_load_keeps_what_was_said_of_capabilities(
    cache: RouteCache, clock: FakeClock
) -> None:
    await cache.cache_model_metadata("m", {"tools": True}, 0, 0, tags=["x"])
    clock.advance(50.0)
    load = cache.engine.load.started("m")
    found = await cache.get_model_metadata("m")
    assert found == ModelMetadata("m", {"tools": True}, 1.0)
    load.ended(200.0, is_failure=False)
    found = await cache.metadata("m", Compute(None))
    assert found == ModelMetadata("m", {"tools": True}, 0.0, 200.0)
    assert found.age_s == 50.0  # measuring does not make it look fresh
    metrics = await cache.get_load_metrics("m")
    assert metrics is not None
    assert (metrics.in_flight, metrics.avg_response_time_ms) == (0, 200.0)
    clock.advance(9.9)
    assert await cache.get_model_metadata("m") is not None
    clock.advance(0.1)
    assert await cache.get_model_metadata("m") is None


async def test_what_was_only_measured_does_not_satisfy_who_wants_metadata(
    cache: RouteCache,
) -> None:
    cache.engine.load.started("m").ended(80.0, is_failure=False)
    found = await cache.get_model_metadata("m")
    assert found is not None
    assert (found.is_observed, found.avg_response_time_ms) == (True, 80.0)
    load = Compute(ModelMetadata("m", {"tools": True}))
    assert (await cache.metadata("m", load)).outcome is Outcome.MISS
    assert (await cache.metadata("m", load)).outcome is Outcome.HIT
    assert load.calls == 1


async def test_measurements_that_cannot_be_read_are_replaced(clock: FakeClock) -> None:
    memory = MemoryCoordinator(max_bytes=10_000_000, clock=clock)
    cache = RouteCache(coordinator=memory, settings=Settings(), clock=clock, observers=[])
    await cache.cache_model_metadata("m", {})
    ((key, entry),) = await memory.sample(Layer.METADATA, 1)
    memory.store_now(key, msgspec.structs.replace(entry, body=b"\xc1"))
    cache.engine.load.started("m")
    found = await cache.get_model_metadata("m")
    assert found is not None
    assert found.is_observed


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.READ_ONLY])
async def test_measurements_are_not_stored_where_nothing_is(cache: RouteCache, mode: Mode) -> None:
    cache.mode = mode
    cache.engine.load.started("m")
    assert await cache.get_load_metrics("m") is None
    assert cache.stats().total_keys == 0


async def test_layers_without_a_lifetime_hold_no_measurements(clock: FakeClock) -> None:
    cache = build(clock, load_ttl_s=0, metadata_ttl_s=0)
    cache.engine.load.started("m")
    assert await cache.get_load_metrics("m") is None
    assert cache.stats().total_keys == 0


# Modes.


async def use(cache: RouteCache) -> tuple[bool, Outcome, int, bool]:
    """Fill by hand, read, compute, and say what came of it."""
    is_stored = await cache.cache_routing_decision("q", "m")
    compute = Compute(RoutingDecision("m"))
    found = await cache.route("q", compute)
    is_found = await cache.get_routing_decision("q") is not None
    return is_stored, found.outcome, compute.calls, is_found


@pytest.mark.parametrize(
    ("mode", "expected", "stats"),
    [
        (Mode.ON, (True, Outcome.HIT, 0, True), CacheStats(routing=LayerStats(hits=2, writes=1))),
        (
            Mode.OFF,
            (False, Outcome.BYPASS, 1, False),
            CacheStats(routing=LayerStats(bypasses=2)),
        ),
        (
            Mode.READ_ONLY,
            (False, Outcome.MISS, 1, False),
            CacheStats(routing=LayerStats(misses=2)),
        ),
        (
            Mode.WRITE_ONLY,
            (True, Outcome.MISS, 1, False),
            CacheStats(routing=LayerStats(misses=1, bypasses=1, writes=2)),
        ),
        (
            Mode.SHADOW,
            (True, Outcome.MISS, 1, False),
            CacheStats(routing=LayerStats(writes=1), shadow_hits=2),
        ),
    ],
)
async def test_what_a_mode_does(
    cache: RouteCache,
    mode: Mode,
    expected: tuple[bool, Outcome, int, bool],
    stats: CacheStats,
) -> None:
    cache.mode = mode
    assert await use(cache) == expected
    counted = cache.stats()
    assert counted.shadow_hits == stats.shadow_hits
    for name in ("hits", "misses", "bypasses", "writes", "coalesced", "errors"):
        assert getattr(counted.routing, name) == getattr(stats.routing, name), name


async def test_a_shadow_miss_is_stored_and_then_counts_as_a_shadow_hit(
    clock: FakeClock,
) -> None:
    cache = build(clock, mode="shadow")
    compute = Compute(RoutingDecision("m"))
    for _ in range(3):
        assert (await cache.route("q", compute)).outcome is Outcome.MISS
        clock.advance(120.0)  # what would have been served keeps its age, and expires
    assert compute.calls == 3
    assert await cache.get_routing_decision("q") is None
    stats = cache.stats()
    assert (stats.routing.misses, stats.routing.writes, stats.shadow_hits) == (2, 1, 2)


async def test_modes_switch_at_run_time_by_their_words(cache: RouteCache) -> None:
    await cache.cache_routing_decision("q", "m")
    setattr(cache, "mode", "off")  # noqa: B010 - the property is typed by its getter
    assert cache.mode is Mode.OFF
    assert await cache.get_routing_decision("q") is None
    cache.mode = Mode.ON
    assert await cache.get_routing_decision("q") is not None
    with pytest.raises(ConfigurationError, match="mode is 'of'; it has to be one of on, off"):
        setattr(cache, "mode", "of")  # noqa: B010 - as above
    assert cache.settings.mode is Mode.ON


async def test_answers_can_be_left_uncached_as_a_whole(clock: FakeClock) -> None:
    cache = build(clock, result_caching=False)
    assert not await cache.cache_query_result("q", "m", b"x")
    assert await cache.get_query_result("q", "m") is None
    compute = Compute(b"x")
    for _ in range(2):
        assert (await cache.result("q", "m", compute)).outcome is Outcome.BYPASS
    assert compute.calls == 2
    assert cache.stats().result == LayerStats(bypasses=3)
    assert (await use(cache))[1] is Outcome.HIT  # decisions are unaffected


# Statistics and telemetry.


async def test_rates_come_from_what_was_counted(cache: RouteCache) -> None:
    assert cache.stats().overall_hit_rate() == 0.0
    await cache.get_routing_decision("q")
    await cache.cache_routing_decision("q", "m")
    for _ in range(3):
        await cache.get_routing_decision("q")
    await cache.get_query_result("q", "m")
    await cache.metadata("m", Compute(ModelMetadata("m")))
    await cache.metadata("m", Compute(None))
    await cache.cache_load_metrics("m")
    await cache.get_load_metrics("m")
    stats = cache.stats()
    assert stats.routing_hit_rate() == 0.75
    assert stats.result_hit_rate() == 0.0
    assert stats.metadata_hit_rate() == 0.5
    assert stats.load_hit_rate() == 1.0
    assert stats.overall_hit_rate() == 5 / 8
    assert (stats.total_keys, stats.total_keys_age_s, stats.cluster_nodes) == (3, 0.0, 1)


async def test_every_operation_is_told_and_ended(cache: RouteCache, watcher: Watcher) -> None:
    compute = Compute(RoutingDecision("m"))
    await asyncio.gather(*(cache.route("q", compute) for _ in range(2)))
    await cache.route("q", compute)
    await cache.invalidate_model("m")
    assert watcher.begun == [
        "cache.get route",
        "cache.get route",
        "cache.wait route",
        "cache.put route",
        "cache.get route",
        "cache.remove model",
    ]
    assert watcher.all_are_finished()


# Building.


def test_building_opens_nothing_and_needs_no_event_loop() -> None:
    cache = RouteCache.from_url("memory://", settings=Settings())
    assert cache.stats().total_keys == 0
    assert cache.engine.table.position == 0


def test_a_wrong_url_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="unknown scheme"):
        RouteCache.from_url("nosuch://")


async def test_a_coordinator_that_looks_empty_is_still_the_one_to_use(clock: FakeClock) -> None:
    class Empty(MemoryCoordinator):
        def __len__(self) -> int:
            return 0

    coordinator = Empty(max_bytes=10_000_000, clock=clock)
    cache = RouteCache(coordinator=coordinator, settings=Settings(), observers=[])
    assert cache.engine.coordinator is coordinator


async def test_open_and_close_any_number_of_times(cache: RouteCache) -> None:
    await cache.open()
    await cache.open()
    async with cache as opened:
        assert opened is cache
    await cache.aclose()
    await cache.aclose()
    assert await cache.cache_routing_decision("q", "m")
