"""Identical requests at several processes share one upstream call (design 9)."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Self

import pytest

from routecache_middleware.core.budget import current_budget
from routecache_middleware.core.keys import CacheKey, Layer, parse_key
from routecache_middleware.core.ports import Parallel
from tests.support.apps import Answer, ScriptedApp, json_answer, sse_answer
from tests.support.asgi import Client, Response, fetch, settle
from tests.support.chat import ask, chunks, completion
from tests.support.fleets import Process, new_store
from tests.support.virtual_time import in_virtual_time

STREAM = ask(stream=True)
PIECES = chunks()


class Fleet(AsyncExitStack):
    """Some processes with one app behind them all."""

    def __init__(self, *answers: Answer, size: int = 3, **options: Any) -> None:
        super().__init__()
        self.store = new_store()
        self.upstream = ScriptedApp(*answers, is_stepped=True)
        self.processes = [Process(self.store, self.upstream, **options) for _ in range(size)]

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        for process in self.processes:
            await self.enter_async_context(process)
        return self

    @property
    def calls(self) -> int:
        return len(self.upstream.calls)

    def start(self, at: int, body: bytes | None = None, **options: Any) -> Client:
        return Client(self.processes[at].app, body, **options).start()

    async def fetch(self, at: int, body: bytes | None = None, **options: Any) -> Response:
        return await fetch(self.processes[at].app, body, **options)

    def acquired(self) -> int:
        return sum(process.link.calls["acquire"] for process in self.processes)


def outcomes(answers: list[Response]) -> list[str]:
    return sorted(str(answer.outcome) for answer in answers)


async def ended(clients: list[Client]) -> list[Response]:
    await asyncio.wait([client.task for client in clients])
    return [await client.end() for client in clients]


@in_virtual_time
async def test_three_processes_with_fifty_json_requests_each_make_one_call() -> None:
    """Issue 3: 1 upstream call in all."""
    async with Fleet() as fleet:
        clients = [fleet.start(at % 3) for at in range(150)]
        await settle()
        assert fleet.calls == 1
        await asyncio.sleep(30)  # a slow model; the lease is renewed five times over
        assert fleet.calls == 1
        await fleet.upstream.call.step(2)
        answers = await ended(clients)
        assert {answer.body for answer in answers} == {completion()}
        assert outcomes(answers) == ["COALESCED"] * 149 + ["MISS"]
        for at in range(3):
            assert (await fleet.fetch(at)).outcome == "HIT"
        stats = [process.cache.stats().result for process in fleet.processes]
        assert [one.misses + one.coalesced for one in stats] == [50] * 3
        assert sum(one.misses for one in stats) == 1


@in_virtual_time
async def test_who_waited_gets_the_stored_answer_at_once_and_marked_as_collapsed() -> None:
    async with Fleet() as fleet:
        clients = [fleet.start(at) for at in range(2)]
        await settle()
        await fleet.upstream.call.step(2)
        began_s = asyncio.get_running_loop().time()
        answer = await clients[1].end()
        assert asyncio.get_running_loop().time() - began_s < 0.01  # told, not found by polling
        assert answer.all("cache-status") == ["routecache; fwd=miss; collapsed"]
        assert (answer.outcome, answer.get("age")) == ("COALESCED", "0")
        assert answer.get("content-length") == str(len(completion()))
        await clients[0].end()


@in_virtual_time
async def test_at_most_one_request_of_a_process_asks_for_the_lease() -> None:
    async with Fleet(size=2) as fleet:
        clients = [fleet.start(at % 2) for at in range(40)]
        await settle()
        assert fleet.acquired() <= 3  # the leader once; who waits once more after it listens
        await fleet.upstream.call.step(2)
        await ended(clients)


@in_virtual_time
async def test_a_stream_waits_a_second_for_another_process_and_then_goes_alone() -> None:
    """Issue 3: streams at most 1 per process."""
    async with Fleet(sse_answer(PIECES)) as fleet:
        clients = [fleet.start(at % 3, STREAM) for at in range(30)]
        await asyncio.sleep(0.9)
        assert fleet.calls == 1
        await asyncio.sleep(0.2)
        assert fleet.calls == 3
        for call in fleet.upstream.calls:
            await call.step(len(PIECES) + 2)
        answers = await ended(clients)
        assert {answer.body for answer in answers} == {b"".join(PIECES)}
        assert outcomes(answers) == ["COALESCED"] * 27 + ["MISS"] * 3


@in_virtual_time
async def test_a_stream_that_is_complete_within_the_second_is_shared() -> None:
    async with Fleet(sse_answer(PIECES), size=2) as fleet:
        clients = [fleet.start(at, STREAM) for at in range(2)]
        await asyncio.sleep(0.5)
        await fleet.upstream.call.step(len(PIECES) + 2)
        answers = await ended(clients)
        assert outcomes(answers) == ["COALESCED", "MISS"]
        assert {answer.body for answer in answers} == {b"".join(PIECES)}


@in_virtual_time
async def test_what_was_stored_between_the_lookup_and_the_lease_is_a_hit() -> None:
    """It never waited."""
    async with Fleet(size=2) as fleet:
        first = fleet.start(0)
        await settle()
        second = fleet.processes[1]
        told = asyncio.Event()

        def on_call(method: str) -> None:
            if method == "acquire":
                told.set()

        second.link.on_call, second.link.delay = on_call, lambda: 0.2
        late = fleet.start(1)
        await told.wait()
        await fleet.upstream.call.step(2)
        await first.end()
        answer = await late.end()
        assert answer.outcome == "HIT"
        assert (answer.get("cache-status") or "").startswith("routecache; hit; ttl=")
        assert second.cache.stats().result.hits == 1


@in_virtual_time
async def test_when_the_leading_process_dies_one_other_takes_over() -> None:
    """Issue 3: leader killed mid-call: at most 2 upstream calls."""
    async with Fleet() as fleet:
        leader = fleet.start(0)
        await settle()
        followers = [fleet.start(1 + at % 2) for at in range(10)]
        fleet.processes[0].link.broken.add("*")  # as when it is gone: nothing comes from it
        await asyncio.sleep(5)
        assert fleet.calls == 1
        await asyncio.sleep(3)
        assert fleet.calls == 2
        await fleet.upstream.call.step(2)
        answers = await ended(followers)
        assert outcomes(answers) == ["COALESCED"] * 9 + ["MISS"]
        await fleet.upstream.calls[0].step(2)
        assert (await leader.end()).body == completion()


@in_virtual_time
async def test_a_lost_lease_fences_the_late_store() -> None:
    """The answer is returned, and what the new leader stored stays."""
    async with Fleet(json_answer(completion("old")), json_answer(completion("new"))) as fleet:
        old = fleet.start(0)
        await settle()
        fleet.processes[0].link.broken.add("renew")
        new = fleet.start(1)
        await asyncio.sleep(8)
        await fleet.upstream.calls[1].step(2)
        await new.end()
        await fleet.upstream.calls[0].step(2)
        assert (await old.end()).body == completion("old")
        await settle()
        assert (await fleet.fetch(2)).body == completion("new")
        assert fleet.processes[0].cache.stats().result.writes == 0


@in_virtual_time
async def test_after_an_error_one_is_promoted_and_after_a_second_everybody_goes() -> None:
    """Design 9: the local rule, over processes."""
    async with Fleet(json_answer(b"{}", status=500), size=4) as fleet:
        clients = [fleet.start(at) for at in range(4)]
        await settle()
        assert fleet.calls == 1
        await fleet.upstream.calls[0].step(2)
        await asyncio.sleep(0.1)
        assert fleet.calls == 2
        await fleet.upstream.calls[1].step(2)
        await asyncio.sleep(0.1)
        assert fleet.calls == 4
        for call in fleet.upstream.calls[2:]:
            await call.step(2)
        assert {answer.status for answer in await ended(clients)} == {500}


@in_virtual_time
async def test_the_second_failure_lets_local_followers_go_too() -> None:
    async with Fleet(json_answer(b"{}", status=500), size=3) as fleet:
        clients = [fleet.start(0), fleet.start(1)]
        await settle()
        clients += [fleet.start(2) for _ in range(3)]
        await settle()
        await fleet.upstream.calls[0].step(2)
        await asyncio.sleep(0.1)
        await fleet.upstream.calls[1].step(2)
        await asyncio.sleep(0.1)
        assert fleet.calls == 5
        for call in fleet.upstream.calls[2:]:
            await call.step(2)
        await ended(clients)


@in_virtual_time
async def test_who_was_promoted_within_a_process_counts_as_promoted_for_all() -> None:
    async with Fleet(json_answer(b"{}", status=500)) as fleet:
        clients = [fleet.start(0) for _ in range(2)]
        await settle()
        await fleet.upstream.calls[0].step(2)
        await settle()
        assert fleet.calls == 2
        clients += [fleet.start(1), fleet.start(2)]
        await settle()
        assert fleet.calls == 2
        await fleet.upstream.calls[1].step(2)
        await settle()
        assert fleet.calls == 4
        for call in fleet.upstream.calls[2:]:
            await call.step(2)
        await ended(clients)


@in_virtual_time
async def test_a_promoted_one_that_succeeds_serves_the_rest() -> None:
    async with Fleet(json_answer(b"{}", status=500), json_answer()) as fleet:
        clients = [fleet.start(at % 3) for at in range(9)]
        await settle()
        await fleet.upstream.calls[0].step(2)
        await asyncio.sleep(0.1)
        assert fleet.calls == 2
        await fleet.upstream.calls[1].step(2)
        answers = await ended(clients)
        assert sorted(answer.status for answer in answers) == [200] * 8 + [500]


UNSHAREABLE = [
    json_answer(headers=[(b"content-type", b"text/html")]),
    json_answer(headers=[(b"content-type", b"application/json"), (b"vary", b"*")]),
    json_answer(completion(finish="content_filter")),
    json_answer(completion("x" * 3000)),
]


@pytest.mark.parametrize("answer", UNSHAREABLE, ids=["type", "vary", "finish", "size"])
def test_answers_that_cannot_be_stored_are_made_in_parallel(answer: Answer) -> None:
    """Design 9: a 10 s marker; nobody in other processes waits in vain."""

    @in_virtual_time
    async def test() -> None:
        async with Fleet(answer, max_result_bytes=2000) as fleet:
            clients = [fleet.start(at) for at in range(3)]
            await settle()
            assert fleet.calls == 1
            await fleet.upstream.calls[0].step(2)
            await asyncio.sleep(0.1)
            assert fleet.calls == 3
            for call in fleet.upstream.calls[1:]:
                await call.step(2)
            await ended(clients)
            before = fleet.acquired()
            clients = [fleet.start(at) for at in range(3)]
            await settle()
            assert fleet.calls == 6
            assert fleet.acquired() - before <= 1  # the others know it by themselves
            for call in fleet.upstream.calls[3:]:
                await call.step(2)
            await ended(clients)

    test()


@in_virtual_time
async def test_what_cannot_be_stored_is_still_shared_within_a_process() -> None:
    """Joining is not storing."""
    async with Fleet(UNSHAREABLE[2], size=2) as fleet:
        clients = [fleet.start(at % 2) for at in range(20)]
        await settle()
        await fleet.upstream.calls[0].step(2)
        await asyncio.sleep(0.1)
        await fleet.upstream.calls[1].step(2)
        await ended(clients)
        assert fleet.calls == 2


@in_virtual_time
async def test_a_veto_of_the_app_leaves_a_marker() -> None:
    async with Fleet(size=2) as fleet:
        fleet.upstream.on_call = lambda call: call.scope["state"]["routecache"].no_store()
        clients = [fleet.start(at) for at in range(2)]
        await settle()
        await fleet.upstream.calls[0].step(2)
        await asyncio.sleep(0.1)
        assert fleet.calls == 2
        await fleet.upstream.calls[1].step(2)
        await ended(clients)


@in_virtual_time
async def test_a_client_that_leaves_while_it_waits_hands_over_to_a_local_follower() -> None:
    async with Fleet(size=2) as fleet:
        leader = fleet.start(0)
        await settle()
        leaving = fleet.start(1)
        await settle()
        staying = [fleet.start(1) for _ in range(3)]
        await settle()
        leaving.disconnect()
        await leaving.end()
        assert leaving.got == []
        await fleet.upstream.call.step(2)
        answers = await ended([leader, *staying])
        assert outcomes(answers) == ["COALESCED"] * 3 + ["MISS"]
        assert fleet.calls == 1
        stats = fleet.processes[1].cache.stats().result
        assert (stats.misses, stats.coalesced) == (0, 3)


@pytest.mark.parametrize("how", ["disconnect", "cancel"])
@pytest.mark.parametrize("is_first", [True, False])
def test_who_stops_waiting_leaves_nothing_behind(how: str, *, is_first: bool) -> None:
    """Neither the one that asks the fleet, nor one that waits with it."""

    @in_virtual_time
    async def test() -> None:
        async with Fleet(size=2) as fleet:
            leader = fleet.start(0)
            await settle()
            waiting = [fleet.start(1), fleet.start(1)]
            await settle()
            gone = waiting.pop(0 if is_first else 1)
            getattr(gone, how)()
            error = await gone.error()
            assert isinstance(error, asyncio.CancelledError) == (how == "cancel")
            await fleet.upstream.call.step(2)
            answers = await ended([leader, *waiting])
            assert outcomes(answers) == ["COALESCED", "MISS"]

    test()


@in_virtual_time
async def test_a_client_that_leaves_just_when_the_lease_is_granted_gives_it_back() -> None:
    async with Fleet(json_answer(b"{}", status=500), json_answer()) as fleet:
        leader, leaving = fleet.start(0), fleet.start(1)
        await settle()

        def on_call(method: str) -> None:
            if method == "acquire":
                leaving.disconnect()

        fleet.processes[1].link.on_call = on_call
        await fleet.upstream.call.step(2)
        await ended([leader, leaving])
        assert fleet.calls == 1
        third = fleet.start(2)
        await asyncio.sleep(0.1)
        assert fleet.calls == 2
        await fleet.upstream.call.step(2)
        assert (await third.end()).outcome == "MISS"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cancelled_leader_gives_the_lease_back(when: str) -> None:
    """Before the app is asked, and while it works."""

    @in_virtual_time
    async def test() -> None:
        async with Fleet(size=2) as fleet:
            fleet.processes[0].link.delay = lambda: 0.2
            leader = fleet.start(0)
            await asyncio.sleep(0.31 if when == "before" else 1)
            assert fleet.calls == (when == "after")
            leader.cancel()
            assert isinstance(await leader.error(), asyncio.CancelledError)
            await asyncio.sleep(1)
            other = fleet.start(1)
            await asyncio.sleep(0.1)
            await fleet.upstream.call.step(2)
            assert (await other.end()).outcome == "MISS"

    test()


@in_virtual_time
async def test_a_promoted_leader_whose_client_leaves_is_no_second_failure() -> None:
    async with Fleet(json_answer(b"{}", status=500), json_answer(), size=4) as fleet:
        clients = [fleet.start(at) for at in range(4)]
        await settle()
        await fleet.upstream.calls[0].step(2)
        await asyncio.sleep(0.1)
        assert fleet.calls == 2
        promoted = next(c for c in clients if c.task is fleet.upstream.calls[1].task)
        promoted.cancel()
        await promoted.error()
        await asyncio.sleep(0.1)
        assert fleet.calls == 3
        await fleet.upstream.calls[2].step(2)
        clients.remove(promoted)
        assert outcomes(await ended(clients)) == ["COALESCED", "MISS", "MISS"]


@in_virtual_time
async def test_what_the_lookup_found_useless_is_not_offered_again() -> None:
    async with Fleet(size=1) as fleet:
        fleet.upstream.is_stepped = False
        await fleet.fetch(0)
        await settle()
        await fleet.processes[0].cache.invalidate_model("m")
        fleet.processes[0].link.calls.clear()
        assert (await fleet.fetch(0)).outcome == "MISS"
        assert fleet.processes[0].link.calls["acquire"] == 1


@in_virtual_time
async def test_an_answer_of_another_model_is_stored_under_that_and_leaves_a_marker() -> None:
    """A fallback: the next to ask for this model would wait for what is not made."""
    async with Fleet() as fleet:
        fleet.upstream.on_call = lambda call: call.scope["state"]["routecache"].served_by("b")
        clients = [fleet.start(at) for at in range(3)]
        await settle()
        await fleet.upstream.calls[0].step(2)
        await asyncio.sleep(0.1)
        assert fleet.calls == 3
        for call in fleet.upstream.calls[1:]:
            await call.step(2)
        await ended(clients)
        await settle()
        found = await fleet.store.sample(Layer.RESULT, 9)
        assert {parse_key(key).model_id for key, _ in found} == {"b"}


@pytest.mark.parametrize("ttl_s", [0.0, 5.0])
def test_a_lifetime_of_nothing_leaves_a_marker(ttl_s: float) -> None:
    @in_virtual_time
    async def test() -> None:
        async with Fleet() as fleet:
            fleet.upstream.on_call = lambda call: call.scope["state"]["routecache"].set_ttl(ttl_s)
            clients = [fleet.start(at) for at in range(3)]
            await settle()
            await fleet.upstream.calls[0].step(2)
            await asyncio.sleep(0.1)
            assert fleet.calls == (3 if ttl_s == 0 else 1)
            for call in fleet.upstream.calls[1:]:
                await call.step(2)
            await ended(clients)

    test()


@in_virtual_time
async def test_an_app_that_raises_gives_the_lease_back() -> None:
    async with Fleet(size=2) as fleet:
        fleet.upstream.fails_at = 0
        first, second = fleet.start(0), fleet.start(1)
        await settle()
        await fleet.upstream.call.step()
        assert isinstance(await first.error(), RuntimeError)
        fleet.upstream.fails_at = None
        await asyncio.sleep(0.01)
        await fleet.upstream.call.step(2)
        assert (await second.end()).outcome == "MISS"


@in_virtual_time
async def test_who_waited_too_long_goes_alone_and_stores_nothing_while_another_is_at_it() -> None:
    """nginx's rule."""
    async with Fleet(
        json_answer(completion("slow")), json_answer(completion("late")), max_wait_s=5.0
    ) as fleet:
        slow, late = fleet.start(0), fleet.start(1)
        await asyncio.sleep(4.9)
        assert fleet.calls == 1
        await asyncio.sleep(0.2)
        assert fleet.calls == 2
        await fleet.upstream.calls[1].step(2)
        assert (await late.end()).body == completion("late")
        await settle()
        assert fleet.processes[1].cache.stats().result.writes == 0
        assert fleet.processes[1].cache.stats().result.discards == 1
        await fleet.upstream.calls[0].step(2)
        await slow.end()
        await settle()
        assert (await fleet.fetch(2)).body == completion("slow")


@in_virtual_time
async def test_who_waited_too_long_stores_when_the_lease_is_free_by_then() -> None:
    async with Fleet(
        json_answer(b"{}", status=500), json_answer(completion("late")), max_wait_s=5.0
    ) as fleet:
        slow, late = fleet.start(0), fleet.start(1)
        await asyncio.sleep(5.5)
        assert fleet.calls == 2
        await fleet.upstream.calls[0].step(2)
        await slow.end()
        await fleet.upstream.calls[1].step(2)
        await late.end()
        await settle()
        assert (await fleet.fetch(2)).body == completion("late")
        assert fleet.processes[1].cache.stats().result.writes == 1
        assert fleet.processes[1].link.calls["release"] == 1


@in_virtual_time
async def test_when_leases_fail_each_process_goes_alone_at_once_and_stores() -> None:
    """Design 9: coordinator down: per process only."""
    async with Fleet(size=2) as fleet:
        for process in fleet.processes:
            process.link.broken.add("acquire")
        clients = [fleet.start(at % 2) for at in range(10)]
        await settle()
        assert fleet.calls == 2
        for call in fleet.upstream.calls:
            await call.step(2)
        answers = await ended(clients)
        assert outcomes(answers) == ["COALESCED"] * 8 + ["MISS"] * 2
        assert (await fleet.fetch(0)).outcome == "HIT"
        for process in fleet.processes:  # the lease might have been granted all the same
            assert process.link.calls["release"] == 1


@in_virtual_time
async def test_after_a_failed_lookup_nothing_else_is_tried_but_requests_are_shared() -> None:
    """Design 10: the first failure skips the rest."""
    async with Fleet(size=1) as fleet:
        link = fleet.processes[0].link
        link.broken.add("fetch")
        clients = [fleet.start(0) for _ in range(5)]
        await settle()
        assert fleet.calls == 1
        await fleet.upstream.call.step(2)
        answers = await ended(clients)
        status = "routecache; fwd=bypass; detail=coordinator-error"
        assert [answer.get("cache-status") for answer in answers].count(status) == 1
        await settle()
        assert link.calls["acquire"] == 0
        stats = fleet.processes[0].cache.stats().result
        assert (stats.errors, stats.coalesced) == (1, 4)
        assert (stats.writes, stats.write_errors, stats.entries) == (0, 1, 0)


@in_virtual_time
async def test_only_if_cached_never_waits() -> None:
    async with Fleet(size=2) as fleet:
        leader = fleet.start(0)
        await settle()
        header = (b"cache-control", b"only-if-cached")
        answer = await fleet.fetch(1, headers=[(b"authorization", b"Bearer key-1"), header])
        assert answer.status == 504
        assert fleet.processes[1].link.calls["acquire"] == 0
        await fleet.upstream.call.step(2)
        await leader.end()


@in_virtual_time
async def test_who_asks_after_an_invalidation_does_not_wait_for_a_doomed_leader() -> None:
    """Its lease is taken over, and what it makes is not stored."""
    async with Fleet(json_answer(completion("old")), json_answer(completion("new"))) as fleet:
        doomed = fleet.start(0)
        await settle()
        await fleet.processes[1].cache.invalidate_model("m")
        fresh = fleet.start(2)
        await settle()
        assert fleet.calls == 2
        await fleet.upstream.calls[0].step(2)
        assert (await doomed.end()).body == completion("old")
        await fleet.upstream.calls[1].step(2)
        assert (await fresh.end()).body == completion("new")
        assert (await fleet.fetch(0)).body == completion("new")


@in_virtual_time
async def test_an_invalidation_while_it_waits_makes_a_waiter_take_over() -> None:
    """It is told of it, and need not wait for what it could not be given."""
    async with Fleet(json_answer(completion("old")), json_answer(completion("new"))) as fleet:
        doomed, waiting = fleet.start(0), fleet.start(1)
        await settle()
        await fleet.processes[2].cache.invalidate_model("m")
        await settle()
        assert fleet.calls == 2
        await fleet.upstream.calls[1].step(2)
        assert (await waiting.end()).body == completion("new")
        await fleet.upstream.calls[0].step(2)
        await doomed.end()
        await settle()
        assert (await fleet.fetch(2)).body == completion("new")


@in_virtual_time
async def test_an_answer_invalidated_while_somebody_waited_for_it_is_not_served() -> None:
    """The leader has not heard of the invalidation, and the waiter of no event."""
    async with Fleet(json_answer(completion("old")), json_answer(completion("new"))) as fleet:
        leader, waiting = fleet.start(0), fleet.start(1)
        fleet.processes[1].link.is_deaf = True
        await settle()
        await fleet.processes[2].cache.invalidate_model("m")
        await fleet.upstream.calls[0].step(2)
        await leader.end()
        await asyncio.sleep(2)
        assert fleet.calls == 2
        third = fleet.start(2)
        await asyncio.sleep(2)
        assert fleet.calls == 2  # who could not use it makes it anew for all
        await fleet.upstream.calls[1].step(2)
        answers = await ended([waiting, third])
        assert {answer.body for answer in answers} == {completion("new")}


@in_virtual_time
async def test_while_an_invalidation_is_owed_its_process_goes_alone() -> None:
    """What others make it could not use, and what it makes nobody could find."""
    async with Fleet(size=2) as fleet:
        link = fleet.processes[1].link
        link.broken.add("append")
        with pytest.raises(Exception, match="down"):
            await fleet.processes[1].cache.invalidate_model("m")
        clients = [fleet.start(0), fleet.start(1)]
        await settle()
        assert fleet.calls == 2
        assert link.calls["acquire"] == 0
        for call in fleet.upstream.calls:
            await call.step(2)
        await ended(clients)
        link.broken.clear()


@in_virtual_time
async def test_an_answer_that_cannot_be_converted_is_made_anew() -> None:
    """A stream that was asked for without usage never carried what a JSON answer has to say."""
    async with Fleet(sse_answer(PIECES), json_answer(), size=2) as fleet:
        stream = fleet.start(0, STREAM)
        await settle()
        second = fleet.processes[1]
        second.link.delay = lambda: 0.2
        late = fleet.start(1)
        await asyncio.sleep(0.25)  # the lookup is over, the question for the lease under way
        await fleet.upstream.calls[0].step(len(PIECES) + 2)
        await stream.end()
        await asyncio.sleep(1)
        assert fleet.calls == 2
        await fleet.upstream.calls[1].step(2)
        answer = await late.end()
        assert answer.body == completion()
        assert answer.get("cache-status") == "routecache; fwd=miss; detail=conversion"


@in_virtual_time
async def test_a_local_follower_with_a_stricter_max_age_asks_for_itself() -> None:
    async with Fleet(size=2) as fleet:
        first = fleet.start(0)
        await settle()
        await fleet.upstream.call.step(2)
        await first.end()
        await asyncio.sleep(20)
        second = fleet.processes[1]
        real = second.link._store
        second.link._store = new_store()  # its lookups find nothing yet
        second.link.delay = lambda: 0.2
        relaxed = fleet.start(1)
        header = (b"cache-control", b"max-age=5")
        strict = fleet.start(1, headers=[(b"authorization", b"Bearer key-1"), header])
        await asyncio.sleep(0.25)
        second.link._store = real
        assert (await relaxed.end()).outcome == "HIT"
        await asyncio.sleep(1)
        assert fleet.calls == 2
        await fleet.upstream.call.step(2)
        assert (await strict.end()).outcome == "MISS"


@in_virtual_time
async def test_without_coalescing_nobody_asks_for_a_lease() -> None:
    async with Fleet(size=2, coalescing=False) as fleet:
        clients = [fleet.start(at % 2) for at in range(4)]
        await settle()
        assert fleet.calls == 4
        for call in fleet.upstream.calls:
            await call.step(2)
        await ended(clients)
        assert fleet.acquired() == 0


@in_virtual_time
async def test_a_process_that_may_not_store_takes_no_lease() -> None:
    """The others would wait for what will not be there."""
    async with Fleet(size=2, mode="read_only") as fleet:
        clients = [fleet.start(at % 2) for at in range(4)]
        await settle()
        assert fleet.calls == 2
        for call in fleet.upstream.calls:
            await call.step(2)
        await ended(clients)
        assert fleet.acquired() == 0


@in_virtual_time
async def test_below_another_cache_nobody_waits_for_the_lease_of_the_one_above() -> None:
    """It would be waiting for itself."""
    async with Fleet(size=1) as fleet:
        fleet.upstream.is_stepped = False
        inner = fleet.processes[0]
        async with Process(fleet.store, inner.app) as outer:
            assert (await fetch(outer.app)).outcome == "MISS"
        assert inner.link.calls["acquire"] == 0


@in_virtual_time
async def test_the_lookup_and_the_lease_share_a_budget_and_nothing_else_has_one() -> None:
    """Design 10: foreground waits share one budget; following and background work have none."""
    async with Fleet(size=2, coordinator_timeout_s=0.05) as fleet:
        link = fleet.processes[0].link
        seen: dict[str, list[object]] = {}
        link.on_call = lambda method: seen.setdefault(method, []).append(current_budget())
        fleet.upstream.on_call = lambda _: seen.setdefault("app", []).append(current_budget())
        client = fleet.start(0)
        await asyncio.sleep(3)
        await fleet.upstream.call.step(2)
        await client.end()
        await settle()
        budget, *in_background = seen["fetch"]
        assert budget is not None
        assert seen["acquire"] == [budget]
        for method in ("app", "renew", "store", "release"):
            assert set(seen[method]) == {None}
        assert set(in_background) <= {None}


@in_virtual_time
async def test_a_lookup_that_was_slow_leaves_the_lease_its_time() -> None:
    """A lease that is given up costs a call, and the coordinator has just answered."""
    async with Fleet(size=1, coordinator_timeout_s=0.05) as fleet:
        link, left_s = fleet.processes[0].link, []

        def spend(method: str) -> None:
            budget = current_budget()
            if method == "acquire" and budget is not None:
                left_s.append(budget.remaining_s)
            elif method == "fetch" and budget is not None:
                budget.spend(0.045)

        link.on_call = spend
        client = fleet.start(0)
        await asyncio.sleep(3)
        await fleet.upstream.call.step(2)
        await client.end()
        await settle()
        assert left_s == [0.05]


@in_virtual_time
async def test_who_waits_asks_without_a_budget() -> None:
    """Design 10: following excluded. Only the first question is part of what the request waits."""
    async with Fleet(size=2) as fleet:
        leader = fleet.start(0)
        await settle()
        link, budgets = fleet.processes[1].link, []
        link.is_deaf = True

        def on_call(method: str) -> None:
            if method == "acquire":
                budgets.append(current_budget())

        link.on_call = on_call
        waiting = fleet.start(1)
        await asyncio.sleep(2)
        await fleet.upstream.call.step(2)
        await ended([leader, waiting])
        assert len(budgets) > 3
        assert budgets[0] is not None
        assert set(budgets[1:]) == {None}


@in_virtual_time
async def test_the_marker_is_forgotten_after_ten_seconds() -> None:
    async with Fleet(UNSHAREABLE[0], json_answer(), size=2) as fleet:
        first = fleet.start(0)
        await settle()
        await fleet.upstream.call.step(2)
        await first.end()
        acquired = await fleet.store.acquire(_key(fleet), token="t", ttl_s=1, form="json")
        assert isinstance(acquired, Parallel)
        assert 9.9 < acquired.remaining_s <= 10
        await asyncio.sleep(10.1)
        clients = [fleet.start(at) for at in range(2)]
        await settle()
        assert fleet.calls == 2
        await fleet.upstream.call.step(2)
        assert outcomes(await ended(clients)) == ["COALESCED", "MISS"]


def _key(fleet: Fleet) -> CacheKey:
    (name,) = fleet.store._leases._held
    return CacheKey(name.rpartition("|")[0])
