"""Get-or-compute below RouteCache: what is looked up, made, stored and told, and in which order."""

import asyncio

import msgspec
import pytest

from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.events import LookupFinished, PutFinished, WaitFinished
from routecache_middleware.core.invalidation import InvalidationRow, model_scope
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import Entry, Outcome, Position
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.records import Provenance
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.get_or_compute import get_or_compute
from routecache_middleware.engine.single_flight import SingleFlight
from routecache_middleware.testing.clock import FakeClock
from tests.engine.test_engine import Watcher


class Text(msgspec.Struct):
    """Wants a text, which stands in the entry's body."""

    key: CacheKey = CacheKey("route:q")
    layer: Layer = Layer.ROUTING
    tenant: str = ""
    tags: tuple[str, ...] = ()
    ttl_s: float | None = None
    refresh: bool = False
    store: bool = True
    text: str = "made"
    made: list[Provenance] = []

    def read(self, entry: Entry, age_s: float) -> str | None:
        return None if entry.body == b"unusable" else f"{entry.body.decode()}, {age_s} s old"

    async def make(self) -> str:
        await asyncio.sleep(0)
        return self.text

    def write(self, value: str, made: Provenance) -> Entry:
        self.made.append(made)
        if value == "unwritable":
            raise ValueError(value)
        return Entry(
            self.layer,
            value.encode(),
            made.now_s,
            made.ttl_s,
            position=made.position,
            scopes=(model_scope("m"),),
        )

    def models(self, value: str | None) -> tuple[str, ...]:
        return () if value is None else ("m",)

    def mark(self, value: str, outcome: Outcome) -> str:
        return f"{value}: {outcome}"


class Bench:
    """An engine over memory, and what was told of it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.watcher = Watcher()
        self.memory = MemoryCoordinator(max_bytes=10_000_000, clock=self.clock)
        self.flights: SingleFlight[str] = SingleFlight(self.clock)
        self.engine = Engine(self.memory, Settings(), CachePolicy(), self.clock, self.watcher)

    async def get(self, wanted: Text) -> str:
        return await get_or_compute(self.engine, self.flights, wanted)

    def counted(self) -> dict[str, int]:
        counters = self.engine.recorder.layers[Layer.ROUTING]
        return {name: count for name in counters.__slots__ if (count := getattr(counters, name))}


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_miss_is_made_and_stored_and_then_found(bench: Bench) -> None:
    wanted = Text(tenant="t", tags=("x",))
    assert await bench.get(wanted) == "made: miss"
    bench.clock.advance(2.0)
    assert await bench.get(wanted) == "made, 2.0 s old"
    assert bench.counted() == {"hits": 1, "misses": 1, "writes": 1}
    (made,) = wanted.made
    began = bench.clock.now_s() - 2.0
    origin = f"00-{1:032x}-{1:016x}-01"  # the lookup's span
    assert made == Provenance(began, 300.0, Position(0), "t", ("x",), origin)
    kinds = [type(record) for _, record in bench.watcher.finished]
    assert kinds == [LookupFinished, PutFinished, LookupFinished]


async def test_what_was_found_but_will_not_do_is_made_anew(bench: Bench) -> None:
    await bench.get(Text(text="unusable"))
    assert await bench.get(Text()) == "made: miss"
    assert await bench.get(Text()) == "made, 0.0 s old"


async def test_a_refresh_is_not_looked_up_and_not_shared(bench: Bench) -> None:
    found = await asyncio.gather(*(bench.get(Text(refresh=True)) for _ in range(3)))
    assert found == ["made: miss"] * 3
    assert bench.watcher.begun == ["cache.put route"] * 3
    assert bench.counted() == {"misses": 3, "writes": 3}


async def test_followers_are_linked_to_their_leader(bench: Bench) -> None:
    found = await asyncio.gather(*(bench.get(Text(text=str(number))) for number in range(3)))
    assert found == ["0: miss", "0: coalesced", "0: coalesced"]
    leader = f"00-{1:032x}-{1:016x}-01"
    waits = [record for _, record in bench.watcher.finished if isinstance(record, WaitFinished)]
    assert waits == [WaitFinished(Outcome.COALESCED, leader)] * 2


@pytest.mark.parametrize("text", ["made", "unwritable"])
async def test_the_value_is_returned_whether_or_not_it_can_be_written(
    bench: Bench, text: str
) -> None:
    assert await bench.get(Text(text=text)) == f"{text}: miss"
    kind = "writes" if text == "made" else "write_errors"
    assert bench.counted() == {"misses": 1, kind: 1}


async def test_a_lifetime_of_nothing_is_not_stored(bench: Bench) -> None:
    wanted = Text(ttl_s=0)
    assert await bench.get(wanted) == "made: miss"
    assert wanted.made == []


async def test_the_mode_counts_at_the_time_of_storing(bench: Bench) -> None:
    task = asyncio.ensure_future(bench.get(Text()))
    await asyncio.sleep(0)
    bench.engine.mode = Mode.READ_ONLY
    assert await task == "made: miss"
    assert bench.counted() == {"misses": 1}


async def test_a_value_that_was_invalidated_meanwhile_is_looked_up_again_by_who_shared_it(
    bench: Bench,
) -> None:
    first = asyncio.ensure_future(bench.get(Text(text="old")))
    second = asyncio.ensure_future(bench.get(Text(text="new")))
    await asyncio.sleep(0)
    await bench.engine.invalidate([InvalidationRow(model_scope("m"))])
    assert [await first, await second] == ["old: miss", "new: miss"]
    assert bench.counted() == {"misses": 2, "writes": 1, "discards": 1}
    assert len(bench.flights) == 0


async def test_one_who_gave_up_waiting_is_not_counted(bench: Bench) -> None:
    first = asyncio.ensure_future(bench.get(Text()))
    second = asyncio.ensure_future(bench.get(Text()))
    await asyncio.sleep(0)
    second.cancel()
    assert await first == "made: miss"
    assert bench.counted() == {"misses": 1, "writes": 1}
    assert bench.watcher.all_are_finished()
