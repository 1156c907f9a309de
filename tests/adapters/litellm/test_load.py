"""Load and metadata of deployments, from the calls that LiteLLM really makes."""

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy
from pickle import dumps, loads
from typing import Any

import litellm
import pytest

from routecache_middleware import LoadMetrics, RouteCache, Settings
from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.adapters.litellm.load import LoadPart
from routecache_middleware.adapters.litellm.load.calls import OpenCalls
from routecache_middleware.adapters.litellm.load.capabilities import capabilities, common
from routecache_middleware.engine.load import LoadTracker
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.litellm.provider import Answer, Provider
from tests.adapters.litellm.with_parts import MESSAGES, at_work, deployment, until

pytestmark = pytest.mark.filterwarnings("ignore:Router.* is deprecated:DeprecationWarning")


def _router(provider: Provider, *names: str, group: str = "g", **settings: Any) -> litellm.Router:
    models = [deployment(provider.url, group, name) for name in names]
    return litellm.Router(model_list=models, **{"num_retries": 0, **settings})


async def _load(hub: Hub, name: str) -> LoadMetrics:
    load = await hub.cache.get_load_metrics(name)
    assert load is not None, f"nothing known of {name}"
    return load


async def _idle(hub: Hub, name: str) -> LoadMetrics:
    """Return the load of something once nothing is under way there any more."""

    async def is_idle() -> bool:
        load = await hub.cache.get_load_metrics(name)
        return load is not None and load.in_flight == 0

    await until(is_idle)
    return await _load(hub, name)


async def test_a_call_counts_for_its_deployment_and_its_group(provider: Provider) -> None:
    async with at_work("load") as hub:
        router = _router(provider, "d1")
        with provider.held():
            call = asyncio.create_task(router.acompletion("g", MESSAGES))
            await provider.called(1)
            for name in ("d1", "g"):
                load = await _load(hub, name)
                assert (load.in_flight, load.error_rate) == (1, 0.0)
        await call
        for name in ("d1", "g"):  # at once, not when LiteLLM's log events come round
            load = await _load(hub, name)
            assert (load.in_flight, load.error_rate) == (0, 0.0)
            assert load.avg_response_time_ms > 0
            assert load.requests_per_s > 0


async def test_a_stream_counts_until_it_was_read_to_its_end(provider: Provider) -> None:
    async with at_work("load") as hub:
        router = _router(provider, "d1")
        stream = await router.acompletion("g", MESSAGES, stream=True)
        assert (await _load(hub, "d1")).in_flight == 1
        async for _ in stream:
            pass
        load = await _idle(hub, "d1")
        assert load.avg_response_time_ms > 0
        assert load.error_rate == 0.0


async def test_a_stream_that_nobody_reads_to_its_end_is_over(provider: Provider) -> None:
    provider.always(Answer(text="one two three four", chunk_delay_s=0.01))
    async with at_work("load") as hub:
        router = _router(provider, "d1")
        stream = await router.acompletion("g", MESSAGES, stream=True)
        async for _ in stream:
            break
        assert (await _load(hub, "d1")).in_flight == 1
        await stream.aclose()
        del stream
        gc.collect()
        load = await _idle(hub, "d1")
        assert load.error_rate == 0.0  # no fault of the deployment's


async def test_a_stream_whose_task_is_cancelled_is_over(provider: Provider) -> None:
    provider.always(Answer(text="one two three four", chunk_delay_s=0.2))
    async with at_work("load") as hub:
        router = _router(provider, "d1")

        async def read() -> None:
            async for _ in await router.acompletion("g", MESSAGES, stream=True):
                pass

        reading = asyncio.create_task(read())
        await provider.called(1)
        reading.cancel()
        await asyncio.wait([reading])
        assert (await _idle(hub, "g")).error_rate == 0.0


async def test_a_cancelled_call_is_over_and_no_failure(provider: Provider) -> None:
    async with at_work("load") as hub:
        router = _router(provider, "d1")
        with provider.held():
            call = asyncio.create_task(router.acompletion("g", MESSAGES))
            await provider.called(1)
            assert (await _load(hub, "g")).in_flight == 1
            call.cancel()
            await asyncio.wait([call])
            load = await _idle(hub, "g")
        assert (load.error_rate, load.avg_response_time_ms) == (0.0, 0.0)


async def test_each_attempt_counts_where_it_was_made(provider: Provider) -> None:
    """A retry and a fallback: two failed attempts, one that answers, nothing left open."""
    provider.always(Answer(status=500), model="bad")
    async with at_work("load") as hub:
        models = [deployment(provider.url, name, name) for name in ("bad", "good")]
        router = litellm.Router(
            model_list=models,
            num_retries=1,
            retry_after=0,
            allowed_fails=100,
            fallbacks=[{"bad": ["good"]}],
        )
        await router.acompletion("bad", MESSAGES)
        assert provider.count(model="bad") == 2
        bad, good = await _idle(hub, "bad"), await _idle(hub, "good")
        assert (bad.error_rate, good.error_rate) == (1.0, 0.0)
        known = hub.engine.load.known()
        assert (known["bad"].finished, known["good"].finished) == (2, 1)


async def test_a_request_that_is_wrong_is_no_failure_of_the_deployment(provider: Provider) -> None:
    async with at_work("load") as hub:
        router = _router(provider, "d1")
        for status, rate in ((400, 0.0), (429, 0.2)):
            provider.script(Answer(status=status))
            with pytest.raises((litellm.BadRequestError, litellm.RateLimitError)):
                await router.acompletion("g", MESSAGES)
            assert (await _idle(hub, "d1")).error_rate == rate


async def test_a_call_that_times_out_is_a_failure(provider: Provider) -> None:
    async with at_work("load") as hub:
        router = _router(provider, "d1")
        with provider.held(), pytest.raises(litellm.Timeout):
            await router.acompletion("g", MESSAGES, timeout=0.2)
        assert (await _idle(hub, "d1")).error_rate == 1.0


async def test_answers_from_a_cache_are_no_load(provider: Provider) -> None:
    async with at_work("load") as hub:
        litellm.cache = litellm.Cache(type="local")
        router = _router(provider, "d1", cache_responses=True)
        await router.acompletion("g", MESSAGES)
        await asyncio.sleep(0.1)  # LiteLLM stores in a task
        rate = (await _load(hub, "g")).requests_per_s
        for _ in range(5):
            await router.acompletion("g", MESSAGES)
        assert provider.count() == 1
        load = await _load(hub, "g")
        assert load.in_flight == 0
        assert load.requests_per_s <= rate


@pytest.mark.parametrize("is_stream", [False, True])
async def test_calls_that_are_not_async_count_once(provider: Provider, is_stream: bool) -> None:  # noqa: FBT001
    async with at_work("load") as hub:
        router = _router(provider, "d1")

        def call() -> None:
            answer = router.completion("g", MESSAGES, stream=is_stream)
            for _ in answer if is_stream else ():
                pass

        await asyncio.to_thread(call)
        load = await _idle(hub, "d1")
        assert hub.engine.load.known()["d1"].finished == 1
        assert load.avg_response_time_ms > 0


async def test_calls_that_fail_and_are_not_async_count(provider: Provider) -> None:
    provider.always(Answer(status=500))
    async with at_work("load") as hub:
        router = _router(provider, "d1")
        with pytest.raises(litellm.InternalServerError):
            await asyncio.to_thread(router.completion, "g", MESSAGES)
        assert (await _idle(hub, "d1")).error_rate == 1.0


async def test_embeddings_responses_and_messages_count_too(provider: Provider) -> None:
    async with at_work("load") as hub:
        models = [deployment(provider.url, name, name) for name in ("chat", "embed")]
        claude = {"model": "anthropic/claude-x", "api_base": provider.origin, "api_key": "none"}
        models.append(
            {"model_name": "claude", "litellm_params": claude, "model_info": {"id": "claude"}}
        )
        router = litellm.Router(model_list=models)
        await router.aembedding("embed", input="hi")
        await router.aresponses(model="chat", input="hi")
        await router.aanthropic_messages(model="claude", messages=MESSAGES, max_tokens=5)
        for name in ("chat", "embed", "claude"):
            await _idle(hub, name)
            assert hub.engine.load.known()[name].finished == 1, name


async def test_without_a_router_it_is_the_model_that_counts(provider: Provider) -> None:
    async with at_work("load") as hub:
        await litellm.acompletion(
            model="openai/m1", messages=MESSAGES, api_base=provider.url, api_key="none"
        )
        assert (await _idle(hub, "m1")).requests_per_s > 0


async def test_a_group_with_a_wildcard_counts_by_the_name_that_was_asked_for(
    provider: Provider,
) -> None:
    async with at_work("load") as hub:
        entry = deployment(provider.url, "openai/*", "w1", model="openai/*")
        router = litellm.Router(model_list=[entry])
        await router.acompletion("openai/tiny", MESSAGES)
        assert (await _idle(hub, "openai/tiny")).requests_per_s > 0
        assert (await _idle(hub, "w1")).requests_per_s > 0


async def test_all_processes_know_what_is_under_way_in_each(
    provider: Provider, valkey_url: str
) -> None:
    """Two hubs share one LiteLLM here, so each sees every call; a second cache only reads."""
    async with at_work("load", url=valkey_url) as hub, RouteCache(url=valkey_url) as other:
        other.engine.load.started("g")
        router = _router(provider, "d1")
        with provider.held():
            calls = [asyncio.create_task(router.acompletion("g", MESSAGES)) for _ in range(2)]
            await provider.called(2)

            async def seen() -> bool:
                load = await other.get_load_metrics("g")
                return load is not None and load.in_flight == 3

            await until(seen)
            assert (await _load(hub, "g")).in_flight == 3
        await asyncio.gather(*calls)


async def test_a_dead_coordinator_changes_nothing_for_the_caller(provider: Provider) -> None:
    async with at_work("load", url="redis://127.0.0.1:1") as hub:
        router = _router(provider, "d1")
        for _ in range(3):
            await router.acompletion("g", MESSAGES)
        await asyncio.sleep(0.3)
        assert len(_part(hub).calls) == 0
        assert await hub.cache.get_load_metrics("g") is None


def _part(hub: Hub) -> LoadPart:
    (part,) = hub.parts
    assert isinstance(part, LoadPart)
    return part


async def test_uninstalling_leaves_nothing_open(provider: Provider) -> None:
    async with at_work("load") as hub:
        router = _router(provider, "d1")
        with provider.held():
            call = asyncio.create_task(router.acompletion("g", MESSAGES))
            await provider.called(1)
            hub.uninstall()
            assert (await _load(hub, "g")).in_flight == 0
        await call
        assert (await _load(hub, "g")).in_flight == 0


async def test_load_is_not_measured_when_that_is_turned_off() -> None:
    async with at_work("load", report_load=False) as hub:
        assert hub.parts == ()


# What is open, without LiteLLM.


def _open_calls() -> tuple[OpenCalls, LoadTracker, FakeClock]:
    clock = FakeClock()
    tracker = LoadTracker(clock)
    return OpenCalls(tracker, clock), tracker, clock


def _in_flight(tracker: LoadTracker) -> int:
    load = tracker.metrics("m")
    return 0 if load is None else load.in_flight


def test_an_open_call_is_given_up_after_an_hour() -> None:
    calls, tracker, clock = _open_calls()
    record: dict[str, Any] = {}
    calls.begin(record, ["m"], is_stream=False)
    clock.advance(3599)
    calls.settle()
    assert _in_flight(tracker) == 1
    clock.advance(2)
    calls.settle()
    assert _in_flight(tracker) == 0
    calls.end(record)
    assert _in_flight(tracker) == 0


def test_events_that_come_twice_count_once() -> None:
    calls, tracker, clock = _open_calls()
    record: dict[str, Any] = {}
    calls.begin(record, ["m"], is_stream=False)
    copy = dict(record)  # LiteLLM hands out copies without what loggers may not see
    clock.advance(2)
    calls.end(record, within_s=1.5)
    calls.end(copy, is_failure=True)
    load = tracker.metrics("m")
    assert load is not None
    assert (load.in_flight, load.avg_response_time_ms, load.error_rate) == (0, 1500.0, 0.0)


def test_the_next_attempt_of_a_call_ends_the_one_before() -> None:
    calls, tracker, _ = _open_calls()
    record: dict[str, Any] = {}
    for _ in range(3):
        calls.begin(record, ["m"], is_stream=False)
    assert _in_flight(tracker) == 1


def test_a_record_that_is_forgotten_or_copied_leaves_the_count_right() -> None:
    calls, tracker, _ = _open_calls()
    record: dict[str, Any] = {}
    calls.begin(record, ["m"], is_stream=False)
    deepcopy(record)
    loads(dumps(record))  # noqa: S301 - our own
    calls.settle()
    assert _in_flight(tracker) == 1
    kept = copy(record)
    del record
    calls.settle()
    assert _in_flight(tracker) == 1
    kept.clear()
    calls.settle()
    assert _in_flight(tracker) == 0


@pytest.mark.parametrize(("is_stream", "limit_s"), [(True, 60), (False, 5)])
async def test_a_call_whose_task_has_ended_stays_open_for_a_while(
    is_stream: bool,  # noqa: FBT001
    limit_s: int,
) -> None:
    """Another task may read the stream; the event of the end may come late."""
    calls, tracker, clock = _open_calls()
    record: dict[str, Any] = {}

    async def ask() -> None:
        calls.begin(record, ["m"], is_stream=is_stream)

    await asyncio.create_task(ask())
    calls.settle()
    assert _in_flight(tracker) == 1
    clock.advance(limit_s - 1)
    calls.settle()
    assert _in_flight(tracker) == 1
    clock.advance(2)
    calls.settle()
    assert _in_flight(tracker) == 0


def test_threads_may_count_at_once() -> None:
    calls, tracker, _ = _open_calls()

    def use() -> None:
        for _ in range(500):
            record: dict[str, Any] = {}
            calls.begin(record, ["m"], is_stream=False)
            if len(calls) % 2:
                calls.end(record)

    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(use) for _ in range(4)]:
            one.result()
    calls.settle()
    assert (_in_flight(tracker), len(calls)) == (0, 0)


# Metadata.


async def test_metadata_says_what_a_deployment_can_do_and_what_it_costs(provider: Provider) -> None:
    async with at_work("load") as hub:
        entry = deployment(provider.url, "g", "d1", model="openai/gpt-4o-mini")
        entry["model_info"]["max_output_tokens"] = 99
        router = litellm.Router(model_list=[entry])
        await router.acompletion("g", MESSAGES)
        for name in ("d1", "g"):

            async def known(name: str = name) -> Any:
                found = await hub.cache.get_model_metadata(name)
                return found if found is not None and not found.is_observed else None

            found = await until(known)
            listed = litellm.model_cost["gpt-4o-mini"]
            assert found.capabilities["max_input_tokens"] == listed["max_input_tokens"]
            assert found.capabilities["input_cost_per_token"] == listed["input_cost_per_token"]
            assert found.capabilities["supports_function_calling"] is True
            assert found.capabilities["max_output_tokens"] == 99
            assert (found.capabilities["mode"], found.capabilities["provider"]) == (
                "chat",
                "openai",
            )
            assert found.avg_response_time_ms > 0


async def test_metadata_of_a_model_that_nobody_lists_says_what_is_known(provider: Provider) -> None:
    async with at_work("load") as hub:
        await _router(provider, "my-own").acompletion("g", MESSAGES)

        async def known() -> Any:
            found = await hub.cache.get_model_metadata("my-own")
            return found if found is not None and not found.is_observed else None

        found = await until(known)
        assert found.capabilities["provider"] == "openai"
        assert found.capabilities["model"] == "my-own"


async def test_metadata_is_written_again_before_it_runs_out(provider: Provider) -> None:
    cache = RouteCache(url="memory://", settings=Settings(metadata_ttl_s=0.5))
    async with cache, at_work("load", cache=cache) as hub:
        router = _router(provider, "d1")
        for _ in range(3):
            await router.acompletion("g", MESSAGES)
            await asyncio.sleep(1.1)
        writes = [
            one.capabilities
            for one in [await hub.cache.get_model_metadata("d1")]
            if one is not None
        ]
        assert all("provider" in one for one in writes)


def test_what_the_user_has_configured_wins_over_the_map() -> None:
    listed = {"p/m": {"max_tokens": 5, "supports_vision": True, "other": 1, "mode": "chat"}}
    found = capabilities("m", "p", listed, {"max_tokens": 7, "id": "secret", "supports_x": None})
    assert found == {
        "max_tokens": 7,
        "supports_vision": True,
        "mode": "chat",
        "provider": "p",
        "model": "m",
    }
    assert capabilities("m", "azure", listed, {"base_model": "p/m"})["max_tokens"] == 5
    assert capabilities("?", "", {"?": "no mapping"}, {}) == {"provider": "", "model": "?"}


def test_a_group_can_do_what_all_its_deployments_can() -> None:
    one = {
        "supports_a": True,
        "supports_b": True,
        "max_tokens": 5,
        "x_cost_per_y": 1.0,
        "mode": "c",
    }
    other = {"supports_a": True, "max_tokens": 7, "x_cost_per_y": 2.0, "mode": "d"}
    assert common([one, other]) == {
        "supports_a": True,
        "supports_b": False,
        "max_tokens": 5,
        "x_cost_per_y": 2.0,
    }
    assert common([]) == {}


async def test_a_sync_router_leaves_nothing_in_its_passing_loop(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    """LiteLLM makes such calls in an event loop that is closed when the call is over."""
    async with at_work("load") as hub:
        router = _router(provider, "d1")
        await router.acompletion("g", MESSAGES)
        await asyncio.to_thread(router.completion, "g", MESSAGES)
        await asyncio.sleep(1.5)
        assert "Event loop is closed" not in caplog.text
        assert await hub.cache.get_load_metrics("g") is not None
