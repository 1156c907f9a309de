"""ByteBoundedStore: never over the budget, never an expired or a replaced value, no leak."""

import math
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from routecache_middleware.coordinators.bounded import OVERHEAD_BYTES, ByteBoundedStore
from routecache_middleware.coordinators.shards import LruShard, S3FifoShard, Shard
from routecache_middleware.core.choices import Eviction

MIB = 1024 * 1024
both = pytest.mark.parametrize("eviction", list(Eviction))


def put(store: ByteBoundedStore[int], key: str, value: int = 0, *, size_bytes: int = 0) -> bool:
    return store.set(key, value, size_bytes=size_bytes, expires_s=1e9, now_s=0.0)


def small_store(eviction: Eviction, *, items: int) -> ByteBoundedStore[int]:
    """A store in which ``items`` items of cost 1000 fit."""
    return ByteBoundedStore(max_bytes=items * 1000, eviction=eviction)


def put_1000(store: ByteBoundedStore[int], key: str) -> None:
    assert put(store, key, size_bytes=1000 - OVERHEAD_BYTES - len(key))


@both
def test_key_value_and_overhead_are_charged_exactly(eviction: Eviction) -> None:
    store: ByteBoundedStore[int] = ByteBoundedStore(max_bytes=MIB, eviction=eviction)
    put(store, "abc", size_bytes=100)
    put(store, "de", size_bytes=7)
    assert (store.entries, store.bytes) == (2, 3 + 100 + 2 + 7 + 2 * OVERHEAD_BYTES)
    put(store, "abc", size_bytes=1)
    assert (store.entries, store.bytes) == (2, 3 + 1 + 2 + 7 + 2 * OVERHEAD_BYTES)
    assert store.delete("abc")
    assert not store.delete("abc")
    assert (store.entries, store.bytes, store.evictions) == (1, 2 + 7 + OVERHEAD_BYTES, 0)
    store.clear()
    assert (store.entries, store.bytes, store.get("de", 0.0)) == (0, 0, None)


@pytest.mark.parametrize(
    ("max_bytes", "shards"),
    [(0, 1), (4_000, 1), (7 * MIB, 1), (8 * MIB, 2), (63 * MIB, 8), (214 * MIB, 16), (2**40, 16)],
)
def test_a_small_budget_has_fewer_shards(max_bytes: int, shards: int) -> None:
    """So that one item of a megabyte fits whenever the budget is a few megabytes."""
    store: ByteBoundedStore[int] = ByteBoundedStore(max_bytes=max_bytes)
    assert len(store._shards) == shards
    assert sum(shard.limit_bytes for shard in store._shards) <= max_bytes
    assert max_bytes < 4 * MIB or store.max_item_bytes > 1.5 * MIB


@both
def test_an_item_that_is_too_large_is_refused_and_the_old_value_is_gone(
    eviction: Eviction,
) -> None:
    store: ByteBoundedStore[int] = ByteBoundedStore(max_bytes=MIB, eviction=eviction)
    put(store, "k", 1)
    assert put(store, "k", 2, size_bytes=store.max_item_bytes - OVERHEAD_BYTES - 1)
    assert store.get("k", 0.0) == 2
    assert not put(store, "k", 3, size_bytes=store.max_item_bytes - OVERHEAD_BYTES)
    assert store.get("k", 0.0) is None
    assert (store.entries, store.bytes) == (0, 0)


@pytest.mark.parametrize("expires_s", [0.0, 10.0, -math.inf, math.inf, math.nan])
def test_an_item_that_has_expired_or_never_would_is_refused(expires_s: float) -> None:
    store: ByteBoundedStore[int] = ByteBoundedStore(max_bytes=MIB)
    put(store, "k", 1)
    assert not store.set("k", 2, size_bytes=0, expires_s=expires_s, now_s=10.0)
    assert store.get("k", 0.0) is None


@both
def test_reading_an_expired_item_frees_it(eviction: Eviction) -> None:
    store: ByteBoundedStore[int] = ByteBoundedStore(max_bytes=MIB, eviction=eviction)
    store.set("k", 1, size_bytes=10, expires_s=5.0, now_s=0.0)
    assert store.get("k", 4.999) == 1
    assert store.get("k", 5.0) is None
    assert (store.entries, store.bytes) == (0, 0)


@both
def test_one_operation_frees_at_most_64_expired_items(eviction: Eviction) -> None:
    """A mass expiry must not stall the event loop; TLRUCache takes 248 ms for 100,000 items."""
    store: ByteBoundedStore[int] = ByteBoundedStore(max_bytes=MIB, eviction=eviction)
    for number in range(200):
        store.set(f"{number}", 0, size_bytes=0, expires_s=5.0, now_s=0.0)
    held = []
    for number in range(4):
        store.set(f"new{number}", 0, size_bytes=0, expires_s=99.0, now_s=50.0)
        held.append(store.entries)
    assert held == [137, 74, 11, 4]


def test_sweep_goes_round_the_shards() -> None:
    store: ByteBoundedStore[int] = ByteBoundedStore(max_bytes=64 * MIB)
    for number in range(500):
        store.set(f"{number}", 0, size_bytes=0, expires_s=5.0, now_s=0.0)
    assert store.sweep(1.0) == 0
    freed = [store.sweep(50.0) for _ in range(9)]
    assert freed == [64] * 7 + [52, 0]
    assert store.entries == 0


def test_lru_keeps_what_was_asked_for() -> None:
    store = small_store(Eviction.LRU, items=3)
    for key in "abc":
        put_1000(store, key)
    store.get("a", 0.0)
    put_1000(store, "d")
    assert [key for key in "abcd" if store.get(key, 0.0) is not None] == ["a", "c", "d"]
    assert store.evictions == 1


def test_s3fifo_keeps_popular_items_through_a_scan() -> None:
    """Prompts that are never repeated push out each other; LRU would lose everything."""
    store = small_store(Eviction.S3FIFO, items=100)
    popular = [f"p{number}" for number in range(50)]
    for key in popular:
        put_1000(store, key)
        store.get(key, 0.0)
    for number in range(1_000):
        put_1000(store, f"scan{number}")
    assert all(store.get(key, 0.0) is not None for key in popular)


def test_s3fifo_takes_back_a_ghost_into_the_main_queue() -> None:
    store = small_store(Eviction.S3FIFO, items=10)
    put_1000(store, "ghost")
    for number in range(10):
        put_1000(store, f"a{number}")
    assert store.get("ghost", 0.0) is None
    put_1000(store, "ghost")
    for number in range(20):
        put_1000(store, f"b{number}")
    assert store.get("ghost", 0.0) is not None


def test_s3fifo_ghosts_are_bounded() -> None:
    store = small_store(Eviction.S3FIFO, items=10)
    for number in range(1_000):
        put_1000(store, f"{number}")
    (shard,) = store._shards
    assert isinstance(shard, S3FifoShard)
    assert len(shard._ghosts) == 64


def test_s3fifo_gives_a_bounded_number_of_second_chances() -> None:
    """When all are popular one still has to go, and finding it must not walk over all of them."""
    store = small_store(Eviction.S3FIFO, items=1_000)
    for number in range(1_000):
        put_1000(store, f"{number}")
        for _ in range(4):
            store.get(f"{number}", 0.0)
    put_1000(store, "new")
    (shard,) = store._shards
    assert isinstance(shard, S3FifoShard)
    assert len(shard._main) == 64
    assert store.evictions == 1
    for number in range(2_000):  # now fill the main queue with popular items as well
        put_1000(store, f"x{number}")
        store.get(f"x{number}", 0.0)
        store.get(f"x{number}", 0.0)
    assert store.entries == 1_000


@both
def test_a_replaced_item_stays_as_popular_as_it_was(eviction: Eviction) -> None:
    store = small_store(eviction, items=20)
    put_1000(store, "k")
    store.get("k", 0.0)
    put_1000(store, "k")
    for number in range(19):
        put_1000(store, f"{number}")
    put_1000(store, "k")
    put_1000(store, "last")
    assert store.get("k", 0.0) is not None


def test_a_sample_is_bounded_and_fresh() -> None:
    store: ByteBoundedStore[int] = ByteBoundedStore(max_bytes=64 * MIB)
    for number in range(100):
        expires_s = 5.0 if number % 2 else 50.0
        store.set(f"{number}", number, size_bytes=0, expires_s=expires_s, now_s=0.0)
    assert dict(store.sample(1_000, 10.0)) == {f"{number}": number for number in range(0, 100, 2)}
    assert len(store.sample(7, 0.0)) == 7
    assert store.sample(0, 0.0) == []


def test_threads_do_not_break_it() -> None:
    store: ByteBoundedStore[int] = ByteBoundedStore(max_bytes=200_000)
    wrong: list[object] = []

    def use(seed: int) -> None:
        for turn in range(5_000):
            number = (turn * 7 + seed) % 1_500
            put(store, f"{number}", number)
            found = store.get(f"{number}", 0.0)
            if found not in (None, number):
                wrong.append(found)
            if turn % 5 == 0:
                store.delete(f"{number + 1}")

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    check_consistency(store)


def check_consistency(store: ByteBoundedStore[int]) -> None:
    for shard in store._shards:
        items = {key: item for queue in shard._queues() for key, item in queue.items()}
        costs = [item.cost_bytes for item in items.values()]
        assert shard.bytes == sum(costs) <= shard.limit_bytes
        assert shard.entries == len(items)
        check_expiry(shard, {key: item.expires_s for key, item in items.items()})
        if isinstance(shard, S3FifoShard):
            assert shard._small_bytes == sum(item.cost_bytes for item in shard._small.values())
            assert not shard._main.keys() & shard._small.keys()


def check_expiry(shard: Shard[int], expected: dict[str, float]) -> None:
    buckets = shard._expiry._buckets
    held = {key: second for second, bucket in buckets.items() for key in bucket}
    assert sum(map(len, buckets.values())) == len(held)
    assert held == {key: int(expires_s) + 1 for key, expires_s in expected.items()}
    assert all(buckets.values()), "an empty bucket leaks"
    assert buckets.keys() <= set(shard._expiry._seconds)
    assert len(shard._expiry._seconds) <= 2 * len(buckets) + 65 + 2


KEYS = st.integers(0, 24).map("k{}".format)


class StoreMachine(RuleBasedStateMachine):
    """The store against a dict that forgets nothing, on a clock that jumps."""

    eviction = Eviction.S3FIFO
    # Sizes are only declared, so a budget of several shards costs no memory.
    max_bytes = 9 * MIB

    def __init__(self) -> None:
        super().__init__()
        self.store: ByteBoundedStore[int] = ByteBoundedStore(
            max_bytes=self.max_bytes, eviction=self.eviction
        )
        self.model: dict[str, tuple[int, float]] = {}
        self.now_s = 1_000.0
        self.latest_s = self.now_s
        self.value = 0

    @rule(
        key=KEYS,
        size_bytes=st.integers(0, 3 * MIB),
        ttl_s=st.one_of(st.floats(-1, 100), st.sampled_from([math.nan, math.inf, 0.0, 1e12])),
    )
    def set(self, key: str, size_bytes: int, ttl_s: float) -> None:
        self.value += 1
        expires_s = self.now_s + ttl_s
        is_kept = self.store.set(
            key, self.value, size_bytes=size_bytes, expires_s=expires_s, now_s=self.now_s
        )
        fits = size_bytes + len(key) + OVERHEAD_BYTES <= self.store.max_item_bytes
        assert is_kept == (fits and self.now_s < expires_s < math.inf)
        if is_kept:
            self.model[key] = (self.value, expires_s)
        else:
            self.model.pop(key, None)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        found = self.store.get(key, self.now_s)
        value, expires_s = self.model.get(key, (None, -math.inf))
        if found is not None:
            assert (found, self.now_s < expires_s) == (value, True)
        elif self.store.evictions == 0 and self.now_s == self.latest_s:
            assert expires_s <= self.now_s, "a live value was lost"

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.store.delete(key)
        self.model.pop(key, None)

    @rule(seconds=st.floats(0, 50))
    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        self.latest_s = max(self.latest_s, self.now_s)

    @precondition(lambda self: self.now_s > 100)
    @rule(seconds=st.floats(0, 90))
    def step_back(self, seconds: float) -> None:
        self.now_s -= seconds

    @rule()
    def sweep(self) -> None:
        assert self.store.sweep(self.now_s) <= 64

    @rule(limit=st.integers(0, 30))
    def sample(self, limit: int) -> None:
        sample = self.store.sample(limit, self.now_s)
        assert len({key for key, _ in sample}) == len(sample) <= limit
        for key, value in sample:
            assert self.model[key][0] == value
            assert self.now_s < self.model[key][1]

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.model.clear()

    @invariant()
    def is_consistent(self) -> None:
        assert self.store.bytes <= self.max_bytes
        check_consistency(self.store)


class LruMachine(StoreMachine):
    eviction = Eviction.LRU


TestS3FifoMachine = StoreMachine.TestCase
TestS3FifoMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestLruMachine = LruMachine.TestCase
TestLruMachine.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)


def test_setting_and_deleting_for_ever_leaks_nothing() -> None:
    store: ByteBoundedStore[int] = ByteBoundedStore(max_bytes=MIB)
    for number in range(5_000):
        store.set(
            f"{number}", 0, size_bytes=0, expires_s=1_000.0 + number * 3, now_s=float(number) / 10
        )
        store.delete(f"{number}")
    check_consistency(store)
    assert store.entries == 0


def test_lru_shards_and_s3fifo_shards_are_chosen_by_the_setting() -> None:
    assert isinstance(small_store(Eviction.LRU, items=1)._shards[0], LruShard)
    assert isinstance(small_store(Eviction.S3FIFO, items=1)._shards[0], S3FifoShard)
