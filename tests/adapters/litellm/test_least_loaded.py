"""The routing strategy that goes by what is under way, in real Routers."""

import asyncio
from collections import Counter
from typing import Any

import litellm
import pytest
from litellm.router_strategy.least_busy import LeastBusyLoggingHandler

from routecache_middleware import RouteCache
from routecache_middleware.adapters.litellm import least_loaded
from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.adapters.litellm.least_loaded import STRATEGY
from routecache_middleware.adapters.litellm.load import LoadPart
from routecache_middleware.engine.publishing import publish_load
from tests.adapters.litellm.provider import Answer, Provider
from tests.adapters.litellm.with_parts import MESSAGES, at_work, deployment, until

pytestmark = pytest.mark.filterwarnings("ignore:Router.* is deprecated:DeprecationWarning")


def _router(*models: dict[str, Any], **settings: Any) -> litellm.Router:
    given = {"num_retries": 0, "routing_strategy": STRATEGY, **settings}
    return litellm.Router(model_list=list(models), **given)


async def _picked(router: litellm.Router, count: int, group: str = "g") -> Counter[str]:
    """Which deployments a Router picks, by id; none is called."""
    picked = [
        await router.async_get_available_deployment(model=group, request_kwargs={})
        for _ in range(count)
    ]
    return Counter(one["model_info"]["id"] for one in picked)


async def test_traffic_goes_where_least_is_under_way(provider: Provider) -> None:
    provider.always(Answer(delay_s=0.5), model="slow")
    provider.always(Answer(delay_s=0.02), model="fast")
    async with at_work("load"):
        router = _router(*(deployment(provider.url, "g", name) for name in ("slow", "fast")))

        async def one_after_the_other() -> None:
            for _ in range(10):
                await router.acompletion("g", MESSAGES)

        await asyncio.gather(one_after_the_other(), one_after_the_other())
        assert provider.count(model="fast") >= 4 * provider.count(model="slow")


async def test_between_equals_the_faster_one_is_taken(provider: Provider) -> None:
    async with at_work("load") as hub:
        router = _router(*(deployment(provider.url, "g", name) for name in ("a", "b")))
        hub.engine.load.started("a").ended(80.0, is_failure=False)
        hub.engine.load.started("b").ended(20.0, is_failure=False)
        assert await _picked(router, 20) == {"b": 20}


async def test_between_those_nobody_has_called_it_is_chance(provider: Provider) -> None:
    async with at_work("load"):
        router = _router(*(deployment(provider.url, "g", name) for name in ("a", "b", "c")))
        assert set(await _picked(router, 100)) == {"a", "b", "c"}


async def test_calls_that_are_not_async_go_by_it_too(provider: Provider) -> None:
    async with at_work("load") as hub:
        router = _router(*(deployment(provider.url, "g", name) for name in ("a", "b")))
        for _ in range(9):  # LiteLLM tells late, in a thread, that such a call is over
            hub.engine.load.started("a")
        for _ in range(5):
            await asyncio.to_thread(router.completion, "g", MESSAGES)
        assert (provider.count(model="a"), provider.count(model="b")) == (0, 5)


async def test_what_other_processes_do_counts(provider: Provider, valkey_url: str) -> None:
    async with at_work("load", url=valkey_url) as hub, RouteCache(url=valkey_url) as other:
        await hub.cache.open()
        router = _router(*(deployment(provider.url, "g", name) for name in ("a", "b")))
        call = other.engine.load.started("a")
        await publish_load(other.engine, "a")

        async def goes_to(name: str) -> bool:
            return await _picked(router, 10) == {name: 10}

        await until(lambda: goes_to("b"))
        call.ended(1.0, is_failure=False)
        await publish_load(other.engine, "a")
        for _ in range(2):
            hub.engine.load.started("b")
        await until(lambda: goes_to("a"))


async def test_a_coordinator_that_hangs_delays_no_choice(
    provider: Provider, valkey_url: str, valkey: Any
) -> None:
    async with at_work("load", url=valkey_url) as hub:
        await hub.cache.open()
        router = _router(*(deployment(provider.url, "g", name) for name in ("a", "b")))
        hub.engine.load.started("a")
        valkey.pause()
        try:
            async with asyncio.timeout(0.5):
                assert await _picked(router, 20) == {"b": 20}
        finally:
            valkey.resume()


async def test_a_deployment_that_cools_down_gets_nothing(provider: Provider) -> None:
    provider.always(Answer(status=500), model="bad")
    async with at_work("load") as hub:
        models = [deployment(provider.url, "g", name) for name in ("bad", "good")]
        router = _router(*models, allowed_fails=0, cooldown_time=30)
        hub.engine.load.started("good")  # so that the other one is preferred
        with pytest.raises(litellm.InternalServerError):
            await router.acompletion("g", MESSAGES)

        async def cools() -> bool:
            return await _picked(router, 5) == {"good": 5}

        await until(cools)


async def test_order_tags_and_weights_of_nothing_are_kept(provider: Provider) -> None:
    async with at_work("load") as hub:
        hub.engine.load.started("first")
        hub.engine.load.started("paid")
        hub.engine.load.started("weighty")
        models = [
            deployment(provider.url, "ordered", "first", order=1),
            deployment(provider.url, "ordered", "second", order=2),
            deployment(provider.url, "weighted", "weighty", weight=2),
            deployment(provider.url, "weighted", "weightless", weight=0),
            deployment(provider.url, "tagged", "paid", tags=["paid"]),
            deployment(provider.url, "tagged", "free", tags=["free"]),
        ]
        router = _router(*models, enable_tag_filtering=True)
        assert await _picked(router, 5, "ordered") == {"first": 5}
        assert await _picked(router, 5, "weighted") == {"weighty": 5}
        tagged = await router.async_get_available_deployment(
            model="tagged", request_kwargs={"metadata": {"tags": ["paid"]}}
        )
        assert tagged["model_info"]["id"] == "paid"


async def test_a_router_can_be_switched_to_it_and_back(provider: Provider) -> None:
    async with at_work("load") as hub:
        models = [deployment(provider.url, "g", name) for name in ("a", "b")]
        router = _router(*models, routing_strategy="simple-shuffle")
        hub.engine.load.started("a")
        router.update_settings(routing_strategy=STRATEGY)
        selector = router.leastbusy_logger
        router.update_settings(routing_strategy=STRATEGY)  # as the proxy does every few seconds
        assert router.leastbusy_logger is selector
        assert await _picked(router, 30) == {"b": 30}
        router.update_settings(routing_strategy="simple-shuffle")
        assert set(await _picked(router, 60)) == {"a", "b"}


async def test_a_routing_group_can_have_it_alone(provider: Provider) -> None:
    async with at_work("load") as hub:
        models = [deployment(provider.url, "g", name) for name in ("a", "b")]
        group = {"group_name": "mine", "models": ["g"], "routing_strategy": STRATEGY}
        router = _router(*models, routing_strategy="simple-shuffle", routing_groups=[group])
        hub.engine.load.started("a")
        assert await _picked(router, 30) == {"b": 30}


async def test_litellms_own_strategies_stay_what_they_are() -> None:
    async with at_work("load"):
        router = _router(routing_strategy="least-busy")
        assert isinstance(router.leastbusy_logger, LeastBusyLoggingHandler)
        with pytest.raises(ValueError, match="Invalid routing_strategy"):
            _router(routing_strategy="routecache-nonsense")


async def test_it_is_gone_when_the_cache_is_taken_out(provider: Provider) -> None:
    """A Router that was made with it goes on, at random."""
    models = [deployment(provider.url, "g", name) for name in ("a", "b")]
    async with at_work("load") as hub:
        router = _router(*models)
        hub.engine.load.started("a")
    with pytest.raises(ValueError, match="Invalid routing_strategy"):
        _router(*models)
    assert set(await _picked(router, 60)) == {"a", "b"}
    async with at_work("load") as hub:
        hub.engine.load.started("b")
        assert await _picked(router, 30) == {"a": 30}


def _part(hub: Hub) -> LoadPart:
    (part,) = hub.parts
    assert isinstance(part, LoadPart)
    return part


async def test_what_others_did_is_forgotten_when_nothing_more_is_heard(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(least_loaded, "_FORGET_S", 0.3)
    async with at_work("load", url=valkey_url) as hub, RouteCache(url=valkey_url) as other:
        await hub.cache.open()
        other.engine.load.started("a")
        await publish_load(other.engine, "a")
        shared, entry = _part(hub).shared, deployment("http://x", "g", "a")

        async def is_known() -> bool:
            shared.pick([entry])
            return shared.in_flight("a") == 1

        await until(is_known)
        await asyncio.sleep(0.4)
        assert shared.in_flight("a") == 0
