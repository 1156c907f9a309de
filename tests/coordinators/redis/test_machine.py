"""Several processes, one server, random steps: nothing invalidated is ever served again.

The machine knows for each key which version may still be served: one that was made after the last
acknowledged invalidation. Processes have different clocks, and the log loses rows now and then.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from msgspec.structs import replace

from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.redis.rows import id_of
from routecache_middleware.core.invalidation import InvalidationTable, model_scope
from routecache_middleware.core.keys import result_key
from routecache_middleware.core.models import START, Position
from routecache_middleware.core.ports import Fetched, Leader
from tests.coordinators.redis.support import build, entry, row
from tests.coordinators.redis.test_server_time import SkewedClock
from tests.support.valkey import ValkeyServer

PROCESSES = 3
MODELS = ("a", "b")
KEYS = {model: result_key("h", model) for model in MODELS}
process_numbers = st.integers(0, PROCESSES - 1)
models = st.sampled_from(MODELS)


def learn(table: InvalidationTable, fetched: Fetched) -> None:
    """Take in what an engine would."""
    if fetched.is_rewound:
        table.rewind(max(fetched.position, table.position))
    table.fold(fetched.rows)
    table.advance(fetched.position)


class Machine(RuleBasedStateMachine):
    server: ClassVar[ValkeyServer]

    def __init__(self) -> None:
        super().__init__()
        self.server.command("FLUSHALL")
        self.loop = asyncio.new_event_loop()
        self.clocks = [SkewedClock(skew_s) for skew_s in (0.0, -40.0, 300.25)]
        self.group = [build(self.server.url, clock=clock) for clock in self.clocks]
        self.tables = [InvalidationTable() for _ in range(PROCESSES)]
        self.version = 0
        self.oldest_valid = dict.fromkeys(MODELS, 0)
        self.captured: dict[tuple[int, str], tuple[int, Position]] = {}
        for one in self.group:
            self.run(one.open())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def teardown(self) -> None:
        for one in self.group:
            self.run(one.aclose())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def look_up(
        self, number: int, model: str, table: InvalidationTable | None = None
    ) -> int | None:
        """Look up as with no proof, which is as good as reading at once; returns the version."""
        table = table or self.tables[number]
        session = self.group[number]._sessions[self.loop]
        key = KEYS[model]
        fetched = self.run(session._fetch_with_log((key,), table.position))
        learn(table, fetched)
        found = fetched.entries[0]
        if found is None or not table.is_current(key, found):
            return None
        return int(found.body)

    def check_newcomers(self) -> None:
        """A process that starts now knows nothing but the log."""
        for number in range(PROCESSES):
            for model in MODELS:
                version = self.look_up(number, model, InvalidationTable())
                assert version is None or version >= self.oldest_valid[model]

    @rule(number=process_numbers, model=models)
    def lookup(self, number: int, model: str) -> None:
        version = self.look_up(number, model)
        assert version is None or version >= self.oldest_valid[model]
        if version is None:  # a call begins, and takes its time
            self.version += 1
            self.captured[number, model] = (self.version, self.tables[number].position)

    @rule(number=process_numbers, model=models)
    def make(self, number: int, model: str) -> None:
        """Look up, and store at once what was missed."""
        self.lookup(number, model)
        self.store(number, model, is_fenced=False)

    @rule(number=process_numbers, model=models, is_fenced=st.booleans())
    def store(self, number: int, model: str, *, is_fenced: bool) -> None:
        """What was made since is stored, with what was captured before it was made."""
        if (number, model) not in self.captured:
            return
        version, position = self.captured.pop((number, model))
        now_s = self.clocks[number].now_s()
        made = replace(entry(b"%d" % version, position=position), created_s=now_s)
        made = replace(made, scopes=(model_scope(model),))
        one, key, token = self.group[number], KEYS[model], None
        if is_fenced:
            token = str(version)
            taken = self.run(one.acquire(key, token=token, ttl_s=5.0, position=position))
            if not isinstance(taken, Leader):
                return
        assert self.run(one.store(key, made, token=token))
        if token is not None:
            self.run(one.release(key, token=token))

    @rule(number=process_numbers, model=models)
    def invalidate(self, number: int, model: str) -> None:
        self.run(self.group[number].append((row(model),)))
        self.version += 1
        self.oldest_valid[model] = self.version
        own = self.run(self.group[number].fetch((KEYS[model],), self.tables[number].position))
        learn(self.tables[number], own)  # at once, in whatever way it looks up
        found = own.entries[0]
        if found is not None and self.tables[number].is_current(KEYS[model], found):
            assert int(found.body) >= self.oldest_valid[model]

    @rule(order=st.permutations(range(PROCESSES)), count=st.integers(1, 3))
    def lose_rows(self, order: list[int], count: int) -> None:
        """A failover to a replica that lagged; somebody has read what it had not."""
        log = Keys().log
        for number in range(PROCESSES):
            self.look_up(number, "a")
        rows = self.server.command("XREVRANGE", log, "+", "-", "COUNT", count)
        assert isinstance(rows, list)
        for lost in rows:
            assert isinstance(lost, list)
            assert isinstance(lost[0], bytes)
            self.server.command("XDEL", log, lost[0])
        for number in order:
            self.look_up(number, "a")
        self.check_newcomers()

    @rule(order=st.permutations(range(PROCESSES)))
    def lose_the_log(self, order: list[int]) -> None:
        self.server.command("DEL", Keys().log)
        for number in order:
            self.look_up(number, "b")
        self.check_newcomers()

    @rule(number=process_numbers)
    def restart(self, number: int) -> None:
        self.run(self.group[number].aclose())
        self.run(self.group[number].open())
        self.tables[number] = InvalidationTable()
        for model in MODELS:
            self.captured.pop((number, model), None)

    @rule(number=process_numbers)
    def positions_only_rise(self, number: int) -> None:
        before = self.tables[number].position
        receipt = self.run(self.group[number].append((row("other"),)))
        assert receipt.position > before
        assert id_of(receipt.position) > id_of(START)


def test_nothing_invalidated_is_served_whatever_happens(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    Machine.server = valkey
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
def test_nothing_invalidated_is_served_in_a_long_run(valkey: ValkeyServer, valkey_url: str) -> None:
    Machine.server = valkey
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=400,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
