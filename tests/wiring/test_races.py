"""What is invalidated is never served again, whatever was under way at the time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.core.keys import CacheKey, Layer, result_key, route_key
from routecache_middleware.core.models import ModelMetadata, QueryResult, RoutingDecision
from routecache_middleware.core.settings import Settings
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.wiring.cache import RouteCache


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def memory(clock: FakeClock) -> MemoryCoordinator:
    return MemoryCoordinator(max_bytes=10_000_000, clock=clock)


def build(memory: MemoryCoordinator, clock: FakeClock) -> RouteCache:
    return RouteCache(coordinator=memory, settings=Settings(), clock=clock, observers=[])


@pytest.fixture
def cache(memory: MemoryCoordinator, clock: FakeClock) -> RouteCache:
    return build(memory, clock)


@pytest.fixture
def other(memory: MemoryCoordinator, clock: FakeClock) -> RouteCache:
    return build(memory, clock)


class Slow:
    """Makes a value, and takes until it is told."""

    def __init__(self, value: object) -> None:
        self.value = value
        self.calls = 0
        self.go = asyncio.Event()

    async def __call__(self, *_: str) -> object:
        self.calls += 1
        await self.go.wait()
        return self.value


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


OLD = RoutingDecision("m", strategy="old")
NEW = RoutingDecision("m", strategy="new")
Removal = Callable[[RouteCache, MemoryCoordinator], Awaitable[object]]


async def fill_by_hand(cache: RouteCache, slow: Slow) -> None:
    assert await cache.get_routing_decision("q") is None
    assert await cache.get_query_result("q", "m") is None
    assert await cache.get_model_metadata("m") is None
    await slow()
    await cache.cache_routing_decision("q", "m")
    await cache.cache_query_result("q", "m", b"old")
    await cache.cache_model_metadata("m", {"old": True})


async def fill_by_get_or_compute(cache: RouteCache, slow: Slow) -> None:
    async def decide() -> RoutingDecision:
        await slow()
        return OLD

    async def answer() -> QueryResult:
        await slow()
        return QueryResult(b"old", "m")

    async def load(_: str) -> ModelMetadata:
        await slow()
        return ModelMetadata("m", {"old": True})

    await asyncio.gather(
        cache.route("q", decide), cache.result("q", "m", answer), cache.metadata("m", load)
    )


async def refresh(cache: RouteCache, slow: Slow) -> None:
    async def decide() -> RoutingDecision:
        await slow()
        return OLD

    await cache.route("q", decide, refresh=True)


async def warm(cache: RouteCache, slow: Slow) -> None:
    async def load(model_id: str) -> ModelMetadata:
        await slow()
        return ModelMetadata(model_id)

    await cache.warm(["m"], load=load)


async def what_is_served(*caches: RouteCache) -> list[object]:
    return [
        found
        for cache in caches
        for found in (
            await cache.get_routing_decision("q"),
            await cache.get_query_result("q", "m"),
            await cache.get_model_metadata("m"),
        )
        if found is not None
    ]


async def by_invalidation(cache: RouteCache, _: MemoryCoordinator) -> None:
    await cache.invalidate_model("m")


async def by_delete(_: RouteCache, memory: MemoryCoordinator) -> None:
    """The control: forget what there is, as caches without a log do."""
    for key in (route_key("q"), result_key("q", "m"), CacheKey("meta:m")):
        await memory.delete(key)


FILLS = [fill_by_hand, fill_by_get_or_compute, refresh, warm]


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("remove", [by_invalidation, by_delete])
@pytest.mark.parametrize("is_elsewhere", [False, True])
async def test_invalidation_during_a_fill_wins_over_the_fill(
    cache: RouteCache,
    other: RouteCache,
    memory: MemoryCoordinator,
    fill: Callable[[RouteCache, Slow], Awaitable[None]],
    remove: Removal,
    *,
    is_elsewhere: bool,
) -> None:
    """A control that deletes instead fails the same check: it serves the old value."""
    slow = Slow(None)
    filling = asyncio.ensure_future(fill(cache, slow))
    await settle()
    assert slow.calls >= 1
    await remove(other if is_elsewhere else cache, memory)
    slow.go.set()
    await filling
    served = await what_is_served(cache, other)
    if remove is by_invalidation:
        assert served == []
    else:
        assert served != []
    # And what is made afterwards is served.
    await cache.cache_routing_decision("q", "m", strategy="new")
    for one in (cache, other):
        found = await one.get_routing_decision("q")
        assert found is not None
        assert found.strategy == "new"


async def test_a_newcomer_does_not_join_a_flight_that_has_been_invalidated(
    cache: RouteCache,
) -> None:
    """Which model it will select nobody knows while it is under way."""
    old, new = Slow(OLD), Slow(NEW)
    leader = asyncio.ensure_future(cache.route("q", old))  # type: ignore[arg-type]
    follower = asyncio.ensure_future(cache.route("q", new))  # type: ignore[arg-type]
    await settle()
    assert new.calls == 0
    await cache.invalidate_model("m")
    newcomer = asyncio.ensure_future(cache.route("q", new))  # type: ignore[arg-type]
    await settle()
    old.go.set()
    assert await leader == OLD  # it asked before
    new.go.set()
    assert await newcomer == await follower == NEW
    assert (old.calls, new.calls) == (1, 1)
    assert await cache.get_routing_decision("q") == NEW


@pytest.mark.parametrize("is_tagged", [False, True])
async def test_a_newcomer_opens_its_own_flight_when_the_scope_is_known(
    cache: RouteCache, *, is_tagged: bool
) -> None:
    old, new = Slow(b"old"), Slow(b"new")
    leader = asyncio.ensure_future(cache.result("q", "m", old, tags=["x"]))  # type: ignore[arg-type]
    await settle()
    await (cache.invalidate_tag("x") if is_tagged else cache.invalidate_model("m"))
    newcomer = asyncio.ensure_future(cache.result("q", "m", new, tags=["x"]))  # type: ignore[arg-type]
    await settle()
    assert new.calls == 1  # at once
    new.go.set()
    assert (await newcomer).result_data == b"new"
    old.go.set()
    assert (await leader).result_data == b"old"
    found = await cache.get_query_result("q", "m")
    assert found is not None
    assert found.result_data == b"new"  # the doomed one did not take its place


async def test_an_invalidation_of_something_else_leaves_a_flight_alone(cache: RouteCache) -> None:
    slow = Slow(b"value")
    tasks = [asyncio.ensure_future(cache.result("q", "m", slow))]  # type: ignore[arg-type]
    await settle()
    await cache.invalidate_model("n")
    await cache.invalidate_tenant("t")
    tasks.append(asyncio.ensure_future(cache.result("q", "m", slow)))  # type: ignore[arg-type]
    await settle()
    slow.go.set()
    assert {(await task).result_data for task in tasks} == {b"value"}
    assert slow.calls == 1
    assert await cache.get_query_result("q", "m") is not None


async def test_two_fills_of_a_key_at_once_do_not_get_each_others_position(
    cache: RouteCache,
) -> None:
    first, second = asyncio.Event(), asyncio.Event()

    async def fill(go: asyncio.Event, strategy: str) -> bool:
        assert await cache.get_routing_decision("q") is None
        await go.wait()
        return await cache.cache_routing_decision("q", "m", strategy=strategy)

    early = [asyncio.ensure_future(fill(first, "old")) for _ in range(2)]
    await settle()
    await cache.invalidate_model("m")
    late = asyncio.ensure_future(fill(second, "new"))
    await settle()
    first.set()
    assert [await task for task in early] == [False, False]
    assert await cache.get_routing_decision("q") is None
    second.set()
    assert await late
    found = await cache.get_routing_decision("q")
    assert found is not None
    assert found.strategy == "new"


async def test_a_lookup_in_another_task_counts_too(cache: RouteCache) -> None:
    await asyncio.gather(cache.get_routing_decision("q"), cache.get_routing_decision("r"))
    await cache.invalidate_model("m")
    assert not await cache.cache_routing_decision("q", "m")
    assert await cache.cache_routing_decision("q", "m")  # a miss is good for one write


async def test_a_captured_position_can_be_given(cache: RouteCache) -> None:
    captured = cache.engine.table.position
    await cache.invalidate_model("m")
    assert not await cache.cache_routing_decision("q", "m", captured=captured)
    assert not await cache.cache_query_result("q", "m", b"", captured=captured)
    assert not await cache.cache_model_metadata("m", {}, captured=captured)
    assert not await cache.cache_load_metrics("m", captured=captured)
    assert cache.stats().routing.discards == 1
    assert await cache.cache_routing_decision("q", "m", captured=cache.engine.table.position)


async def test_one_task_may_miss_many_keys(cache: RouteCache) -> None:
    for number in range(100):
        assert await cache.get_routing_decision(str(number)) is None
    await cache.invalidate_model("m")
    stored = [await cache.cache_routing_decision(str(number), "m") for number in range(100)]
    assert stored == [False] * 100


async def test_what_another_process_invalidated_before_does_not_spoil_what_is_stored_now(
    cache: RouteCache, other: RouteCache
) -> None:
    await cache.open()
    await other.invalidate_model("m")
    assert await cache.cache_routing_decision("q", "m")
    assert await cache.get_routing_decision("q") is not None
    await other.invalidate_model("m")

    async def decide() -> RoutingDecision:
        return NEW

    await cache.route("q", decide, refresh=True)
    assert await cache.get_routing_decision("q") == NEW


# Any interleaving.

MODELS, TENANTS, TAGS, HASHES = ("m", "n"), ("", "t"), ("x", "y"), ("1", "2")


@dataclass(frozen=True)
class Made:
    """One value: what covers it, and when its making began and ended."""

    number: int
    layer: Layer
    query_hash: str
    model: str
    tenant: str
    tags: tuple[str, ...]
    router_version: str
    began: int
    finished_s: float


@dataclass(frozen=True)
class Row:
    """An invalidation that has been acknowledged."""

    at: int
    covers: Callable[[Made], bool]


@dataclass
class World:
    """A simple model of what may be served, and the real thing beside it."""

    seed: int
    clock: FakeClock = field(default_factory=FakeClock)
    time: int = 0
    made: dict[int, Made] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    served: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        memory = MemoryCoordinator(max_bytes=10_000_000, clock=self.clock)
        self.caches = [build(memory, self.clock) for _ in range(2)]

    def tick(self) -> int:
        self.time += 1
        return self.time

    def check(self, number: int, asked: int) -> None:
        """What was served must not be older than an invalidation acknowledged before asking."""
        made = self.made[number]
        for row in self.rows:
            if row.at < asked and made.began < row.at:
                assert not row.covers(made), (self.seed, made, row)
        self.served += 1

    async def wait(self) -> None:
        for _ in range(self.random.randrange(8)):
            await asyncio.sleep(0)

    async def compute(self, began: int, layer: Layer, query_hash: str, tenant: str) -> Made:
        number = self.tick()
        await self.wait()
        self.clock.advance(self.random.choice((0.0, 0.0, 1.0)))
        made = Made(
            number,
            layer,
            query_hash,
            self.random.choice(MODELS),
            tenant,
            tuple(tag for tag in TAGS if self.random.random() < 0.3),
            self.random.choice(("v1", "v2")),
            began,
            self.clock.now_s(),
        )
        self.made[number] = made
        return made

    async def one(self) -> None:
        cache = self.random.choice(self.caches)
        query_hash, tenant = self.random.choice(HASHES), self.random.choice(TENANTS)
        action = self.random.choice(
            (self.fill_decision, self.fill_answer, self.route, self.result, self.invalidate)
        )
        await self.wait()
        await action(cache, query_hash, tenant)

    async def fill_decision(self, cache: RouteCache, query_hash: str, tenant: str) -> None:
        asked = self.tick()
        found = await cache.get_routing_decision(query_hash, tenant=tenant)
        if found is not None:
            self.check(int(found.strategy), asked)
            return
        made = await self.compute(asked, Layer.ROUTING, query_hash, tenant)
        await cache.cache_routing_decision(
            query_hash,
            made.model,
            strategy=str(made.number),
            router_version=made.router_version,
            tenant=tenant,
            tags=made.tags,
        )

    async def fill_answer(self, cache: RouteCache, query_hash: str, tenant: str) -> None:
        asked, model = self.tick(), self.random.choice(MODELS)
        found = await cache.get_query_result(query_hash, model, tenant=tenant)
        if found is not None:
            self.check(int(found.result_data), asked)
            return
        made = await self.compute(asked, Layer.RESULT, query_hash, tenant)
        self.made[made.number] = replace(made, model=model, router_version="")
        await cache.cache_query_result(
            query_hash, model, b"%d" % made.number, tenant=tenant, tags=made.tags
        )

    async def route(self, cache: RouteCache, query_hash: str, tenant: str) -> None:
        asked = self.tick()

        async def decide() -> RoutingDecision:
            made = await self.compute(self.time, Layer.ROUTING, query_hash, tenant)
            self.made[made.number] = replace(made, tags=())
            return RoutingDecision(
                made.model, strategy=str(made.number), router_version=made.router_version
            )

        found = await cache.route(
            query_hash, decide, tenant=tenant, refresh=self.random.random() < 0.2
        )
        self.check(int(found.strategy), asked)

    async def result(self, cache: RouteCache, query_hash: str, tenant: str) -> None:
        asked, model = self.tick(), self.random.choice(MODELS)

        async def answer() -> bytes:
            made = await self.compute(self.time, Layer.RESULT, query_hash, tenant)
            self.made[made.number] = replace(made, tags=(), model=model, router_version="")
            return b"%d" % made.number

        found = await cache.result(query_hash, model, answer, tenant=tenant)
        self.check(int(found.result_data), asked)

    async def invalidate(self, cache: RouteCache, query_hash: str, tenant: str) -> None:
        model, tag = self.random.choice(MODELS), self.random.choice(TAGS)
        layer = self.random.choice((Layer.ROUTING, Layer.RESULT))
        older_than = self.clock.now_s() if self.random.random() < 0.3 else None
        version = "v1" if self.random.random() < 0.2 else None

        def key(made: Made) -> bool:
            return (made.query_hash, made.tenant) == (query_hash, tenant)

        conditions = {"older_than": older_than, "router_version": version}
        choices: list[tuple[Callable[..., Awaitable[object]], Callable[[Made], bool]]] = [
            (cache.invalidate_all, lambda _: True),
            (partial(cache.invalidate_layer, layer), lambda m: m.layer is layer),
            (partial(cache.invalidate_model, model), lambda m: m.model == model),
            (
                partial(cache.invalidate_model, model, tenant=tenant),
                lambda m: (m.model, m.tenant) == (model, tenant),
            ),
            (partial(cache.invalidate_tenant, tenant), lambda m: m.tenant == tenant),
            (partial(cache.invalidate_tag, tag), lambda m: tag in m.tags),
            (
                partial(cache.invalidate_routing_decision, query_hash, tenant=tenant),
                lambda m: m.layer is Layer.ROUTING and key(m),
            ),
            (
                partial(cache.invalidate_query_result, query_hash, model, tenant=tenant),
                lambda m: m.layer is Layer.RESULT and m.model == model and key(m),
            ),
        ]
        call, covers = self.random.choice(choices)
        await call(**conditions)

        def meets(made: Made) -> bool:
            is_old = older_than is None or made.finished_s < older_than
            return is_old and (version is None or made.router_version == version) and covers(made)

        self.rows.append(Row(self.tick(), meets))


async def test_no_interleaving_serves_what_was_invalidated_before_it_was_asked_for() -> None:
    """Seeded; two caches on one coordinator, ten tasks at a time."""
    served = 0
    for seed in range(150):
        world = World(seed)
        for _ in range(12):
            await asyncio.gather(*(world.one() for _ in range(10)))
        served += world.served
        for cache in world.caches:
            assert len(cache._decisions) == len(cache._results) == 0
    assert served > 5000  # it did test something
    assert asyncio.all_tasks() == {asyncio.current_task()}
