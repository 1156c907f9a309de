"""The ring over real Valkey servers: the contract, and what happens when servers fail."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

import pytest

from routecache_middleware import RouteCache
from routecache_middleware.coordinators.guarded import GuardedCoordinator
from routecache_middleware.coordinators.redis.links import Links
from routecache_middleware.coordinators.ring.coordinator import RingCoordinator
from routecache_middleware.coordinators.ring.factory import create_bare
from routecache_middleware.coordinators.ring.redis_node import RedisNode
from routecache_middleware.coordinators.url import CoordinatorUrl
from routecache_middleware.core.cluster import NodeState
from routecache_middleware.core.invalidation import ALL, InvalidationRow, model_scope
from routecache_middleware.core.keys import Layer, result_key
from routecache_middleware.core.models import START, Entry, Position, QueryResult
from routecache_middleware.core.ports import Coordinator
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing import CoordinatorContract
from routecache_middleware.testing.clock import FakeClock
from tests.support.fixtures import StartTls, StartValkey
from tests.support.valkey import ValkeyServer, start_server
from tests.support.valkey.resp import Reply


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ValkeyServer]]:
    servers = [start_server(tmp_path_factory.mktemp(f"node{number}")) for number in range(5)]
    yield servers
    for server in servers:
        server.close()


@pytest.fixture
def servers(five: list[ValkeyServer]) -> list[ValkeyServer]:
    """All of them, running and empty."""
    for server in five:
        if not server.is_running:
            server.restart()
        server.resume()
        server.command("FLUSHALL")
    return five


class WrongClock(SystemClock):
    """Wrong by ``skew_s``."""

    def __init__(self, skew_s: float) -> None:
        self._skew_s = skew_s

    def now_s(self) -> float:
        return super().now_s() + self._skew_s


def ring_of(
    servers: list[ValkeyServer],
    *,
    options: str = "",
    timeout_s: float = 0.25,
    skew_s: float = 0.0,
) -> RingCoordinator:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    settings = Settings(coordinator_timeout_s=timeout_s)
    url = CoordinatorUrl.parse(f"ring://{hosts}{options}")
    return create_bare(url, settings, WrongClock(skew_s))


class TestThreeServers(CoordinatorContract):
    tick_s = 0.3

    @pytest.fixture
    def clock(self) -> FakeClock:
        return SystemClock()  # type: ignore[return-value]  # nothing moves it but time

    @pytest.fixture
    async def coordinator(self, servers: list[ValkeyServer]) -> AsyncIterator[Coordinator]:
        ring = ring_of(servers[:3], timeout_s=2.0)
        await ring.open()
        yield ring
        await ring.aclose()

    async def let_time_pass(self, clock: FakeClock, seconds: float) -> None:
        await asyncio.sleep(seconds)


KEYS = [result_key(f"{number:032x}", "m") for number in range(200)]


def row(model: str) -> InvalidationRow:
    return InvalidationRow(model_scope(model))


def entry(body: bytes, position: Position = START) -> Entry:
    return Entry(Layer.RESULT, body, time.time(), 600.0, position=position)


async def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - a server has no event to wait for
            await asyncio.sleep(0.02)


def states(ring: RingCoordinator) -> list[NodeState]:
    return [member.health.state for member in ring._members]


@asynccontextmanager
async def opened(*rings: RingCoordinator) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for ring in rings:
            stack.push_async_callback(ring.aclose)
            await ring.open()
        yield


class Traffic:
    """Lookups and stores without a pause, through the guard, as requests make them."""

    def __init__(self, ring: RingCoordinator, *, timeout_s: float = 0.25) -> None:
        self.guarded = GuardedCoordinator(ring, clock=SystemClock(), timeout_s=timeout_s)
        self.done = self.hits = 0
        self.failures: list[Exception] = []
        self.slowest_s = 0.0
        self._is_over = False

    async def __aenter__(self) -> Self:
        await self.guarded.open()
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(4)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)
        await self.guarded.aclose()

    async def go_on(self, lookups: int) -> None:
        target = self.done + lookups
        await eventually(lambda: self.done >= target, within_s=60.0)

    async def _run(self, number: int) -> None:
        position = START
        while not self._is_over:
            for key in KEYS[number::4]:
                begun_s = time.monotonic()
                try:
                    fetched = await self.guarded.fetch((key,), position)
                    position = max(position, fetched.position)
                    if fetched.entries[0] is None:
                        await self.guarded.store(key, entry(b"x", position))
                    else:
                        self.hits += 1
                except CoordinatorError as error:
                    self.failures.append(error)
                self.slowest_s = max(self.slowest_s, time.monotonic() - begun_s)
                self.done += 1
                await asyncio.sleep(0)


async def test_two_of_five_are_killed_and_no_request_fails(servers: list[ValkeyServer]) -> None:
    ring = ring_of(servers)
    async with Traffic(ring) as traffic:
        await traffic.go_on(600)
        servers[0].kill()
        servers[3].kill()
        await traffic.go_on(1_000)
        assert states(ring).count(NodeState.DOWN) == 2
        hits = traffic.hits
        await traffic.go_on(1_000)
        assert traffic.hits - hits >= 900  # the others have taken over
        for server in (servers[0], servers[3]):
            server.restart()
        await eventually(lambda: states(ring) == [NodeState.UP] * 5)
        await traffic.go_on(600)
    assert traffic.failures == []


async def test_a_node_that_is_stopped_fails_no_request_and_returns(
    servers: list[ValkeyServer],
) -> None:
    # Two attempts at the node, one of them in the read of the log that came before, have to fit in.
    ring = ring_of(servers, timeout_s=0.5)
    async with Traffic(ring, timeout_s=0.5) as traffic:
        await traffic.go_on(400)
        servers[1].pause()
        await traffic.go_on(1_000)
        assert states(ring)[1] is NodeState.DOWN
        await ring.append([row("m")])
        servers[1].resume()
        await eventually(lambda: states(ring) == [NodeState.UP] * 5)
        await traffic.go_on(400)
    assert traffic.failures == []
    assert traffic.slowest_s < 0.5


def log_of(server: ValkeyServer) -> list[Reply]:
    rows = server.command("XRANGE", "rc1:{log}", "-", "+")
    assert isinstance(rows, list)
    return rows


async def test_a_returning_node_has_the_whole_log_before_it_serves(
    servers: list[ValkeyServer],
) -> None:
    ring = ring_of(servers[:3])
    await ring.open()
    await ring.append([row("before")])
    servers[1].kill()
    await eventually(lambda: states(ring)[1] is NodeState.DOWN)
    await ring.append([row("while-away")])
    servers[1].restart()
    assert log_of(servers[1]) == []
    await eventually(lambda: states(ring)[1] is NodeState.UP)
    assert log_of(servers[1]) == log_of(servers[0])
    await ring.aclose()


async def test_a_flushed_node_gets_its_log_back_and_a_flushed_ring_is_cold(
    servers: list[ValkeyServer],
) -> None:
    first, second = ring_of(servers[:3]), ring_of(servers[:3])
    async with opened(first, second):
        receipt = await first.append([row("m")])
        await first.store(KEYS[0], entry(b"x", receipt.position))
        servers[0].command("FLUSHALL")
        await eventually(lambda: log_of(servers[0]) == log_of(servers[1]))
        for ring in (first, second):
            await ring.probe(writes=False)  # neither is about to give the row back once more
        assert first.tail_now(receipt.position).rows == ()
        for server in servers[:3]:
            server.command("DEL", "rc1:{log}")  # the entries stay
        await eventually(lambda: all(log_of(server) for server in servers[:3]))
        await asyncio.sleep(1.0)  # for so long a lookup trusts what was read ahead
        for ring in (first, second):
            fetched = await ring.fetch((KEYS[0],), receipt.position)
            assert [one.row.scope for one in fetched.rows] == [ALL]
        logs = [log_of(server) for server in servers[:3]]
        assert logs[0] == logs[1] == logs[2]
        assert len(logs[0]) == 1


async def test_rows_reach_other_processes_within_milliseconds(servers: list[ValkeyServer]) -> None:
    writer, reader = ring_of(servers), ring_of(servers)
    await writer.open()
    await reader.open()
    delays = []
    for number in range(60):
        receipt = await writer.append([row(f"m{number}")])
        begun_s = time.monotonic()
        while reader.tail_now(START).position < receipt.position:  # noqa: ASYNC110
            await asyncio.sleep(0)
        delays.append(time.monotonic() - begun_s)
    assert sorted(delays)[30] < 0.02
    assert max(delays) < 1.0
    await writer.aclose()
    await reader.aclose()


async def test_a_process_whose_clock_is_days_ahead_keeps_the_logs_in_line(
    servers: list[ValkeyServer],
) -> None:
    """It goes by the servers' clocks: by its own, all rows would be too old to be missed."""
    maker = ring_of(servers[:2], timeout_s=2.0, skew_s=300_000.0)
    left, right = (
        ring_of([server], timeout_s=2.0, skew_s=-3_600.0) for server in (servers[0], servers[1])
    )
    async with opened(maker, left, right):
        appended = await right.append([row("m")])
        captured = (await maker.fetch((), appended.position)).position
        assert (await left.append([row("m")])).position > captured
        assert (await left.fetch((), START)).rows[-2].position == captured


async def test_a_process_whose_clock_is_days_behind_appends_nothing_that_is_trimmed(
    servers: list[ValkeyServer],
) -> None:
    ring = ring_of(servers[:2], timeout_s=2.0, skew_s=-300_000.0)
    async with opened(ring):
        for number in range(3):
            receipt = await ring.append([row(f"m{number}")])
            assert receipt.position >> 20 >= (time.time() - 60.0) * 1000
        assert len((await ring.fetch((), START)).rows) == 4


async def test_a_log_without_the_clock_it_goes_by_is_no_answer(servers: list[ValkeyServer]) -> None:
    ring = ring_of(servers[:1], timeout_s=2.0)
    async with opened(ring):
        (member,) = ring._members
        assert abs((await member.node.tail(START)).now / 2**20 - time.time() * 1000) < 60_000
        servers[0].command("ACL", "SETUSER", "default", "-time")
        try:
            with pytest.raises(CoordinatorError, match="time"):
                await member.node.tail(START)
        finally:
            servers[0].command("ACL", "SETUSER", "default", "+time")


async def test_conditions_mean_the_same_on_every_node(servers: list[ValkeyServer]) -> None:
    """Times in rows are kept on each node's clock."""
    ring = ring_of(servers[:3])
    await ring.open()
    told = InvalidationRow(
        model_scope("m"), older_than_s=1_700_000_000.125, router_version="v\ud800"
    )
    await ring.append([told])
    servers[1].command("FLUSHALL")
    await eventually(lambda: log_of(servers[1]) == log_of(servers[0]))
    new = ring_of(servers[:3])
    await new.open()
    rows = (await new.fetch((), START)).rows
    assert [one.row for one in rows if one.row.scope != ALL] == [told]
    await ring.aclose()
    await new.aclose()


async def test_a_server_with_a_password_tells_what_is_wrong(start_valkey: StartValkey) -> None:
    server = start_valkey("--requirepass", "s3cret")
    settings = Settings()
    right = CoordinatorUrl.parse(f"ring://:s3cret@127.0.0.1:{server.port}")
    ring = create_bare(right, settings, SystemClock())
    await ring.open()
    await ring.aclose()
    wrong = CoordinatorUrl.parse(f"ring://:guess@127.0.0.1:{server.port}")
    ring = create_bare(wrong, settings, SystemClock())
    with pytest.raises(CoordinatorError, match="password") as caught:
        await ring.open()
    assert "guess" not in str(caught.value)


async def test_tls(start_valkey: StartValkey, tls_forwarder: StartTls) -> None:
    forwarder = tls_forwarder(start_valkey().port)
    url = f"rings://127.0.0.1:{forwarder.port}?ssl_ca_certs={forwarder.ca_path}"
    ring = create_bare(
        CoordinatorUrl.parse(url), Settings(coordinator_timeout_s=1.0), SystemClock()
    )
    await ring.open()
    assert await ring.store(KEYS[0], entry(b"x"))
    assert (await ring.fetch((KEYS[0],), START)).entries[0] is not None
    await ring.aclose()


async def test_garbage_is_a_miss_and_counted(servers: list[ValkeyServer]) -> None:
    ring = ring_of(servers[:1])
    await ring.open()
    servers[0].command("SET", f"rc1:{{{KEYS[0]}}}", b"\x80\x04.")
    assert (await ring.fetch((KEYS[0],), START)).entries == [None]
    assert ring.stats().corrupt_entries == 1
    await ring.aclose()


async def test_every_key_that_is_written_expires(servers: list[ValkeyServer]) -> None:
    ring = ring_of(servers[:2])
    await ring.open()
    await ring.append([row("m")])
    for key in KEYS[:20]:
        await ring.acquire(key, token="a", ttl_s=5.0)
        await ring.store(key, entry(b"x"), token="a")
    await ring._keeper.announce()
    for server in servers[:2]:
        names = server.command("KEYS", "*")
        assert isinstance(names, list)
        assert names
        for name in names:
            assert isinstance(name, bytes)
            assert server.command("PTTL", name) > 0  # type: ignore[operator]
    await ring.aclose()


async def test_a_ring_that_was_left_open_in_another_event_loop_opens_anew(
    servers: list[ValkeyServer],
) -> None:
    """As in a forked worker: connections of the other loop must not be used."""
    ring = ring_of(servers[:2])

    other_loop = asyncio.new_event_loop()

    async def use_and_leave() -> list[Links]:
        await ring.open()
        assert await ring.store(KEYS[0], entry(b"x"))
        await ring._keeper.stop()
        nodes = [member.node for member in ring._members]
        return [node._parts.links for node in nodes if isinstance(node, RedisNode)]

    async def close(left: list[Links]) -> None:
        for links in left:
            await links.aclose()

    left = await asyncio.to_thread(other_loop.run_until_complete, use_and_leave())
    await ring.open()
    assert (await ring.fetch((KEYS[0],), START)).entries[0] is not None
    await ring.aclose()
    await asyncio.to_thread(other_loop.run_until_complete, close(left))
    other_loop.close()


async def found(cache: RouteCache, hashes: list[str]) -> list[QueryResult | None]:
    """Read them, again if need be: a read that comes upon a dead server is a miss."""
    read: list[QueryResult | None] = []
    for _ in range(50):
        read = [await cache.get_query_result(query_hash, "m") for query_hash in hashes]
        if None not in read:
            break
        await asyncio.sleep(0.1)
    return read


async def test_two_gateways_share_a_ring_behind_their_near_caches(
    servers: list[ValkeyServer],
) -> None:
    """The whole stack: near cache, guard, ring, and the engine that judges what they bring."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    settings = Settings(coordinator_timeout_s=0.25)
    first = RouteCache.from_url(f"ring://{hosts}", settings=settings)
    second = RouteCache.from_url(f"ring://{hosts}", settings=settings)
    async with first, second:
        hashes = [f"{number:032x}" for number in range(40)]
        for query_hash in hashes:
            await first.cache_query_result(query_hash, "m", b"{}", 5.0)
        for _ in range(2):  # from the ring, then from the near cache
            for query_hash in hashes:
                assert await second.get_query_result(query_hash, "m") is not None
        await first.invalidate_model("m")
        await asyncio.sleep(0.1)
        for query_hash in hashes:
            assert await second.get_query_result(query_hash, "m") is None
        servers[1].kill()
        servers[2].kill()
        for _ in range(3):
            for query_hash in hashes:
                if await second.get_query_result(query_hash, "m") is None:
                    await second.cache_query_result(query_hash, "m", b"{}", 5.0)
        assert None not in await found(first, hashes)
        await second.invalidate_model("m")
        await asyncio.sleep(0.1)
        assert await first.get_query_result(hashes[0], "m") is None
        assert first.stats().overall_hit_rate() > 0.0
