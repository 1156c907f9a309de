"""What is counted in several ways comes to the same, whichever way requests went."""

from collections import Counter
from typing import Any

import pytest

from routecache_middleware import RouteCache
from routecache_middleware.core import metrics
from routecache_middleware.core.metrics import Metric
from routecache_middleware.errors import TruncatedResponseError
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.adapters.test_fleet import Fleet, ended
from tests.support.apps import ScriptedApp, json_answer, sse_answer
from tests.support.asgi import KEY, Client, fetch, settle
from tests.support.chat import ask, chunks, completion
from tests.support.embeddings import PATH, EmbeddingApp
from tests.support.embeddings import ask as ask_vectors
from tests.support.virtual_time import in_virtual_time

STREAM = ask(stream=True)
Counts = Counter[str]


def by(one_of: RouteCache, metric: Metric, attribute: str, **where: str) -> Counts:
    """Return a metric's sums by one attribute; of a histogram how many values there were."""
    found: Counts = Counter()
    for one in one_of.metrics().of(metric):
        labels = dict(zip(metric.attributes, one.labels, strict=True))
        if all(labels[f"routecache.{name}"] == value for name, value in where.items()):
            found[labels[attribute]] += sum(one.counts) if metric.bounds else one.value  # type: ignore[assignment]
    return +found


def check(cache: RouteCache, **wanted: int) -> None:
    """Check what has to hold always, and how many requests ended in which way."""
    outcome = "routecache.outcome"
    lookups = by(cache, metrics.LOOKUPS, outcome, cache="result")
    assert lookups == wanted
    assert by(cache, metrics.REQUESTS, outcome) == lookups
    bypasses = by(cache, metrics.BYPASSES, "routecache.bypass.reason")
    assert bypasses.total() == lookups["bypass"]
    waits = by(cache, metrics.WAIT_DURATION, "routecache.wait.outcome", cache="result")
    assert waits["shared"] == lookups["coalesced"]
    served = lookups["hit"] + lookups["stale"] + lookups["coalesced"]
    assert cache.savings().requests == served
    found = by(cache, metrics.LOOKUP_DURATION, outcome, cache="result")
    assert found["hit"] == lookups["hit"]
    assert found["stale"] == lookups["stale"] - cache.stats().result.stale_if_error


async def test_hits_misses_and_those_that_were_not_looked_up(
    gateway: Gateway, clock: FakeClock
) -> None:
    mw = gateway(result_stale_while_revalidate_s=100.0)
    only = (b"cache-control", b"only-if-cached")
    for _ in range(3):
        await fetch(mw)
    await fetch(mw, STREAM)  # made of the same
    assert (await fetch(mw, ask("other"), headers=[KEY, only])).status == 504
    assert (await fetch(mw, headers=[KEY, only])).outcome == "HIT"
    await fetch(mw, headers=[KEY, (b"cache-control", b"no-cache")])
    await fetch(mw, headers=[KEY, (b"cache-control", b"no-store")])
    await fetch(mw, headers=[])  # nobody's
    await fetch(mw, b"{")
    clock.advance(601)
    assert (await fetch(mw)).outcome == "STALE"
    await settle()
    assert by(mw.cache, metrics.LOOKUPS, "routecache.outcome", cache="result").total() == 11
    check(mw.cache, **by(mw.cache, metrics.LOOKUPS, "routecache.outcome", cache="result"))


async def test_a_failure_that_is_rescued_and_one_that_is_not(
    gateway: Gateway, clock: FakeClock
) -> None:
    down = json_answer(b"{}", status=503)
    mw = gateway(ScriptedApp(json_answer(), down), result_stale_if_error_s=100.0)
    await fetch(mw)
    clock.advance(601)
    assert (await fetch(mw)).outcome == "STALE"
    clock.advance(101)
    assert (await fetch(mw)).status == 503
    check(mw.cache, miss=2, stale=1)


async def test_lists_of_texts(gateway: Gateway) -> None:
    mw = gateway(EmbeddingApp())
    for value in (["a", "b"], ["a", "b"], "a", ["a", "c"], ["c", "a"]):
        await fetch(mw, ask_vectors(value), path=PATH, headers=[KEY])
    check(mw.cache, miss=2, hit=3)


async def test_shadow_mode_bypasses_everything(gateway: Gateway) -> None:
    mw = gateway(mode="shadow")
    for _ in range(3):
        await fetch(mw)
    found = by(mw.cache, metrics.LOOKUPS, "routecache.outcome", cache="result")
    assert found == by(mw.cache, metrics.REQUESTS, "routecache.outcome") == {"bypass": 3}


@pytest.mark.parametrize("fails_at", [0, 1])
async def test_followers_of_a_call_that_fails_before_its_answer_begins(
    gateway: Gateway, fails_at: int
) -> None:
    app = ScriptedApp(is_stepped=True, fails_at=fails_at)
    mw = gateway(app)
    clients = [Client(mw).start() for _ in range(4)]
    await settle()
    await app.call.step(fails_at + 1)
    assert isinstance(await clients[0].error(), RuntimeError)
    app.fails_at = None
    await app.call.step(2)
    for client in clients[1:]:
        await client.end()
    check(mw.cache, miss=2, coalesced=2)
    waits = by(mw.cache, metrics.WAIT_DURATION, "routecache.wait.outcome")
    assert waits == {"shared": 2, "leader_failed": 3}


async def test_a_follower_whose_share_breaks_off_has_waited_once(gateway: Gateway) -> None:
    app = ScriptedApp(sse_answer(chunks()), is_stepped=True, fails_at=2)
    mw = gateway(app)
    clients = [Client(mw, STREAM).start() for _ in range(3)]
    await settle()
    await app.call.step(3)
    assert isinstance(await clients[0].error(), RuntimeError)
    for client in clients[1:]:
        assert isinstance(await client.error(), TruncatedResponseError)
    check(mw.cache, miss=1, coalesced=2)
    assert by(mw.cache, metrics.WAIT_DURATION, "routecache.wait.outcome") == {"shared": 2}


async def test_a_follower_that_leaves_before_there_is_an_answer_has_waited_in_vain(
    gateway: Gateway,
) -> None:
    app = ScriptedApp(is_stepped=True)
    mw = gateway(app)
    leader, follower = Client(mw).start(), Client(mw).start()
    await settle()
    follower.disconnect()
    await follower.task
    await app.call.step(2)
    await leader.end()
    check(mw.cache, miss=1)
    assert by(mw.cache, metrics.WAIT_DURATION, "routecache.wait.outcome") == {"leader_failed": 1}


@in_virtual_time
async def test_all_who_share_what_another_process_makes_have_waited() -> None:
    async with Fleet(size=2) as fleet:
        clients: list[Any] = [fleet.start(at % 2) for at in range(10)]
        await settle()
        await fleet.upstream.call.step(2)
        assert {answer.body for answer in await ended(clients)} == {completion()}
        for process, wanted in zip(
            fleet.processes, ({"miss": 1, "coalesced": 4}, {"coalesced": 5}), strict=True
        ):
            check(process.cache, **wanted)
