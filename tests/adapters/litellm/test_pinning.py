"""The same query goes to the same deployment, unless something else has a say."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import litellm
import pytest

from routecache_middleware import RouteCache, Settings
from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.keys import Layer
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.litellm.provider import Answer, Provider
from tests.adapters.litellm.with_parts import MESSAGES, at_work, deployment, until
from tests.support.faulty import FaultyCoordinator

pytestmark = pytest.mark.filterwarnings("ignore:Router.* is deprecated:DeprecationWarning")

HI = [{"role": "user", "content": "hi"}]
NAMES = [f"d{number}" for number in range(8)]


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with at_work("pinning", pin_deployments=True) as hub:
        await hub.cache.open()
        yield hub


def _router(*models: dict[str, Any], **settings: Any) -> litellm.Router:
    return litellm.Router(model_list=list(models), **{"num_retries": 0, **settings})


def _group(provider: Provider, *names: str, **params: Any) -> list[dict[str, Any]]:
    return [deployment(provider.url, "g", name, **params) for name in names or NAMES]


async def _ask(router: litellm.Router, provider: Provider, text: str = "hi", **more: Any) -> str:
    """Return which deployment was called."""
    await router.acompletion("g", [{"role": "user", "content": text}], **more)
    await asyncio.sleep(0.1)  # LiteLLM tells of successes in a task of its own
    return provider.calls[-1].model


async def test_the_same_query_goes_where_it_went_before(hub: Hub, provider: Provider) -> None:
    router = _router(*_group(provider))
    first = {text: await _ask(router, provider, text) for text in ("a", "b", "c", "d", "e", "f")}
    assert len(set(first.values())) > 1  # others are not drawn to the same one
    for text, name in first.items():
        for _ in range(3):
            assert await _ask(router, provider, text) == name


async def test_sampling_makes_no_difference_and_tools_do(hub: Hub, provider: Provider) -> None:
    router = _router(*_group(provider))
    name = await _ask(router, provider, temperature=0.1)
    for temperature in (0.5, 0.9, 1.0):
        assert await _ask(router, provider, temperature=temperature) == name
    elsewhere = set()
    for number in range(12):
        function = {"name": f"f{number}", "parameters": {"type": "object"}}
        tool = {"type": "function", "function": function}
        elsewhere.add(await _ask(router, provider, tools=[tool]))
    assert len(elsewhere) > 1


async def test_streams_are_pinned_too(hub: Hub, provider: Provider) -> None:
    router = _router(*_group(provider))
    name = await _ask(router, provider)
    for _ in range(4):
        async for _ in await router.acompletion("g", HI, stream=True):
            pass
        assert provider.calls[-1].model == name


async def test_what_a_filter_is_not_shown_is_not_pinned(hub: Hub, provider: Provider) -> None:
    """Of embeddings LiteLLM's filters see neither messages nor input."""
    router = _router(*_group(provider))
    for _ in range(3):
        await router.aembedding("g", input="hi")
    await asyncio.sleep(0.1)
    assert hub.engine.stats().total_keys == 0


async def test_a_deployment_that_is_gone_or_cools_down_loses_its_pins(
    hub: Hub, provider: Provider
) -> None:
    router = _router(*_group(provider, "a", "b", "c"), allowed_fails=0, cooldown_time=60)
    name = await _ask(router, provider)
    provider.always(Answer(status=500), model=name)
    with pytest.raises(litellm.InternalServerError):
        await router.acompletion("g", HI)

    async def cools() -> bool:
        healthy, _ = await router._async_get_healthy_deployments(model="g", parent_otel_span=None)
        return name not in {one["model_info"]["id"] for one in healthy}

    await until(cools)
    second = await _ask(router, provider)
    assert second != name
    assert {await _ask(router, provider) for _ in range(5)} == {second}
    router.delete_deployment(second)
    third = await _ask(router, provider)
    assert third not in {name, second}


async def test_a_retry_goes_elsewhere(hub: Hub, provider: Provider) -> None:
    """It has failed for this query a moment ago, even if LiteLLM does not let it cool down."""
    router = _router(*_group(provider), num_retries=3, retry_after=0, disable_cooldowns=True)
    name = await _ask(router, provider)
    provider.script(Answer(status=500), model=name)
    before = provider.count()
    await _ask(router, provider)
    assert provider.calls[before].model == name
    assert provider.calls[-1].model != name
    asked = {await _ask(router, provider) for _ in range(5)}
    assert len(asked) == 1
    assert name not in asked


async def test_only_deployments_that_answered_are_pinned(hub: Hub, provider: Provider) -> None:
    provider.always(Answer(status=400))
    router = _router(*_group(provider))
    for _ in range(3):
        with pytest.raises(litellm.BadRequestError):
            await router.acompletion("g", MESSAGES)
    await asyncio.sleep(0.1)
    assert hub.engine.stats().total_keys == 0


async def test_the_first_order_comes_first(hub: Hub, provider: Provider) -> None:
    """A query that was answered by the second while the first was down goes back to the first."""
    models = [
        deployment(provider.url, "g", "first", order=1),
        deployment(provider.url, "g", "also-first", order=1),
        deployment(provider.url, "g", "second", order=2),
    ]
    router = _router(*models)
    others = _router(*_group(provider, "second", "third"))
    while await _ask(others, provider) != "second":  # pins to it, or not, by chance
        await hub.cache.invalidate_layer("route")
    for _ in range(5):
        assert await _ask(router, provider) in {"first", "also-first"}


async def test_a_fallback_within_the_group_is_followed(hub: Hub, provider: Provider) -> None:
    models = [
        deployment(provider.url, "g", "first", order=1),
        deployment(provider.url, "g", "second", order=2),
    ]
    provider.always(Answer(status=500), model="first")
    router = _router(*models, enable_pre_call_checks=False, disable_cooldowns=True)
    for _ in range(3):
        assert await _ask(router, provider) == "second"


async def test_tags_and_weights_of_nothing_are_kept(hub: Hub, provider: Provider) -> None:
    models = [
        deployment(provider.url, "g", "paid", tags=["paid"], weight=1),
        deployment(provider.url, "g", "free", tags=["free"], weight=1),
    ]
    router = _router(*models, enable_tag_filtering=True)
    for tag in ("paid", "free") * 3:
        assert await _ask(router, provider, metadata={"tags": [tag]}) == tag
    drained = [
        deployment(provider.url, "g", "paid", tags=["x"], weight=0),
        deployment(provider.url, "g", "other", tags=["x"], weight=1),
    ]
    router = _router(*drained, enable_tag_filtering=True)
    for _ in range(3):
        assert await _ask(router, provider, metadata={"tags": ["x"]}) == "other"


async def test_a_deployment_with_many_calls_under_way_is_relieved(
    hub: Hub, provider: Provider
) -> None:
    router = _router(*_group(provider))
    name = await _ask(router, provider)
    load = [hub.engine.load.started(name) for _ in range(10)]
    assert len({await _ask(router, provider) for _ in range(10)}) > 1
    for one in load:
        one.ended(1.0, is_failure=False)
    assert {await _ask(router, provider) for _ in range(5)} == {name}  # it has kept its pin


async def test_tenants_have_pins_of_their_own(provider: Provider) -> None:
    async with at_work("pinning", is_proxy=True, pin_deployments=True) as hub:
        await hub.cache.open()
        router = _router(*_group(provider))
        keys = [{"user_api_key": f"key-{number}"} for number in range(6)]
        first = [await _ask(router, provider, metadata=dict(key)) for key in keys]
        assert len(set(first)) > 1
        again = [await _ask(router, provider, metadata=dict(key)) for key in keys]
        assert again == first


async def test_nothing_is_pinned_for_a_call_that_does_not_say_whose_it_is(
    provider: Provider,
) -> None:
    async with at_work("pinning", is_proxy=True, pin_deployments=True) as hub:
        await hub.cache.open()
        router = _router(*_group(provider))
        await _ask(router, provider)
        assert hub.engine.stats().total_keys == 0


async def test_all_processes_share_pins(provider: Provider, valkey_url: str) -> None:
    """One LiteLLM, two connections: the second process has never seen the query."""
    async with at_work("pinning", url=valkey_url, pin_deployments=True) as hub:
        await hub.cache.open()
        router, layer = _router(*_group(provider)), hub.engine.recorder.layers[Layer.ROUTING]
        while not layer.writes:  # nothing that was made before the log was first read is stored
            name = await _ask(router, provider)
    async with at_work("pinning", url=valkey_url, pin_deployments=True) as hub:
        await hub.cache.open()
        router = _router(*_group(provider))
        await _ask(router, provider)  # fetched meanwhile, and not overwritten
        assert {await _ask(router, provider) for _ in range(8)} == {name}


async def test_a_pin_ends_with_its_deployments_invalidation(hub: Hub, provider: Provider) -> None:
    router = _router(*_group(provider))
    name = await _ask(router, provider)
    await hub.cache.invalidate_model(name)
    picked = set()
    for _ in range(8):
        picked.add(await _ask(router, provider))
        await hub.cache.invalidate_layer("route")
    assert len(picked) > 1


@pytest.mark.parametrize("way", ["hangs", "fails"])
async def test_a_coordinator_that_hangs_or_fails_delays_no_choice(
    provider: Provider, way: str
) -> None:
    clock = FakeClock()
    coordinator = FaultyCoordinator(clock)
    cache = RouteCache(coordinator=coordinator, settings=Settings(), clock=clock, observers=[])
    async with cache, at_work("pinning", cache=cache, pin_deployments=True):
        router = _router(*_group(provider))
        if way == "hangs":
            coordinator.hang()
        else:
            coordinator.fail()
        async with asyncio.timeout(1.0):
            for _ in range(20):
                await router.async_get_available_deployment(
                    model="g", request_kwargs={}, messages=MESSAGES
                )
        await _ask(router, provider)
        coordinator.heal()


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.READ_ONLY])
async def test_no_pin_is_stored_in_a_mode_that_stores_nothing(
    hub: Hub, provider: Provider, mode: Mode
) -> None:
    hub.cache.mode = mode
    await _ask(_router(*_group(provider)), provider)
    assert hub.engine.stats().total_keys == 0


async def test_large_requests_are_left_alone(hub: Hub, provider: Provider) -> None:
    router = _router(*_group(provider))
    await _ask(router, provider, "x" * 70_000)
    assert hub.engine.stats().total_keys == 0


async def test_with_the_scope_of_a_conversation_its_turns_go_together(provider: Provider) -> None:
    settings: dict[str, Any] = {"decision_scope": "conversation", "pin_deployments": True}
    async with at_work("pinning", **settings) as hub:
        await hub.cache.open()
        router = _router(*_group(provider))
        turns = [{"role": "user", "content": "hi"}]
        names = set()
        for number in range(5):
            await router.acompletion("g", list(turns))
            await asyncio.sleep(0.1)
            names.add(provider.calls[-1].model)
            turns += [
                {"role": "assistant", "content": f"answer {number}"},
                {"role": "user", "content": f"question {number}"},
            ]
        assert len(names) == 1


async def test_pinning_is_off_unless_it_is_asked_for() -> None:
    async with at_work("pinning") as hub:
        assert hub.parts == ()
