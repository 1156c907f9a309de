"""What the administration app says of entries, breakers, configuration and savings."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from routecache_middleware import (
    CachePolicy,
    ModelMetadata,
    RouteCache,
    RoutingDecision,
    Settings,
)
from routecache_middleware.admin import listing
from routecache_middleware.core.keys import Layer, result_key
from routecache_middleware.core.metrics import LOOKUPS
from routecache_middleware.core.models import Entry
from routecache_middleware.core.override import Override
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.testing.clock import FakeClock
from tests.admin.kit import HASH, Admin, explaining, quiet_cache
from tests.support.chat import ask
from tests.support.faulty import FaultyCoordinator

PATH = "/v1/chat/completions"


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    async with quiet_cache() as cache:
        yield Admin(cache)


async def test_entries_are_listed_with_what_may_be_known_of_them(admin: Admin) -> None:
    await admin.cache.cache_query_result(HASH, "gpt", b"x" * 77, 12.5, tenant="acme")
    told = await admin.told("/entries")
    (row,) = told["entries"]
    assert (told["looked_at"], told["total"], told["trouble"]) == (1, 1, "")
    assert row["age_s"] < 5
    assert 590 < row["ttl_s"] <= 600
    assert len(row["id"]) == 16
    assert "acme" not in json.dumps(told)
    assert len(row["tenant"]) == 12
    wanted = {"layer": "result", "model": "gpt", "query": HASH[:12], "state": "fresh"}
    assert wanted.items() <= row.items()
    assert (row["size_bytes"], row["made_in_ms"], row["shape"]) == (77, 12.5, "json")


async def test_entries_can_be_chosen_by_layer_model_and_number(admin: Admin) -> None:
    for number in range(5):
        await admin.cache.cache_query_result(f"{number:032x}", "a", b"{}", 1.0)
    await admin.cache.cache_query_result(HASH, "b", b"{}", 1.0)
    await admin.cache.cache_routing_decision(HASH, "c", 0.5)
    await admin.cache.cache_model_metadata("d", {}, 0, 1.0)
    counts = {
        query: [row["model"] for row in (await admin.told(f"/entries?{query}"))["entries"]]
        for query in ("limit=2", "model=b", "layer=route", "layer=meta", "layer=result&model=x")
    }
    assert [len(models) for models in counts.values()] == [2, 1, 1, 1, 0]
    assert counts["model=b"] == ["b"]
    assert counts["layer=route"] == ["c"]
    assert counts["layer=meta"] == ["d"]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("layer=load", "one of result, route, meta"),
        ("limit=0", "1 to 200"),
        ("limit=201", "1 to 200"),
        ("limit=%C2%B2", "1 to 200"),
        ("limit=9999999999999", "1 to 200"),
        ("model=", "is empty"),
        ("limit=1&limit=2", "given twice"),
        ("colour=red", "known are layer, model, limit"),
    ],
)
async def test_a_parameter_that_makes_no_sense_is_refused(
    admin: Admin, query: str, word: str
) -> None:
    status, message = await admin.refusal(f"/entries?{query}")
    assert status == 400
    assert word in message


async def test_one_entry_is_shown_whole_but_for_what_it_says(admin: Admin) -> None:
    await admin.cache.cache_query_result(HASH, "gpt", b'{"secret": "canary"}', 1.0)
    (row,) = (await admin.told("/entries"))["entries"]
    answer = await admin.get(f"/entries/{row['id']}")
    told = json.loads(answer.body)
    assert {**told, **row, "age_s": told["age_s"], "ttl_s": told["ttl_s"]} == told
    assert told["content_type"] == "application/json"
    assert told["tags"] == []
    assert b"canary" not in answer.body


async def test_of_a_decision_its_model_and_tags_are_shown(admin: Admin) -> None:
    async def decide() -> RoutingDecision:
        return RoutingDecision("gpt", 0.75, strategy="tiers", router_version="7")

    await admin.cache.route(HASH, decide, tags=["team-a"])
    (row,) = (await admin.told("/entries?layer=route"))["entries"]
    told = await admin.told(f"/entries/{row['id']}")
    chosen = (told["selected_model"], told["strategy"], told["score"], told["router_version"])
    assert chosen == ("gpt", "tiers", 0.75, "7")
    assert told["tags"] == ["team-a"]


async def test_a_decision_that_cannot_be_read_is_shown_without_what_it_says(admin: Admin) -> None:
    entry = Entry(Layer.ROUTING, b"\xc1", admin.cache.engine.clock.now_s(), 60.0)
    await admin.cache.engine.coordinator.store("route:x", entry)  # type: ignore[arg-type]
    (row,) = (await admin.told("/entries?layer=route"))["entries"]
    told = await admin.told(f"/entries/{row['id']}")
    assert (told["selected_model"], told["score"]) == ("", None)


async def test_an_entry_that_was_not_listed_or_is_gone_is_not_found(admin: Admin) -> None:
    await admin.cache.cache_query_result(HASH, "gpt", b"{}", 1.0)
    assert (await admin.refusal("/entries/" + "0" * 16))[0] == 404
    (row,) = (await admin.told("/entries"))["entries"]
    await admin.cache.engine.coordinator.delete(result_key(HASH, "gpt"))
    status, message = await admin.refusal(f"/entries/{row['id']}")
    assert (status, message) == (404, "the entry is not there any more")


async def test_one_listed_entry_can_be_invalidated(admin: Admin) -> None:
    for model in ("a", "b"):
        await admin.cache.cache_query_result(HASH, model, b"{}", 1.0)
    (row,) = (await admin.told("/entries?model=a"))["entries"]
    tried = await admin.told("/invalidate", {"entry": row["id"]})
    assert (tried["dry_run"], tried["matched"], tried["at_most_entries"]) == (True, 1, 1)
    done = await admin.told("/invalidate", {"entry": row["id"], "dry_run": False})
    assert done["covers"] == f"entry {row['id']}"
    assert await admin.cache.get_query_result(HASH, "a") is None
    assert await admin.cache.get_query_result(HASH, "b") is not None
    status, message = await admin.refusal("/invalidate", {"entry": "0" * 16})
    assert status == 400
    assert "list them again" in message


@pytest.mark.parametrize(
    ("body", "matched"),
    [
        ({"all": True}, 4),
        ({"model": "m"}, 3),
        ({"model": "m", "tenant": "t"}, 1),
        ({"tenant": "t"}, 1),
        ({"tag": "x"}, 1),
        ({"layer": "route"}, 1),
        ({"query": HASH}, 0),
        ({"query": HASH, "model": "m"}, 1),
        ({"all": True, "older_than": 1.0}, 0),
    ],
    ids=str,
)
async def test_a_dry_run_says_how_many_of_a_sample_would_go(
    admin: Admin, body: dict[str, object], matched: int
) -> None:
    async def decide() -> RoutingDecision:
        return RoutingDecision("m")

    await admin.cache.cache_query_result(HASH, "m", b"{}", 1.0)
    await admin.cache.cache_query_result(HASH, "other", b"{}", 1.0)
    await admin.cache.cache_query_result(HASH, "m", b"{}", 1.0, tenant="t")
    await admin.cache.route("f" * 32, decide, tags=["x"])
    told = await admin.told("/invalidate", body)
    assert (told["matched"], told["looked_at"]) == (matched, 4)


async def test_what_is_listed_is_a_few_seconds_old_at_most() -> None:
    clock = FakeClock()
    async with RouteCache(url="memory://", clock=clock, observers=[]) as cache:
        admin = Admin(cache, settings={"requests_per_s": 1000.0})
        assert (await admin.told("/entries"))["looked_at"] == 0
        await cache.cache_query_result(HASH, "gpt", b"{}", 1.0)
        assert (await admin.told("/entries"))["looked_at"] == 0
        clock.advance(2.0)
        assert (await admin.told("/entries"))["looked_at"] == 1


async def test_of_a_million_entries_only_a_few_are_looked_at(admin: Admin) -> None:
    asked: list[int] = []
    sample = admin.cache.engine.coordinator.sample

    async def counting(layer: Layer, limit: int) -> Any:
        asked.append(limit)
        return await sample(layer, limit)

    admin.cache.engine.coordinator.sample = counting  # type: ignore[method-assign]
    await asyncio.gather(*(admin.told("/entries") for _ in range(20)))
    assert asked == [500, 500, 500]


async def test_a_coordinator_that_hangs_or_fails_costs_the_list_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("routecache_middleware.admin.listing._PATIENCE_S", 0.02)
    clock = FakeClock()
    coordinator = FaultyCoordinator(clock)
    async with RouteCache(coordinator=coordinator, observers=[], clock=clock) as cache:
        admin = Admin(cache)
        coordinator.hang("sample")
        told = await admin.told("/entries")
        assert told["entries"] == []
        assert "did not answer" in told["trouble"]
        coordinator.heal()
        coordinator.fail("sample")
        clock.advance(10.0)
        assert "CoordinatorError" in (await admin.told("/entries"))["trouble"]
        coordinator.heal()


async def test_an_entry_that_cannot_be_read_now_is_said_to_be_so() -> None:
    coordinator = FaultyCoordinator(FakeClock())
    async with RouteCache(coordinator=coordinator, observers=[]) as cache:
        admin = Admin(cache)
        await cache.cache_query_result(HASH, "gpt", b"{}", 1.0)
        (row,) = (await admin.told("/entries"))["entries"]
        coordinator.fail("fetch")
        assert (await admin.refusal(f"/entries/{row['id']}"))[0] == 503
        coordinator.heal()


async def test_breakers_say_what_is_let_through_and_what_failed() -> None:
    coordinator = FaultyCoordinator(FakeClock())
    async with RouteCache(coordinator=coordinator, observers=[]) as cache:
        admin = Admin(cache)
        coordinator.fail("store")
        await cache.cache_query_result(HASH, "gpt", b"{}", 1.0)
        coordinator.is_writing = False  # type: ignore[attr-defined]
        told = await admin.told("/breakers")
        assert told["breakers"] == [
            {"name": "reads", "state": "closed"},
            {"name": "writes", "state": "open"},
        ]
        assert told["errors"] == {"put CoordinatorError": 1}
        coordinator.heal()


def decide(request: object) -> None:
    """Leave everything as it is."""


async def test_the_configuration_is_the_one_in_force_without_its_secrets() -> None:
    secret = "canary-secret-of-the-cache"
    cache = RouteCache(
        url="memory://?max_bytes=1000000",
        settings=Settings(
            secret=secret.encode(),
            previous_secrets=(b"canary-secret-of-before",),
            credential_headers=frozenset({"x-b", "x-a"}),
        ),
        policy=CachePolicy(decide=decide),
        observers=[],
    )
    cache.mode = "shadow"
    admin = Admin(cache)
    answer = await admin.get("/config")
    assert b"canary" not in answer.body
    told = json.loads(answer.body)
    assert told["url"] == "memory://?max_bytes=1000000"
    assert told["mode"] == told["settings"]["mode"] == "shadow"
    assert told["settings"]["secret"] == "<set>"
    assert told["settings"]["previous_secrets"] == ["<set>"]
    assert told["settings"]["credential_headers"] == ["x-a", "x-b"]
    assert told["policy"]["decide"] == "<decide>"
    assert told["admin"]["token"] == "<set>"
    assert told["admin"]["port"] == 8090


async def test_policies_for_some_models_are_shown_as_they_are() -> None:
    one = Override(models=frozenset({"b", "a"}), ttl_s=5.0)
    cache = RouteCache(url="memory://", policy=CachePolicy(overrides=(one,)), observers=[])
    told = await Admin(cache).told("/config")
    assert told["policy"]["overrides"][0]["models"] == ["a", "b"]
    assert told["policy"]["overrides"][0]["ttl_s"] == 5.0


async def test_prices_that_make_no_sense_are_said_to_be_so(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def savings() -> None:
        raise ConfigurationError("a price is wrong; mend it")

    monkeypatch.setattr(admin.cache, "savings", savings)
    assert await admin.refusal("/savings") == (409, "a price is wrong; mend it")


async def test_only_the_latest_ids_are_remembered(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_MOST_IDS", 2)
    for number in range(3):
        await admin.cache.cache_query_result(f"{number:032x}", "a", b"{}", 1.0)
    rows = (await admin.told("/entries"))["entries"]
    found = [(await admin.get(f"/entries/{row['id']}")).status for row in rows]
    assert sorted(found) == [200, 200, 404]


async def test_a_read_that_fails_late_is_nobodys_business_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "_PATIENCE_S", 0.01)
    reading: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    assert "did not answer" in str(await listing._within(reading))
    stubborn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stubborn.cancel = lambda msg=None: False  # type: ignore[method-assign]
    assert "did not answer" in str(await listing._within(stubborn))
    stubborn.set_exception(RuntimeError("late"))
    await asyncio.sleep(0)


async def test_a_url_is_shown_without_its_password() -> None:
    cache = RouteCache(url="redis://user:canary@127.0.0.1:1/0", observers=[])
    answer = await Admin(cache).get("/config")
    assert b"canary" not in answer.body
    assert json.loads(answer.body)["url"] == "redis://***@127.0.0.1:1/0"


async def test_of_a_coordinator_built_elsewhere_there_is_no_url() -> None:
    cache = RouteCache(coordinator=FaultyCoordinator(FakeClock()), observers=[])
    assert (await Admin(cache).told("/config"))["url"] is None


async def test_savings_are_told_by_model_and_layer(admin: Admin) -> None:
    await admin.cache.cache_query_result(HASH, "gpt", b"{}", 250.0)

    async def never() -> bytes:
        raise AssertionError

    await admin.cache.result(HASH, "gpt", never)
    told = await admin.told("/savings")
    assert told["requests"] == 1
    assert told["by_model"]["gpt"]["upstream_s"] == 0.25
    assert told["by_layer"]["result"]["requests"] == 1
    assert told["shadow"]["served"] == 0


async def test_savings_name_no_tenant(admin: Admin) -> None:
    """A customer's name is the operator's affair: here it is a hash, as in all lists."""

    async def never() -> bytes:
        raise AssertionError

    for tenant in ("customer-one", "customer-two"):
        name = "both" if tenant == "customer-two" else "alone"
        for model in {"both", name}:
            await admin.cache.cache_query_result(HASH, model, b"{}", 1.0, tenant=tenant)
            await admin.cache.result(HASH, model, never, tenant=tenant)
    told = await admin.told("/savings")
    assert "customer" not in json.dumps(told)
    rows = told["by_model"]
    assert len(rows["alone"]["tenant"]) == 12
    assert rows["both"]["tenant"] == "_OTHER"


async def test_metrics_are_those_of_all_processes_in_both_formats(admin: Admin) -> None:
    await admin.cache.get_query_result(HASH, "gpt")
    plain = await admin.get("/metrics")
    assert plain.get("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    line = f'{LOOKUPS.prometheus}{{routecache_cache="result",routecache_outcome="miss"'
    assert line in plain.body.decode()
    asked = [(b"accept", b"application/openmetrics-text;version=1.0.0")]
    opened = await admin.get("/metrics", headers=asked)
    assert opened.body.endswith(b"# EOF\n")


async def test_statistics_have_the_total_of_all_processes(admin: Admin) -> None:
    await admin.cache.cache_query_result(HASH, "gpt", b"{}", 1.0)
    for model in ("gpt", "gpt", "other"):
        await admin.cache.get_query_result(HASH, model)
    total = (await admin.told("/stats"))["total"]
    assert total["workers"] == 1
    assert total["lookups"]["result"] == {"hit": 2, "miss": 1}
    assert total["hit_rates"]["result"] == pytest.approx(2 / 3)
    assert total["hit_rates"]["meta"] == 0.0


async def test_figures_whose_age_nobody_knows_are_still_json() -> None:
    cache = RouteCache(url="redis://127.0.0.1:1/0", observers=[])
    assert (await Admin(cache).told("/stats"))["total_keys_age_s"] is None
    await cache.aclose()


async def test_a_request_is_explained_in_words_and_in_full(admin: Admin) -> None:
    assert (await admin.refusal("/explain", {"body": {}}))[0] == 409
    explaining(admin.cache)
    request = {
        "path": PATH,
        "headers": {"authorization": "Bearer canary"},
        "body": json.loads(ask()),
    }
    answer = await admin.post("/explain", request)
    told = json.loads(answer.body)
    assert told["explanation"]["outcome"] == "miss"
    assert told["explanation"]["reason"] == "absent"
    assert told["text"].startswith("miss (absent)")
    assert b"canary" not in answer.body
    assert ask().decode() not in answer.body.decode()
    same = await admin.told("/explain", {**request, "body": ask().decode()})
    assert same["explanation"]["result_hash"] == told["explanation"]["result_hash"]


async def test_a_request_is_compared_with_another_one(admin: Admin) -> None:
    explaining(admin.cache)
    body = json.loads(ask())
    told = await admin.told(
        "/explain",
        {
            "body": body,
            "tenant": "acme",
            "method": "POST",
            "query_string": "a=1",
            "neighbour": {**body, "temperature": 0.9},
        },
    )
    assert told["explanation"]["neighbour"]["differs"] == ["temperature"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"pth": "/"}, "known are"),
        ({"path": "v1"}, "slash"),
        ({"path": 5}, "slash"),
        ({"body": 5}, "body has to be"),
        ({"neighbour": []}, "neighbour has to be"),
        ({"headers": []}, "object of texts"),
        ({"headers": {"a": 1}}, "object of texts"),
        ({"tenant": 5}, "tenant has to be text"),
    ],
    ids=str,
)
async def test_what_cannot_be_explained_is_refused(
    admin: Admin, body: dict[str, object], word: str
) -> None:
    explaining(admin.cache)
    status, message = await admin.refusal("/explain", body)
    assert status == 400
    assert word in message


async def test_warming_asks_the_loader_and_is_noted() -> None:
    async def load(model_id: str) -> ModelMetadata:
        if model_id == "bad":
            raise LookupError
        return ModelMetadata(model_id, {"tools": True})

    async with quiet_cache() as cache:
        admin = Admin(cache, load=load)
        told = await admin.told("/warm", {"models": ["gpt", "bad"]})
        assert (told["requested"], told["warmed"]) == (2, 1)
        assert told["failed"] == {"bad": "LookupError"}
        found = await cache.get_model_metadata("gpt")
        assert found is not None
        (row,) = (await admin.told("/audit"))["rows"]
        noted = (row["action"], row["what"], row["outcome"])
        assert noted == ("warm", "2 models", "1 of them failed")
        await admin.told("/warm", {"models": ["gpt"]})
        assert (await admin.told("/audit?limit=1"))["rows"][0]["outcome"] == "done"


@pytest.mark.parametrize(
    "body", [{}, {"models": []}, {"models": "gpt"}, {"models": [""]}, {"models": ["a"], "b": 1}]
)
async def test_what_cannot_be_warmed_is_refused(body: dict[str, object]) -> None:
    async def load(model_id: str) -> ModelMetadata:
        raise AssertionError(model_id)

    assert (await Admin(quiet_cache(), load=load).refusal("/warm", body))[0] == 400


async def test_without_a_loader_nothing_can_be_warmed(admin: Admin) -> None:
    status, message = await admin.refusal("/warm", {"models": ["gpt"]})
    assert status == 409
    assert "load=" in message


async def test_a_fault_of_ours_says_its_kind_and_nothing_else(
    admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    def stats() -> None:
        raise RuntimeError("canary")

    admin.cache.stats = stats  # type: ignore[assignment, method-assign]
    status, message = await admin.refusal("/stats")
    assert status == 500
    assert "RuntimeError" in message
    assert "canary" not in message + caplog.text
