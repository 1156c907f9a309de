"""The administration API, whoever mounts it."""

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import pytest

from routecache_middleware import RouteCache, RoutingDecision
from routecache_middleware.admin import create_admin
from routecache_middleware.admin.values import Answer, refused
from routecache_middleware.core.keys import Layer
from routecache_middleware.testing.clock import FakeClock
from tests.support.asgi import Response, fetch
from tests.support.faulty import FaultyCoordinator

HASH = "0123456789abcdef0123456789abcdef"


class Api:
    """The API in front of a cache, with a door that a test can shut."""

    def __init__(self, cache: RouteCache) -> None:
        self.cache = cache
        self.refusal: Answer | None = None
        self.seen: list[Any] = []
        sections = {"more": lambda: {"a": 1}}
        self.app = create_admin(cache, authorize=self.authorize, sections=sections)

    async def authorize(self, request: Any) -> Answer | None:
        self.seen.append(request.url.path)
        await request.body()  # as LiteLLM's does
        return self.refusal

    async def get(self, path: str) -> Response:
        return await fetch(self.app, b"", path=path, method="GET")

    async def post(self, path: str, body: object) -> Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await fetch(self.app, raw, path=path)

    async def told(self, body: object) -> Any:
        answer = await self.post("/invalidate", body)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with RouteCache.from_url("memory://") as cache:
        yield Api(cache)


async def fill(cache: RouteCache, *, tenant: str = "", model: str = "m") -> None:
    await cache.cache_routing_decision(HASH, model, 0.5, tenant=tenant)
    await cache.cache_query_result(HASH, model, b"{}", 1.0, tenant=tenant)


async def held(cache: RouteCache, *, tenant: str = "", model: str = "m") -> tuple[bool, bool]:
    decision = await cache.get_routing_decision(HASH, tenant=tenant)
    result = await cache.get_query_result(HASH, model, tenant=tenant)
    return decision is not None, result is not None


async def test_a_section_that_json_cannot_hold_is_said_to_have_failed() -> None:
    async def anybody(_: Any) -> None:
        return None

    async with RouteCache.from_url("memory://") as cache:
        app = create_admin(cache, authorize=anybody, sections={"more": lambda: {"a": object()}})
        answer = await fetch(app, b"", path="/stats", method="GET")
    assert (answer.status, b"TypeError" in answer.body) == (500, True)


async def test_statistics_are_those_of_the_cache_with_rates_and_sections(api: Api) -> None:
    await fill(api.cache)
    await held(api.cache)
    await api.cache.get_query_result(HASH, "other")
    answer = await api.get("/stats")
    told, stats = json.loads(answer.body), api.cache.stats()
    assert answer.get("cache-control") == "no-store"
    assert told["layers"] == {layer.value: asdict(stats.layer(layer)) for layer in Layer}
    assert told["hit_rates"]["result"] == stats.result_hit_rate() == 0.5
    assert told["hit_rates"]["overall"] == stats.overall_hit_rate()
    assert told["total_keys"] == stats.total_keys == 2
    assert (told["mode"], told["coordinator"], told["more"]) == ("on", "memory", {"a": 1})


async def test_the_cluster_says_what_its_nodes_say(api: Api) -> None:
    told = json.loads((await api.get("/cluster")).body)
    assert told["position"] == (await api.cache.cluster_stats()).position


@pytest.mark.parametrize("path", ["/stats", "/cluster"])
async def test_nothing_is_said_to_who_is_refused(api: Api, path: str) -> None:
    api.refusal = refused(403, "not you")
    answer = await api.get(path)
    assert (answer.status, json.loads(answer.body)) == (403, {"error": {"message": "not you"}})


async def test_nothing_is_invalidated_for_who_is_refused(api: Api) -> None:
    await fill(api.cache)
    api.refusal = refused(401, "not you")
    assert (await api.post("/invalidate", {"all": True, "dry_run": False})).status == 401
    assert await held(api.cache) == (True, True)


async def test_without_being_told_otherwise_nothing_happens(api: Api) -> None:
    await fill(api.cache)
    told = await api.told({"model": "m"})
    about = {"dry_run": True, "covers": "everything of model m", "at_most_entries": 2}
    assert told == {**about, "matched": 2, "looked_at": 2}
    assert await held(api.cache) == (True, True)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ({"model": "m"}, (False, False)),
        ({"model": "other"}, (True, True)),
        ({"layer": "result"}, (True, False)),
        ({"all": True}, (False, False)),
        ({"query": HASH}, (False, True)),
        ({"query": HASH, "model": "m"}, (True, False)),
        ({"tenant": ""}, None),
        ({"all": True, "older_than": 1.0}, (True, True)),
        ({"all": True, "router_version": "7"}, (True, True)),
    ],
    ids=str,
)
async def test_an_invalidation_drops_what_it_names(
    api: Api, body: dict[str, object], left: tuple[bool, bool] | None
) -> None:
    await fill(api.cache)
    if left is None:
        assert (await api.post("/invalidate", body)).status == 400
        return
    told = await api.told({**body, "dry_run": False})
    assert told["position"] > 0
    assert told["scope"]
    assert await held(api.cache) == left


@pytest.mark.parametrize("body", [{"tenant": "t"}, {"tenant": "t", "model": "m"}], ids=str)
async def test_an_invalidation_of_a_tenant_spares_the_others(
    api: Api, body: dict[str, object]
) -> None:
    for tenant in ("t", "u"):
        await fill(api.cache, tenant=tenant)
    await api.told({**body, "dry_run": False})
    assert await held(api.cache, tenant="t") == (False, False)
    assert await held(api.cache, tenant="u") == (True, True)


async def test_one_entry_of_a_tenant_can_be_named(api: Api) -> None:
    for tenant in ("", "t"):
        await fill(api.cache, tenant=tenant)
    await api.told({"query": HASH, "model": "m", "tenant": "t", "dry_run": False})
    await api.told({"query": HASH, "tenant": "t", "dry_run": False})
    assert await held(api.cache, tenant="t") == (False, False)
    assert await held(api.cache) == (True, True)


async def test_what_a_tag_covers_can_be_dropped(api: Api) -> None:
    async def decide() -> RoutingDecision:
        return RoutingDecision("m")

    await api.cache.route(HASH, decide, tags=["x"])
    await api.told({"tag": "x", "dry_run": False})
    assert await api.cache.get_routing_decision(HASH) is None


async def test_a_dry_run_gives_an_upper_bound(api: Api) -> None:
    await fill(api.cache)
    await fill(api.cache, model="other")
    bounds = {
        name: (await api.told({name: value}))["at_most_entries"]
        for name, value in {"all": True, "layer": "result", "query": HASH}.items()
    }
    assert bounds == {"all": 3, "layer": 2, "query": 1}


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "name what to invalidate"),
        ({"modle": "m"}, "did you mean model"),
        ({"zzzzz": "m"}, "known are"),
        ({"model": 5}, "model has to be text"),
        ({"model": "m", "tenant": None}, "tenant has to be text"),
        ({"all": None}, "true"),
        ({"model": "m", "tag": "x"}, "do not go together"),
        ({"model": "m", "layer": "result"}, "do not go together"),
        ({"all": True, "model": "m"}, "alone"),
        ({"all": False}, "true"),
        ({"layer": "results"}, "layer has to be one of"),
        ({"model": "m", "dry_run": "no"}, "dry_run"),
        ({"model": "m", "older_than": "now"}, "older_than"),
        ({"model": "m", "older_than": True}, "older_than"),
        ({"model": "m", "router_version": 7}, "router_version"),
        ([], "JSON object"),
        (b"{", "JSON object"),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_refused_with_the_remedy(
    api: Api, body: object, word: str
) -> None:
    answer = await api.post("/invalidate", body)
    assert answer.status == 400
    assert word in json.loads(answer.body)["error"]["message"]


async def test_a_body_without_end_is_refused(api: Api) -> None:
    assert (await api.post("/invalidate", b" " * 70_000)).status == 413


async def test_an_invalidation_that_is_not_recorded_says_so_and_holds_here() -> None:
    coordinator = FaultyCoordinator(FakeClock())
    async with RouteCache(coordinator=coordinator) as cache:
        api = Api(cache)
        await fill(cache)
        coordinator.fail("append")
        answer = await api.post("/invalidate", {"model": "m", "dry_run": False})
        assert answer.status == 503
        assert "tried again" in json.loads(answer.body)["error"]["message"]
        coordinator.heal()
        assert await held(cache) == (False, False)


async def test_a_cluster_that_cannot_be_asked_is_no_error_of_ours() -> None:
    coordinator = FaultyCoordinator(FakeClock())
    async with RouteCache(coordinator=coordinator) as cache:
        coordinator.fail()
        assert (await Api(cache).get("/cluster")).status in (200, 503)


async def test_other_paths_and_methods_are_not_there(api: Api) -> None:
    assert (await api.get("/nothing")).status == 404
    assert (await api.get("/invalidate")).status == 405
