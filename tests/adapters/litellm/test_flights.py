"""Identical calls at one time share one call of the provider, whatever becomes of it."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator
from typing import Any

import litellm
import pytest

from routecache_middleware import RouteCache
from routecache_middleware.adapters.litellm.results.apis import Api, api_of
from routecache_middleware.adapters.litellm.results.board import Flight
from routecache_middleware.adapters.litellm.results.controls import read_controls
from routecache_middleware.adapters.litellm.results.keying import Identified
from routecache_middleware.core.settings import Settings
from tests.adapters.litellm.asking import Asking, answering, is_hit, networked, text_of, until
from tests.adapters.litellm.provider import Answer, Provider, ToolCall

Json = dict[str, Any]
USAGE: Json = {"stream_options": {"include_usage": True}}


@pytest.fixture
async def asking(provider: Provider) -> AsyncIterator[Asking]:
    async with answering(provider) as asking:
        yield asking
        await until(lambda: not asking.part.board._open, timeout_s=3)
        assert not asking.hub.engine.live


def api(name: str) -> Api:
    found = api_of(name)
    assert found is not None
    return found


def begin(asking: Asking, count: int, **arguments: Any) -> list["asyncio.Task[Any]"]:
    return [asyncio.create_task(asking.chat(**arguments)) for _ in range(count)]


async def waiting(asking: Asking, followers: int) -> Flight:
    """Wait until so many calls wait for the only flight there is."""
    board = asking.part.board
    await until(lambda: any(flight.followers >= followers for flight in board._open))
    (flight,) = board._open
    return flight


async def test_fifty_identical_calls_make_one(asking: Asking) -> None:
    answers = await asyncio.gather(*begin(asking, 50))
    assert asking.provider.count() == 1
    assert len({text_of(answer) for answer in answers}) == 1
    assert sum(is_hit(answer) for answer in answers) == 49
    stats = asking.hub.cache.stats().result
    assert (stats.misses, stats.coalesced, stats.hits) == (1, 49, 0)


@pytest.mark.parametrize("options", [{}, USAGE])
async def test_twenty_identical_streams_make_one(asking: Asking, options: Json) -> None:
    streams = await asyncio.gather(*(asking.stream(**options) for _ in range(20)))
    assert asking.provider.count() == 1
    assert len({"".join(said(chunk) for chunk in stream) for stream in streams}) == 1


async def test_fifty_embeddings_in_any_order_make_one_call_per_text(asking: Asking) -> None:
    """Calls that want several entries each, and never wait for each other in a circle."""

    async def embed(order: list[str]) -> Any:
        given = {"api_base": asking.provider.url, "api_key": "none", "input": order}
        return await litellm.aembedding(model="openai/e", **given)

    texts = ["a", "b", "c"]
    async with asyncio.timeout(10):
        await asyncio.gather(*(embed(random.sample(texts, 3)) for _ in range(50)))
    assert asking.provider.count() == 1


async def test_embeddings_over_a_network_do_not_wait_in_a_circle(provider: Provider) -> None:
    async with networked() as (faulty, cache), answering(provider, cache=cache) as asking:

        async def journey() -> None:
            await asyncio.sleep(random.uniform(0, 0.01))

        faulty.journey = journey  # type: ignore[method-assign]

        async def embed(order: list[str]) -> Any:
            given = {"api_base": asking.provider.url, "api_key": "none", "input": order}
            return await litellm.aembedding(model="openai/e", **given)

        async with asyncio.timeout(10):
            for text in range(5):
                texts = [f"{text}{letter}" for letter in "abc"]
                await asyncio.gather(*(embed(random.sample(texts, 3)) for _ in range(10)))


async def test_an_answer_in_one_piece_waits_for_a_stream_with_usage(asking: Asking) -> None:
    with asking.provider.held():
        stream = asyncio.create_task(asking.stream(**USAGE))
        await asking.provider.called(1)
        (whole,) = begin(asking, 1)
        await waiting(asking, 1)
    await stream
    assert is_hit(await whole)
    assert asking.provider.count() == 1


@pytest.mark.parametrize("options", [{}, USAGE])
async def test_a_stream_does_not_wait_for_an_answer_in_one_piece(
    asking: Asking, options: Json
) -> None:
    with asking.provider.held():
        (whole,) = begin(asking, 1)
        await asking.provider.called(1)
        stream = asyncio.create_task(asking.stream(**options))
        await asking.provider.called(2)
    await asyncio.gather(whole, stream)


async def test_no_store_shares_nothing(asking: Asking) -> None:
    await asyncio.gather(*begin(asking, 5, cache={"no-store": True}))
    assert asking.provider.count() == 5


async def test_without_coalescing_everybody_goes_alone(provider: Provider) -> None:
    async with answering(provider, coalescing=False) as asking:
        with provider.held():
            calls = begin(asking, 5)
            await provider.called(5)
        await asyncio.gather(*calls)


async def test_two_tenants_never_share_a_call(provider: Provider) -> None:
    async with answering(provider, is_proxy=True) as asking:

        def of(key: str) -> list["asyncio.Task[Any]"]:
            return begin(asking, 5, metadata={"user_api_key": key})

        with provider.held():
            calls = of("a") + of("b")
            await provider.called(2)
        answers = await asyncio.gather(*calls)
    assert provider.count() == 2
    assert len({text_of(answer) for answer in answers}) == 2


async def test_nobody_shares_with_nobody_behind_the_proxy(provider: Provider) -> None:
    async with answering(provider, is_proxy=True) as asking:
        await asyncio.gather(*begin(asking, 3))
        assert asking.hub.cache.stats().bypasses == {"no-principal": 3}
    assert provider.count() == 3


# What becomes of a leader.


async def test_when_the_leader_is_cancelled_one_of_the_others_takes_over(asking: Asking) -> None:
    with asking.provider.held():
        leader, *others = begin(asking, 5)
        await asking.provider.called(1)
        await waiting(asking, 4)
        leader.cancel()
        await asking.provider.called(2)
        await waiting(asking, 3)
    await asyncio.gather(*others)
    assert asking.provider.count() == 2
    assert leader.cancelled()


async def test_a_follower_that_is_cancelled_disturbs_nobody(asking: Asking) -> None:
    with asking.provider.held():
        calls = begin(asking, 5)
        await asking.provider.called(1)
        await waiting(asking, 4)
        calls[2].cancel()
        await waiting(asking, 3)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(answer, BaseException) for answer in answers].count(True) == 1
    assert asking.provider.count() == 1


async def test_when_the_provider_fails_one_of_the_others_tries(asking: Asking) -> None:
    asking.provider.script(Answer(status=500))
    with asking.provider.held():
        calls = begin(asking, 5, max_retries=0)
        await asking.provider.called(1)
        await waiting(asking, 4)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(failed) == 1, "its error is the leader's alone"
    assert asking.provider.count() == 2


async def test_when_that_one_fails_too_the_rest_go_alone(asking: Asking) -> None:
    asking.provider.script(Answer(status=500), Answer(status=500))
    with asking.provider.held():
        calls = begin(asking, 6, max_retries=0)
        await asking.provider.called(1)
        await waiting(asking, 5)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(failed) == 2
    assert asking.provider.count() == 6


async def test_an_aborted_stream_of_the_provider_lets_the_others_go(asking: Asking) -> None:
    asking.provider.script(Answer(text="one two three four", abort_after=3, chunk_delay_s=0.05))
    streams = [asyncio.create_task(asking.stream(max_retries=0)) for _ in range(4)]
    async with asyncio.timeout(8):
        answers = await asyncio.gather(*streams, return_exceptions=True)
    assert sum(isinstance(answer, BaseException) for answer in answers) == 1


async def test_a_stream_that_its_reader_drops_lets_the_others_go(asking: Asking) -> None:
    """No hook tells of it: the call's own objects go away, and that is what is noticed."""
    asking.provider.always(Answer(text="one two three four five six", chunk_delay_s=0.05))

    async def leave() -> None:
        async for _ in await asking.chat("hello", stream=True):
            return

    leaving = asyncio.create_task(leave())
    await asking.provider.called(1)
    follower = asyncio.create_task(asking.stream())
    await leaving
    gc.collect()
    async with asyncio.timeout(8):
        assert await follower
    assert asking.provider.count() == 2


@pytest.mark.parametrize(
    "answer",
    [Answer(finish_reason="content_filter"), Answer(tool_calls=(ToolCall(name="weather"),))],
)
async def test_an_answer_that_cannot_be_shared_lets_everybody_go_at_once(
    asking: Asking, answer: Answer
) -> None:
    """And for ten seconds nobody waits for the next one."""
    asking.provider.always(answer)
    with asking.provider.held():
        calls = begin(asking, 5)
        await asking.provider.called(1)
        await waiting(asking, 4)
    async with asyncio.timeout(5):
        await asyncio.gather(*calls)
    assert asking.provider.count() == 5
    with asking.provider.held():
        calls = begin(asking, 2)
        await asking.provider.called(7)
    await asyncio.gather(*calls)


async def test_answers_that_are_none_are_not_asked_for_one_by_one(asking: Asking) -> None:
    """One of those who wait tries; when that comes to nothing too, the rest go at once."""
    asking.provider.always(Answer(text="", delay_s=0.3))
    async with asyncio.timeout(1.8):
        await asyncio.gather(*begin(asking, 12))
    assert asking.provider.count() == 12


async def test_nobody_waits_for_ever(provider: Provider) -> None:
    async with answering(provider, flight_timeout_s=0.2) as asking:
        with provider.held():
            calls = begin(asking, 4)
            await provider.called(4)
        await asyncio.gather(*calls)


async def test_who_joins_late_waits_no_longer_than_the_flight_lasts(provider: Provider) -> None:
    async with answering(provider, flight_timeout_s=0.5) as asking:
        with provider.held():
            calls = begin(asking, 1)
            await provider.called(1)
            await asyncio.sleep(0.3)
            calls += begin(asking, 1)
            began_s = asyncio.get_running_loop().time()
            await provider.called(2)
            assert asyncio.get_running_loop().time() - began_s < 0.45
        await asyncio.gather(*calls)


async def test_what_was_invalidated_meanwhile_is_not_joined(asking: Asking) -> None:
    with asking.provider.held():
        before = begin(asking, 2)
        await asking.provider.called(1)
        await waiting(asking, 1)
        await asking.hub.cache.invalidate_model("openai/gpt-4o")
        after = begin(asking, 2)
        await asking.provider.called(2)
        await until(lambda: sum(f.followers for f in asking.part.board._open) == 2)
    answers = await asyncio.gather(*before, *after)
    assert asking.provider.count() <= 3
    assert text_of(answers[2]) == text_of(answers[3])
    await asking.kept(2)
    assert is_hit(await asking.chat())


async def test_a_call_never_waits_for_itself(asking: Asking) -> None:
    """The same id: LiteLLM's retries keep it. A client can choose it as well."""
    with asking.provider.held():
        calls = begin(asking, 2, litellm_call_id="mine")
        await asking.provider.called(2)
    await asyncio.gather(*calls)


async def test_a_task_never_waits_for_itself(asking: Asking) -> None:
    """It has left a stream half read, and asks the same again."""
    stream = await asking.chat("hello", stream=True)
    await anext(stream)
    async with asyncio.timeout(5):
        assert await asking.stream()
    async for _ in stream:
        pass


# In a Router.


async def routed(router: Any, **arguments: Any) -> Any:
    messages = [{"role": "user", "content": "hello"}]
    return await router.acompletion(model="g", messages=messages, **arguments)


async def test_a_retry_of_the_router_does_not_wait_for_its_first_try(asking: Asking) -> None:
    router = asking.router({"group": "g", "model": "openai/m"}, num_retries=2, retry_after=0)
    asking.provider.script(Answer(status=500))
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(routed(router) for _ in range(10)))
    assert len({text_of(answer) for answer in answers}) == 1
    assert asking.provider.count() == 2


async def test_a_fallback_serves_all_who_wait(asking: Asking) -> None:
    router = asking.router(
        {"group": "g", "model": "openai/broken"},
        {"group": "h", "model": "openai/works"},
        fallbacks=[{"g": ["h"]}],
    )
    asking.provider.always(Answer(status=500), model="broken")
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(routed(router) for _ in range(10)))
    assert len({text_of(answer) for answer in answers}) <= 2
    assert asking.provider.count(model="works") <= 2


async def test_a_deployment_with_one_slot_does_not_block(asking: Asking) -> None:
    """LiteLLM refuses at once whoever finds no slot; those who have one do not wait for those."""
    one = {"group": "g", "model": "openai/m", "max_parallel_requests": 1}
    router = asking.router(one, {**one, "model": "openai/n"}, num_retries=0)
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(routed(router) for _ in range(6)), return_exceptions=True)
    refused = [one for one in answers if isinstance(one, litellm.RateLimitError)]
    served = [one for one in answers if not isinstance(one, BaseException)]
    assert len(refused) + len(served) == 6
    assert served
    assert asking.provider.count() == 1


# In several processes: here several caches on one coordinator.


async def test_two_processes_make_one_call(provider: Provider) -> None:
    async with networked(lease_ttl_s=2) as (faulty, cache):
        other = RouteCache(
            coordinator=cache.engine.coordinator,
            settings=cache.settings,
            clock=cache.engine.clock,
            observers=[],
        )
        other.engine._fetch_now = None
        async with answering(provider, cache=cache) as one:
            with provider.held():
                calls = begin(one, 3)
                await provider.called(1)
                await waiting(one, 2)
                async with answering(provider, cache=other) as two:
                    # The callback of the first is still there: only one may take calls up.
                    litellm.callbacks.remove(one.hub.callback)
                    calls += begin(two, 3)
                    await waiting(two, 2)
                    provider._gate.set()
                    answers = await asyncio.gather(*calls)
                    litellm.callbacks.append(one.hub.callback)
            assert len({text_of(answer) for answer in answers}) == 1
        await other.aclose()
        assert faulty.asked["acquire"] >= 2
    assert provider.count() == 1


@pytest.mark.parametrize("is_free", [True, False])
async def test_who_waited_too_long_stores_only_what_nobody_else_is_making(
    provider: Provider, *, is_free: bool
) -> None:
    """The lease is somebody else's, in another process, who may come to an end or not."""
    async with (
        networked(max_wait_s=0.1) as (faulty, cache),
        answering(provider, cache=cache) as asking,
    ):
        await asking.chat("warm up")
        await asking.kept(1)
        found = asking.part.keyer.identify(
            api("acompletion"), asking.arguments(), read_controls(None)
        )
        assert isinstance(found, Identified)
        key = found.keys().key
        faulty.acquire_now(key, token="theirs", ttl_s=60, form="json")
        with provider.held():
            (call,) = begin(asking, 1)
            await provider.called(2)
            if is_free:
                await faulty.release(key, token="theirs", form="json")
        await call
        await asking.kept(2)
        assert asking.hub.engine.recorder.result.writes == (2 if is_free else 1)


async def test_a_lease_is_given_back_when_the_provider_fails(provider: Provider) -> None:
    async with networked() as (faulty, cache), answering(provider, cache=cache) as asking:
        provider.script(Answer(status=500))
        with pytest.raises(litellm.InternalServerError):
            await asking.chat(max_retries=0)
        await until(lambda: faulty.asked["release"] == 1)
        assert text_of(await asking.chat())
        await asking.kept(1)
        await until(lambda: faulty.asked["release"] == 2)


async def test_a_lease_is_given_back_when_the_caller_leaves(provider: Provider) -> None:
    async with networked() as (faulty, cache), answering(provider, cache=cache) as asking:
        with provider.held():
            (call,) = begin(asking, 1)
            await provider.called(1)
            call.cancel()
            await until(lambda: faulty.asked["release"] == 1)


@pytest.mark.parametrize("way", ["hangs", "refuses"])
async def test_a_question_for_the_leader_that_gets_no_answer_is_not_waited_for(
    provider: Provider, way: str
) -> None:
    async with networked() as (faulty, cache), answering(provider, cache=cache) as asking:
        if way == "hangs":
            faulty.hang("acquire")
        else:
            faulty.fail("acquire")
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*begin(asking, 5))
        assert len({text_of(answer) for answer in answers}) == 1
    assert provider.count() == 1


async def test_two_real_processes_worth_of_caches_share_over_valkey(
    provider: Provider, valkey_url: str
) -> None:
    settings = Settings(coordinator_timeout_s=1.0)
    caches = [RouteCache(url=valkey_url, settings=settings, observers=[]) for _ in range(2)]
    async with answering(provider, cache=caches[0]) as one:
        await one.chat()
        await one.kept(1)
        await until(lambda: not one.part.board._open)
        litellm.callbacks.remove(one.hub.callback)
        one.hub.uninstall()
        async with answering(provider, cache=caches[1]) as two:
            assert is_hit(await two.chat())
        litellm.callbacks.append(one.hub.callback)
    for cache in caches:
        await cache.aclose()


def said(chunk: Any) -> str:
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""
