"""SmallStore: every trap of TLRUCache that it closes, the worst shown to be one first."""

import math
import threading

import pytest
from cachetools import TLRUCache

from routecache_middleware.coordinators.bounded import OVERHEAD_BYTES
from routecache_middleware.coordinators.small import SmallStore

COST = 1_000


def put(
    store: SmallStore[int],
    key: str,
    value: int = 0,
    *,
    expires_s: float = 100.0,
    now_s: float = 0.0,
) -> bool:
    size_bytes = COST - OVERHEAD_BYTES - len(key)
    return store.set(key, value, size_bytes=size_bytes, expires_s=expires_s, now_s=now_s)


@pytest.fixture
def store() -> SmallStore[int]:
    return SmallStore(max_bytes=10 * COST, max_entries=8)


def test_values_live_until_they_expire_each_at_its_own_time(store: SmallStore[int]) -> None:
    put(store, "load", 1, expires_s=5.0)
    put(store, "meta", 2, expires_s=60.0)
    assert (store.get("load", 4.9), store.get("meta", 4.9)) == (1, 2)
    assert (store.get("load", 5.0), store.get("meta", 5.0)) == (None, 2)
    assert store.get("meta", 60.0) is None


def test_a_wall_clock_that_steps_back_breaks_nothing(store: SmallStore[int]) -> None:
    put(store, "a", 1, expires_s=1_000.0, now_s=990.0)
    assert store.get("a", 5.0) == 1
    put(store, "b", 2, expires_s=10.0, now_s=5.0)
    assert (store.get("b", 11.0), store.get("a", 999.0)) == (None, 1)


def test_trap_1_a_sample_leaves_no_iterator_that_freezes_the_clock(store: SmallStore[int]) -> None:
    now_s = [0.0]
    bare: TLRUCache[str, int] = TLRUCache(9, ttu=lambda *_: 10.0, timer=lambda: now_s[0])
    bare["k"] = 1
    iterator = iter(bare)
    next(iterator)
    now_s[0] = 1_000.0
    assert bare.get("k") == 1  # the trap: expired, and served
    iterator.close()  # type: ignore[attr-defined]  # it is a generator

    put(store, "k", 1, expires_s=10.0)
    assert store.sample(1, 0.0) == [("k", 1)]
    assert store.get("k", 1_000.0) is None
    assert not hasattr(store, "__iter__")


def test_trap_2_threads_do_not_break_it() -> None:
    store: SmallStore[int] = SmallStore(max_bytes=50 * COST)
    failures: list[object] = []

    def use(seed: int) -> None:
        try:
            for turn in range(3_000):
                number = (turn * 7 + seed) % 120
                now_s = float(turn // 100)
                put(store, f"{number}", number, expires_s=now_s + 1 + number % 3, now_s=now_s)
                if store.get(f"{number}", now_s) not in (None, number):
                    failures.append(number)
                store.delete(f"{number + 1}")
        except Exception as error:  # noqa: BLE001 - told to the main thread
            failures.append(error)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store.bytes == store.entries * COST <= store.limit_bytes


def test_trap_3_the_number_of_items_is_capped(store: SmallStore[int]) -> None:
    """All items may expire in one call, so there must not be too many."""
    for number in range(20):
        put(store, f"{number}", number)
    assert (store.entries, store.evictions) == (8, 12)
    assert store.get("19", 0.0) == 19
    put(store, "19", 20)
    assert (store.entries, store.evictions) == (8, 12)


def test_trap_4_counting_removes_nothing(store: SmallStore[int]) -> None:
    put(store, "a", expires_s=5.0)
    put(store, "b", expires_s=5.0)
    assert store.get("x", 50.0) is None
    assert (store.entries, store.bytes) == (2, 2 * COST)


def test_trap_4_reading_an_expired_item_frees_it(store: SmallStore[int]) -> None:
    put(store, "a", expires_s=5.0)
    assert store.get("a", 50.0) is None
    assert (store.entries, store.bytes, store.evictions) == (0, 0, 0)


def test_trap_5_a_value_that_is_too_large_is_refused_and_the_old_one_is_gone(
    store: SmallStore[int],
) -> None:
    put(store, "k", 1)
    assert not store.set("k", 2, size_bytes=10 * COST, expires_s=100.0, now_s=0.0)
    assert store.get("k", 0.0) is None
    assert store.bytes == 0


@pytest.mark.parametrize("expires_s", [0.0, 10.0, math.inf, math.nan])
def test_an_item_that_has_expired_or_never_would_is_refused(
    store: SmallStore[int], expires_s: float
) -> None:
    put(store, "k", 1)
    assert not put(store, "k", 2, expires_s=expires_s, now_s=10.0)
    assert store.get("k", 0.0) is None


def test_trap_6_deleting_an_expired_item_is_no_error(store: SmallStore[int]) -> None:
    put(store, "k", expires_s=5.0)
    store.get("x", 50.0)
    assert store.delete("k")
    assert not store.delete("k")
    assert store.bytes == 0


def test_trap_6_the_key_is_charged(store: SmallStore[int]) -> None:
    store.set("k" * 500, 1, size_bytes=10, expires_s=9.0, now_s=0.0)
    assert store.bytes == 500 + 10 + OVERHEAD_BYTES


def test_trap_7_a_hit_reads_the_clock_once(store: SmallStore[int]) -> None:
    """``get`` of a mutable mapping looks twice, and is three times slower."""
    put(store, "k", 1)
    reads = []

    def timer() -> float:
        reads.append(1)
        return 0.0

    vars(store._cache.timer)["_Timer__timer"] = timer
    assert store.get("k", 0.0) == 1
    assert len(reads) == 1


def test_the_byte_bound_drops_the_least_recently_used() -> None:
    store: SmallStore[int] = SmallStore(max_bytes=3 * COST)
    for key in "abc":
        put(store, key, 1)
    store.get("a", 0.0)
    put(store, "d", 1)
    assert [key for key in "abcd" if store.get(key, 0.0)] == ["a", "c", "d"]
    assert (store.bytes, store.evictions) == (3 * COST, 1)


def test_expiry_is_not_an_eviction(store: SmallStore[int]) -> None:
    for number in range(8):
        put(store, f"{number}", expires_s=5.0)
    put(store, "new", now_s=50.0)
    assert (store.entries, store.evictions) == (1, 0)


def test_sampling_is_not_using() -> None:
    store: SmallStore[int] = SmallStore(max_bytes=2 * COST)
    put(store, "a", 1)
    put(store, "b", 2)
    assert store.sample(9, 0.0) == [("a", 1), ("b", 2)]
    assert store.sample(1, 0.0) == [("a", 1)]
    put(store, "c", 3)
    assert store.get("a", 0.0) is None


def test_sweep_and_clear_free_memory(store: SmallStore[int]) -> None:
    put(store, "a", expires_s=5.0)
    put(store, "b")
    assert (store.sweep(50.0), store.entries) == (1, 1)
    store.clear()
    assert (store.entries, store.bytes, store.get("b", 0.0)) == (0, 0, None)
