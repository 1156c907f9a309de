"""Random histories against a model that is a few dictionaries, on a clock that is moved by hand.

The store may have lost an entry, as a cache may. It may never have one that the model does not.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from routecache_middleware.coordinators.lmdb.coordinator import LmdbCoordinator
from routecache_middleware.core.invalidation import InvalidationTable, model_scope
from routecache_middleware.core.keys import CacheKey, Layer, result_key, route_key
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import Follower, Found, Leader, Parallel
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract import row
from tests.coordinators.lmdb.support import MIB, flush, make

KEYS = [result_key(f"{number}", "m") for number in range(4)] + [route_key("h")]
MODELS = ["a", "b", "c"]
TOKENS = ["x", "y", "z"]
SIZES = [0, 100, 3_000, 20_000]

keys = st.sampled_from(KEYS)
tokens = st.sampled_from(TOKENS)


class LmdbMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        self.lmdb = self.new()
        self.entries: dict[CacheKey, Entry] = {}
        self.leases: dict[CacheKey, tuple[str, float]] = {}
        self.table = InvalidationTable()
        self.dead: dict[str, Position] = {}
        self.number = 0
        self.do(self.lmdb.open())
        self.table.fold(self.do(self.lmdb.fetch((), START)).rows)

    def new(self) -> LmdbCoordinator:
        return make(Path(self.directory.name) / "cache", self.clock, map_bytes=MIB)

    def do(self, operation: Any) -> Any:
        return self.runner.run(operation)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.do(self.lmdb.aclose())
            self.runner.close()
            self.directory.cleanup()

    def made(self, key: CacheKey, model: str, size: int, lifetime_s: float) -> Entry:
        self.number += 1
        return Entry(
            layer=Layer(key.partition(":")[0]),
            body=b"%d" % self.number + bytes(size),
            created_s=self.clock.now_s(),
            freshness_lifetime_s=lifetime_s,
            position=self.table.position,
            scopes=(model_scope(model),),
        )

    def held(self, key: CacheKey) -> str | None:
        token, expires_s = self.leases.get(key, ("", 0.0))
        return token if self.clock.monotonic_s() < expires_s else None

    def expected(self, key: CacheKey) -> Entry | None:
        entry = self.entries.get(key)
        return entry if entry is not None and self.clock.now_s() < entry.expires_s else None

    @rule(
        key=keys,
        model=st.sampled_from(MODELS),
        size=st.sampled_from(SIZES),
        lifetime_s=st.sampled_from([1.0, 5.0, 500.0]),
    )
    def store(self, key: CacheKey, model: str, size: int, lifetime_s: float) -> None:
        entry = self.made(key, model, size, lifetime_s)
        assert self.do(self.lmdb.store(key, entry))
        self.entries[key] = entry

    @rule(key=keys, token=tokens)
    def store_as_leader(self, key: CacheKey, token: str) -> None:
        entry = self.made(key, "a", 100, 5.0)
        is_stored = self.do(self.lmdb.store(key, entry, token=token))
        assert is_stored == (self.held(key) == token)
        if is_stored:
            self.entries[key] = entry

    @rule(key=keys)
    def delete(self, key: CacheKey) -> None:
        self.do(self.lmdb.delete(key))
        self.entries.pop(key, None)

    @rule(key=keys)
    def fetch(self, key: CacheKey) -> None:
        fetched = self.do(self.lmdb.fetch((key,), self.table.position))
        assert not fetched.is_rewound
        self.table.fold(fetched.rows)
        self.table.advance(fetched.position)
        entry = fetched.entries[0]
        assert entry is None or entry == self.expected(key)
        if entry is not None:
            is_dead = self.dead.get(entry.scopes[0], START) > entry.position
            assert self.table.is_current(key, entry) != is_dead

    @rule(model=st.sampled_from(MODELS))
    def invalidate(self, model: str) -> None:
        position = self.do(self.lmdb.append((row(model),))).position
        assert position > self.table.position
        self.dead[model_scope(model)] = position

    @rule(key=keys, token=tokens, ttl_s=st.sampled_from([1.0, 50.0]))
    def acquire(self, key: CacheKey, token: str, ttl_s: float) -> None:
        seen = self.do(self.lmdb.fetch((key,), START)).entries[0]
        holder = self.held(key)
        answer = self.do(self.lmdb.acquire(key, token=token, ttl_s=ttl_s, seen=seen))
        assert not isinstance(answer, Found)
        if holder is None or holder == token:
            assert answer == Leader(token)
            self.leases[key] = (token, self.clock.monotonic_s() + ttl_s)
        else:
            assert isinstance(answer, Follower if holder else Parallel)

    @rule(key=keys, token=tokens)
    def find(self, key: CacheKey, token: str) -> None:
        entry = self.do(self.lmdb.fetch((key,), START)).entries[0]
        now_s = self.clock.now_s()
        if entry is not None and now_s < entry.created_s + entry.freshness_lifetime_s:
            assert self.do(self.lmdb.acquire(key, token=token, ttl_s=1.0)) == Found(entry)

    @rule(key=keys, token=tokens, parallel_s=st.sampled_from([0.0, 5.0]))
    def release(self, key: CacheKey, token: str, parallel_s: float) -> None:
        is_held = self.leases.get(key, ("", 0.0))[0] == token
        self.do(self.lmdb.release(key, token=token, parallel_s=parallel_s))
        if is_held:
            self.leases[key] = ("", self.clock.monotonic_s() + parallel_s)

    @rule(key=keys, token=tokens)
    def renew(self, key: CacheKey, token: str) -> None:
        is_held = self.held(key) == token
        assert self.do(self.lmdb.renew(key, token=token, ttl_s=20.0)) == is_held
        if is_held:
            self.leases[key] = (token, self.clock.monotonic_s() + 20.0)

    @rule(seconds=st.sampled_from([0.5, 2.0, 30.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-100.0, -1.0, 1.0, 100.0]))
    def step_clock(self, seconds: float) -> None:
        """An entry that was dropped because it had expired does not come back; the model's does."""
        self.clock.step_wall(seconds)

    @rule()
    def write_all(self) -> None:
        self.do(flush(self.lmdb))

    @rule(count=st.integers(1, 60))
    def push(self, count: int) -> None:
        """Traffic that makes room for itself."""
        for number in range(count):
            key = result_key(f"push-{self.number}-{number}", "m")
            self.do(self.lmdb.store(key, self.made(key, "a", 20_000, 500.0)))
        self.do(flush(self.lmdb))

    @rule()
    def restart(self) -> None:
        self.do(self.lmdb.aclose())
        self.lmdb = self.new()
        self.do(self.lmdb.open())

    @invariant()
    def figures_add_up(self) -> None:
        if hasattr(self, "lmdb"):
            stats = self.lmdb.stats()
            assert stats.corrupt_entries == 0
            for usage in stats.layers.values():
                assert 0 <= usage.bytes <= usage.limit_bytes
                assert (usage.entries == 0) == (usage.bytes == 0)


TestLmdbMachine = LmdbMachine.TestCase
TestLmdbMachine.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
