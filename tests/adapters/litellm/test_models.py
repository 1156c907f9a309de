"""Changes of a Router's models: what they invalidate, and what they leave alone."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import litellm
import pytest
from litellm.types.router import Deployment

from routecache_middleware import ModelMetadata, RouteCache, Settings
from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.adapters.litellm.models import ModelsPart
from routecache_middleware.adapters.litellm.models.definitions import (
    Definitions,
    changed_names,
    define,
    describe,
)
from routecache_middleware.adapters.litellm.router_core import core_class
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.litellm.provider import Provider
from tests.adapters.litellm.with_parts import MESSAGES, at_work, deployment, until
from tests.support.faulty import FaultyCoordinator

pytestmark = pytest.mark.filterwarnings("ignore:Router.* is deprecated:DeprecationWarning")


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with at_work("results", "models") as hub:
        yield hub


def _router(*models: dict[str, Any], **settings: Any) -> litellm.Router:
    return litellm.Router(model_list=list(models), **{"num_retries": 0, **settings})


async def _stored(hub: Hub, router: litellm.Router, provider: Provider, name: str = "g") -> None:
    """Ask twice: the second answer comes from the cache."""
    calls = provider.count()
    await router.acompletion(name, MESSAGES)
    await asyncio.sleep(0.05)  # LiteLLM stores in a task
    await router.acompletion(name, MESSAGES)
    assert provider.count() == calls + 1, "the answer was not stored"


async def _is_hit(router: litellm.Router, provider: Provider, name: str = "g") -> bool:
    calls = provider.count()
    await router.acompletion(name, MESSAGES)
    return provider.count() == calls


def _changed(entry: dict[str, Any], **params: Any) -> Deployment:
    """Return a deployment as the proxy hands it over, with other parameters."""
    return Deployment(
        model_name=entry["model_name"],
        litellm_params={**entry["litellm_params"], **params},
        model_info=dict(entry["model_info"]),
    )


async def test_another_model_behind_a_name_makes_the_next_call_a_miss(
    hub: Hub, provider: Provider
) -> None:
    entry = deployment(provider.url, "g", "d1")
    router = _router(entry)
    await _stored(hub, router, provider)
    router.upsert_deployment(_changed(entry, model="openai/d2"))
    assert not await _is_hit(router, provider)
    assert provider.calls[-1].model == "d2"
    assert _part(hub).changes == 1


async def test_loading_and_loading_again_unchanged_invalidate_nothing(
    hub: Hub, provider: Provider
) -> None:
    """The proxy upserts all that its database holds every few seconds."""
    entry = deployment(provider.url, "g", "d1")
    router = _router(entry)
    await _stored(hub, router, provider)
    router.upsert_deployment(_changed(entry))
    router.add_deployment(_changed(entry))
    router.set_model_list([entry])
    router.update_settings(num_retries=1, model_group_alias={})
    router.delete_deployment("no such id")
    assert await _is_hit(router, provider)
    assert (_part(hub).changes, hub.engine.recorder.invalidations) == (0, 0)


@pytest.mark.parametrize(
    "params",
    [
        {"api_key": "another"},
        {"rpm": 7, "weight": 2, "timeout": 9, "max_parallel_requests": 3},
        {"input_cost_per_token": 0.5},
    ],
)
async def test_what_changes_no_answer_invalidates_none(
    hub: Hub, provider: Provider, params: dict[str, Any]
) -> None:
    entry = deployment(provider.url, "g", "d1")
    router = _router(entry)
    await _stored(hub, router, provider)
    assert router.upsert_deployment(_changed(entry, **params)) is not None
    assert await _is_hit(router, provider)


async def test_other_groups_stay(hub: Hub, provider: Provider) -> None:
    one, other = deployment(provider.url, "g", "d1"), deployment(provider.url, "h", "d2")
    router = _router(one, other)
    await _stored(hub, router, provider, "g")
    await _stored(hub, router, provider, "h")
    router.upsert_deployment(_changed(one, temperature=0.5))
    assert await _is_hit(router, provider, "h")
    assert not await _is_hit(router, provider, "g")


async def test_a_deployment_that_is_deleted_takes_its_answers_with_it(
    hub: Hub, provider: Provider
) -> None:
    models = [deployment(provider.url, "g", name) for name in ("d1", "d2")]
    router = _router(*models)
    await _stored(hub, router, provider)
    await hub.cache.cache_model_metadata("d1", {"a": 1})
    router.delete_deployment("d1")
    assert not await _is_hit(router, provider)
    assert await hub.cache.get_model_metadata("d1") is None


async def test_the_model_list_may_be_set_anew(hub: Hub, provider: Provider) -> None:
    """As when the proxy reads its configuration again."""
    router = _router(deployment(provider.url, "g", "d1"))
    await _stored(hub, router, provider)
    router.set_model_list([deployment(provider.url, "g", "d1", model="openai/d2")])
    assert not await _is_hit(router, provider)


@pytest.mark.parametrize("is_assigned", [False, True])
async def test_an_alias_that_leads_elsewhere(
    hub: Hub,
    provider: Provider,
    is_assigned: bool,  # noqa: FBT001
) -> None:
    models = [deployment(provider.url, name, name) for name in ("g", "h")]
    router = _router(*models, model_group_alias={"alias": "g"})
    await _stored(hub, router, provider, "alias")
    if is_assigned:
        router.model_group_alias = {"alias": "h"}
    else:
        router.update_settings(model_group_alias={"alias": "h"})
    assert not await _is_hit(router, provider, "alias")
    assert provider.calls[-1].model == "h"


async def test_an_alias_changes_with_what_it_leads_to(hub: Hub, provider: Provider) -> None:
    entry = deployment(provider.url, "g", "d1")
    router = _router(entry, model_group_alias={"alias": "g"})
    await _stored(hub, router, provider, "alias")
    router.upsert_deployment(_changed(entry, model="openai/d2"))
    assert not await _is_hit(router, provider, "alias")


async def test_a_wildcard_that_changes_drops_what_was_asked_for_by_any_name(
    hub: Hub, provider: Provider
) -> None:
    entry = deployment(provider.url, "openai/*", "w", model="openai/*")
    router = _router(entry)
    await _stored(hub, router, provider, "openai/tiny")
    router.upsert_deployment(_changed(entry, api_base=f"{provider.url}/"))
    assert not await _is_hit(router, provider, "openai/tiny")


async def test_a_router_that_was_made_before_is_watched_from_its_first_change_on(
    provider: Provider,
) -> None:
    entry = deployment(provider.url, "g", "d1")
    router = _router(entry)
    async with at_work("results", "models") as hub:
        await _stored(hub, router, provider)
        router.upsert_deployment(_changed(entry, model="openai/d2"))
        assert not await _is_hit(router, provider)


async def test_a_change_in_another_thread_counts(hub: Hub, provider: Provider) -> None:
    entry = deployment(provider.url, "g", "d1")
    router = _router(entry)
    await _stored(hub, router, provider)
    await asyncio.to_thread(router.upsert_deployment, _changed(entry, model="openai/d2"))
    assert not await _is_hit(router, provider)


def test_a_change_where_there_is_no_event_loop_counts(provider: Provider) -> None:
    entry = deployment(provider.url, "g", "d1")

    async def ask() -> bool:
        return await _is_hit(router, provider)

    async def begin() -> Hub:
        async with at_work("results", "models") as hub:
            return hub

    hub = asyncio.run(begin())
    part = ModelsPart(hub)
    part.install()
    try:
        router = _router(entry)
        asyncio.run(hub.cache.cache_model_metadata("g", {"a": 1}))
        router.upsert_deployment(_changed(entry, model="openai/d2"))
        assert asyncio.run(hub.cache.get_model_metadata("g")) is None
    finally:
        part.uninstall()
    asyncio.run(hub.cache.aclose())


async def test_all_processes_drop_what_one_of_them_has_seen_change(
    provider: Provider, valkey_url: str
) -> None:
    entry = deployment(provider.url, "g", "d1")
    async with at_work("results", "models", url=valkey_url), RouteCache(url=valkey_url) as other:
        router = _router(entry)
        await other.cache_model_metadata("g", {"a": 1})
        assert await other.get_model_metadata("g") is not None
        router.upsert_deployment(_changed(entry, model="openai/d2"))

        async def is_gone() -> bool:
            return await other.get_model_metadata("g") is None

        await until(is_gone, timeout_s=2)


async def test_a_coordinator_that_fails_is_told_later_and_the_change_holds_here_at_once(
    provider: Provider,
) -> None:
    clock = FakeClock()
    coordinator = FaultyCoordinator(clock)
    made = [
        RouteCache(coordinator=coordinator, settings=Settings(), clock=clock, observers=[])
        for _ in range(2)
    ]
    entry = deployment(provider.url, "g", "d1")
    async with made[0] as cache, made[1] as other, at_work("models", cache=cache):
        router = _router(entry)
        await cache.metadata("g", _metadata)
        coordinator.fail("append")
        router.upsert_deployment(_changed(entry, model="openai/d2"))
        await asyncio.sleep(0.05)
        assert await cache.get_model_metadata("g") is None
        assert await other.get_model_metadata("g") is not None
        coordinator.heal()

        async def is_recorded() -> bool:
            clock.advance(1.0)
            return await other.get_model_metadata("g") is None

        await until(is_recorded)


async def test_a_coordinator_that_hangs_holds_up_no_change_and_hardly_a_call(
    provider: Provider,
) -> None:
    clock = FakeClock()
    coordinator = FaultyCoordinator(clock)
    cache = RouteCache(coordinator=coordinator, settings=Settings(), clock=clock, observers=[])
    entry = deployment(provider.url, "g", "d1")
    async with cache, at_work("models", cache=cache):
        router = _router(entry)
        await router.acompletion("g", MESSAGES)  # LiteLLM's first call takes its time
        coordinator.hang("append")
        began_s = asyncio.get_running_loop().time()
        router.upsert_deployment(_changed(entry, model="openai/d2"))
        assert asyncio.get_running_loop().time() - began_s < 0.2
        await router.acompletion("g", MESSAGES)
        assert asyncio.get_running_loop().time() - began_s < 3.0
        began_s = asyncio.get_running_loop().time()
        await asyncio.gather(*(router.acompletion("g", MESSAGES) for _ in range(3)))
        assert asyncio.get_running_loop().time() - began_s < 0.45  # nobody waits again
        coordinator.heal()


async def _metadata(model_id: str) -> ModelMetadata:
    return ModelMetadata(model_id, {"a": 1})


async def test_what_litellm_raises_is_raised_and_what_we_raise_is_not(
    hub: Hub, provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry = deployment(provider.url, "g", "d1")
    router = _router(entry)
    with pytest.raises(Exception, match="nonsense"):
        router.add_deployment(
            Deployment(model_name="x", litellm_params={"model": "nonsense"}, model_info={"id": "x"})
        )
    assert router.has_model_id("d1")

    def broken(*_: Any) -> Any:
        raise CoordinatorError("a bug of ours")

    monkeypatch.setattr("routecache_middleware.adapters.litellm.models.watch.describe", broken)
    for model in ("d2", "d3"):
        router.upsert_deployment(_changed(entry, model=f"openai/{model}"))
    told = [one for one in caplog.records if "could not be followed" in one.message]
    assert len(told) == 1


async def test_one_line_says_what_has_changed(
    hub: Hub, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "routecache")
    entry = deployment(provider.url, "g", "d1", api_key="sk-secret")
    router = _router(entry)
    router.upsert_deployment(_changed(entry, model="openai/d2"))
    (line,) = [one.getMessage() for one in caplog.records if one.name == "routecache"]
    assert line == "LiteLLM's models have changed; invalidating 2: d1, g"


async def test_nothing_of_it_is_left_in_litellm(provider: Provider) -> None:
    before = dict(vars(core_class()))
    async with at_work("models"):
        assert dict(vars(core_class())) != before
    assert dict(vars(core_class())) == before


def _part(hub: Hub) -> ModelsPart:
    part = hub.parts[-1]
    assert isinstance(part, ModelsPart)
    return part


# Definitions, without LiteLLM.


def _entry(group: str, name: str, **params: Any) -> dict[str, Any]:
    return deployment("http://x", group, name, **params)


def _describe(*entries: dict[str, Any], **aliases: str) -> Definitions:
    return describe(entries, aliases, {}, Definitions())


def test_a_deployment_more_changes_its_group_unless_it_is_like_the_others() -> None:
    one = _entry("g", "a", model="openai/m")
    alike = _entry("g", "b", model="openai/m", api_key="another", rpm=5)
    other = _entry("g", "c", model="openai/n")
    assert changed_names(_describe(one), _describe(one, alike)) == set()
    assert changed_names(_describe(one), _describe(one, other)) == {"g"}
    assert changed_names(_describe(one, alike), _describe(one)) == {"b"}


def test_names_that_are_new_were_never_asked_for() -> None:
    before = _describe(_entry("g", "a"))
    assert changed_names(before, _describe(_entry("g", "a"), _entry("h", "b"), x="g")) == set()


def test_an_alias_that_hides_a_group_or_is_taken_away() -> None:
    entries = [_entry("g", "a"), _entry("h", "b")]
    assert changed_names(_describe(*entries), _describe(*entries, g="h")) == {"g"}
    assert changed_names(_describe(*entries, g="h"), _describe(*entries)) == {"g"}


def test_routing_groups_and_aliases_follow_what_they_lead_to() -> None:
    def described(model: str) -> Definitions:
        entries = [_entry("g", "a", model=model)]
        return describe(entries, {"x": "joined"}, {"joined": ["g", "h"]}, Definitions())

    assert changed_names(described("openai/m"), described("openai/n")) == {"a", "g", "joined", "x"}
    before = describe([], {}, {"joined": ["g"]}, Definitions())
    assert changed_names(before, describe([], {}, {"joined": ["h"]}, before)) == {"joined"}


def test_a_teams_own_name_for_a_model_counts() -> None:
    def described(model: str) -> Definitions:
        entry = _entry("internal", "a", model=model)
        entry["model_info"]["team_public_model_name"] = "public"
        return _describe(entry)

    assert changed_names(described("openai/m"), described("openai/n")) == {
        "a",
        "internal",
        "public",
    }


def test_every_parameter_that_nobody_here_knows_counts() -> None:
    plain = define(_entry("g", "a"))
    assert define(_entry("g", "a", unheard_of=1)) != plain
    assert define(_entry("g", "a", max_tokens=5)) != plain
    assert define(_entry("g", "a", nothing=None)) == plain
    assert define(_entry("g", "a", extra_body={"b": 1, "a": 2})) == define(
        _entry("g", "a", extra_body={"a": 2, "b": 1})
    )
    assert define(_entry("g", "a", plugin=object())) == define(_entry("g", "a", plugin=object()))


def test_entries_that_were_not_replaced_are_not_looked_at_again() -> None:
    entry = _entry("g", "a")
    before = _describe(entry)
    entry["litellm_params"]["model"] = "openai/other"
    assert describe([entry], {}, {}, before).deployments == before.deployments
