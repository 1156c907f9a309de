"""Explanations are safe to log, and hold for whatever comes: bodies, routers, ways in."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from routecache_middleware import RouteCache, RouteCacheMiddleware, RoutingDecision, Settings
from routecache_middleware.adapters.asgi import RequestExplanation
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Outcome
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp
from tests.support.asgi import KEY, PATH, Pair, fetch, scope_of
from tests.support.chat import ask, completion

PLAIN = ask()


async def why(mw: RouteCacheMiddleware, body: bytes = PLAIN, **more: Any) -> RequestExplanation:
    """Explain a request of the usual caller."""
    return await mw.explain(body=body, **{"path": PATH, "headers": [KEY], **more})


def asking(fields: dict[str, object]) -> bytes:
    """Return a request with further fields, whatever their names."""
    return json.dumps(json.loads(PLAIN) | fields).encode()


# Safe to log.

SECRETS = ("hello", "key-1", "sk-query", "session=s", "acme", "u-77")


async def test_it_shows_neither_prompt_nor_credential_nor_tenant(gateway: Gateway) -> None:
    for tenant in (None, lambda _: "acme"):
        mw = gateway(tenant=tenant)
        given = {
            "headers": {"authorization": "Bearer key-1", "cookie": "session=s"},
            "query_string": b"api_key=sk-query",
        }
        await fetch(
            mw,
            headers=[KEY, (b"cookie", b"session=s")],
            query_string=b"api_key=sk-query",
        )
        for body in (ask(), ask(user="u-77", seed=1)):
            said = await why(mw, body, neighbour=ask(n=2), **given)
            text = msgspec.json.encode(said).decode() + str(said) + repr(said)
            assert [secret for secret in SECRETS if secret in text] == []
            assert len(said.tenant) == len(said.result_hash) == len(said.decision_hash) == 12


async def test_in_full_it_says_what_invalidations_take(gateway: Gateway) -> None:
    mw = gateway(tenant=lambda _: "acme")
    await fetch(mw)
    said = await why(mw, full=True)
    assert (said.outcome, said.tenant) == ("hit", "acme")
    await mw.cache.invalidate_query_result(said.result_hash, said.model, tenant=said.tenant)
    assert (await why(mw)).reason == "invalidated"


async def test_an_operator_names_the_tenant_instead_of_having_its_credentials(
    gateway: Gateway,
) -> None:
    mw = gateway(previous_secrets=(b"0" * 16,), secret=b"1" * 16)
    await fetch(mw)
    tenant = (await why(mw, full=True)).tenant
    assert len(tenant) == 32
    said = await why(mw, headers=(), tenant=tenant)
    assert said.outcome is Outcome.HIT
    assert (await why(mw, headers=(), tenant="else")).reason == "absent"
    assert (await why(mw, headers=())).reason == "no-principal"
    assert (await why(mw, tenant="")).reason == "no-principal"
    shared = gateway(tenancy="shared")
    await fetch(shared)
    assert (await why(shared)).tenant == "shared"
    assert (await why(shared, headers=(), tenant="shared")).outcome is Outcome.HIT


async def test_answers_under_a_former_secret_are_found(clock: FakeClock) -> None:
    """As requests find them, until they are invalidated or their tenant is (by either name)."""
    async with RouteCache(url="memory://", observers=[], clock=clock) as cache:
        coordinator = cache.engine.coordinator
        old, new = b"0" * 16, b"1" * 16
        for tenancy in ("principal", "shared"):
            for name, secret, former in (("old", old, ()), ("new", new, (old,))):
                held = RouteCache(
                    coordinator=coordinator,
                    settings=Settings(
                        secret=secret,
                        previous_secrets=former,
                        tenancy=tenancy,
                        authenticated_upstream=True,
                    ),
                    observers=[],
                    clock=clock,
                )
                mw = RouteCacheMiddleware(ScriptedApp(), cache=held)
                if name == "old":
                    await fetch(mw)
                    continue
                said = await why(mw)
                assert said.outcome is Outcome.HIT
                assert (await fetch(mw)).outcome == "HIT"
                assert said.answer is not None
                await cache.invalidate_model("m")
                await held.engine.sync()
                said = await why(mw)
                assert (said.outcome, said.reason) == ("miss", "invalidated")


async def test_its_own_warnings_stay_those_of_requests(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """The one warning that names allow_anonymous is not used up by an explanation."""

    def raising(_: object) -> str:
        raise ValueError

    mw, other = gateway(), gateway(tenant=raising)
    assert (await why(mw, headers=())).reason == "no-principal"
    assert (await why(other)).reason == "tenant-error"
    assert caplog.records == []
    await fetch(mw, headers=[])
    await fetch(other)
    assert len(caplog.records) == 2


# Whatever comes.


@given(
    body=st.one_of(st.binary(), st.text().map(ask), st.text().map(lambda t: asking({t: t}))),
    neighbour=st.one_of(st.none(), st.binary(), st.text().map(ask)),
    path=st.one_of(st.just(PATH), st.text().map(lambda t: f"/engines/{t}/completions")),
    headers=st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=3),
    query=st.binary(max_size=20),
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_request_makes_it_raise_and_all_can_be_encoded(  # noqa: PLR0917 - by keyword
    gateway: Gateway,
    body: bytes,
    neighbour: bytes | None,
    path: str,
    headers: list[Pair],
    query: bytes,
) -> None:
    mw = gateway(allow_anonymous=True)
    said = await mw.explain(
        path=path, body=body, neighbour=neighbour, headers=headers, query_string=query
    )
    assert msgspec.json.decode(msgspec.json.encode(said))["outcome"] == said.outcome
    assert str(said)


@pytest.mark.parametrize(
    "body",
    [
        asking({"\ud800": 1}),
        b'{"model":"\\ud800","messages":[]}',
        ask("\x00\x1b[31m"),
        b'{"model":"m","messages":' + b"[" * 9000,
        b"[]",
        b"",
        b'{"model":"m","messages":[{"role":"user","content":1e999}]}',
        asking({"n" * 9000: 1}),
        asking({f"field {n}": n for n in range(500)}),
    ],
)
async def test_a_hostile_body_is_explained(gateway: Gateway, body: bytes) -> None:
    mw = gateway()
    await fetch(mw)
    said = await why(mw, body)
    assert said.reason in ("invalid-json", "absent")
    assert len(msgspec.json.encode(said)) < 12_000
    assert len((await why(mw, neighbour=body)).neighbour.differs) <= 64  # type: ignore[union-attr]


async def test_names_from_a_path_are_shown_in_a_way_that_can_be_encoded(gateway: Gateway) -> None:
    said = await why(gateway(), path="/openai/deployments/\udc80/chat/completions")
    assert said.model == "\\udc80"
    assert msgspec.json.encode(said)


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [("GET", PATH, "method"), ("post", "/v1/models", "path"), ("PUT", "/", "path")],
)
async def test_what_is_none_of_our_business_is_said_to_be(
    gateway: Gateway, method: str, path: str, reason: str
) -> None:
    said = await why(gateway(), method=method, path=path)
    assert (said.outcome, said.reason, said.dialect) == ("bypass", reason, "")
    assert "passes through untouched" in said.because


async def test_a_whole_scope_can_be_explained(gateway: Gateway) -> None:
    """As a handler has it; without a content type it is what it is."""
    mw = gateway()
    await fetch(mw)
    assert (await mw.explain_scope(scope_of(), ask())).outcome is Outcome.HIT
    said = await mw.explain_scope(scope_of(content_type=None), ask())
    assert said.reason == "content-type"
    headers = {"Authorization": "Bearer key-1", "Content-Type": "text/plain"}
    assert (await why(mw, headers=headers)).reason == "content-type"


async def test_a_fault_of_a_dialect_is_explained_too(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    mw = gateway()

    def broken(*_: object) -> None:
        raise LookupError("hello")

    dialect = mw._match("POST", PATH)
    monkeypatch.setattr(type(dialect), "parse", broken)
    said = await why(mw)
    assert (said.outcome, said.reason, said.trouble) == ("bypass", "internal-error", "LookupError")


# Routing.


async def test_the_decision_is_described(gateway: Gateway, clock: FakeClock) -> None:
    up = {"small", "large"}

    async def decided(_: object) -> RoutingDecision:
        return RoutingDecision("small", 0.7, (("large", 0.3),), strategy="s")

    mw = gateway(router=decided, eligible=lambda model: model in up)
    await fetch(mw)
    clock.advance(5.0)
    said = await why(mw)
    assert (said.outcome, said.routed_model) == ("hit", "small")
    assert said.decision is not None
    assert (said.decision.selected_model, said.decision.model) == ("small", "small")
    assert (said.decision.state, said.decision.age_s, said.decision.ttl_s) == ("fresh", 5.0, 295.0)
    assert (said.decision.score, said.decision.strategy) == (0.7, "s")
    # A parameter that is not the router's: another answer by the same decision.
    said = await why(mw, ask(temperature=0.1))
    assert (said.outcome, said.routed_model) == ("miss", "small")
    assert said.neighbour is not None
    assert (said.neighbour.differs, said.neighbour.model) == (("temperature",), "small")
    up.remove("small")
    said = await why(mw)
    assert (said.outcome, said.routed_model, said.answer) == ("miss", "large", None)
    up.clear()
    said = await why(mw)
    assert (said.reason, said.routed_model) == ("ineligible", "")
    assert said.decision is not None
    assert (said.decision.selected_model, said.decision.model) == ("small", "")


async def test_a_model_that_is_not_routed_is_looked_up_as_it_is(gateway: Gateway) -> None:
    mw = gateway(router=lambda _: "small", routed_models=frozenset({"auto"}))
    await fetch(mw)
    said = await why(mw)
    assert (said.outcome, said.decision, said.routed_model) == ("hit", None, "")


async def test_a_decision_that_cannot_be_read_is_none(gateway: Gateway) -> None:
    mw = gateway(router=lambda _: "small")
    await fetch(mw)
    keyed = await why(mw, full=True)
    coordinator = mw.cache.engine.coordinator
    ((key, entry),) = await coordinator.sample(Layer.ROUTING, 1)
    await coordinator.store(key, msgspec.structs.replace(entry, body=b"?"))
    said = await why(mw)
    assert (said.decision, said.routed_model) == (None, "")
    assert keyed.decision is not None


# The way in that does not need the middleware in one's hands.


async def test_the_cache_explains_by_the_middleware_that_uses_it(gateway: Gateway) -> None:
    mw = gateway()
    await fetch(mw)
    said = await mw.cache.explain(path=PATH, body=ask(), headers=[KEY])
    assert said == await why(mw)


async def test_a_cache_that_nobody_uses_says_so(gateway: Gateway) -> None:
    with pytest.raises(ConfigurationError, match="no RouteCacheMiddleware uses this cache"):
        await gateway.cache().explain(path=PATH, body=ask())


async def test_it_can_be_explained_before_anything_is_open() -> None:
    mw = RouteCacheMiddleware(ScriptedApp(), url="memory://")
    assert (await why(mw)).reason == "absent"
    await asyncio.wait_for(mw.cache.aclose(), 1)


@pytest.mark.parametrize("scheme", ["lmdb", "valkey"])
async def test_a_store_of_several_processes_is_looked_at_too(
    scheme: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Neighbours are those that the asking process has seen; answers are everybody's."""
    url = f"lmdb://{tmp_path}" if scheme == "lmdb" else request.getfixturevalue("valkey_url")
    settings = Settings(coordinator_timeout_s=2.0)  # shared machines stall
    async with (
        RouteCache(url=url, settings=settings, observers=[]) as one,
        RouteCache(url=url, settings=settings, observers=[]) as other,
    ):
        here = RouteCacheMiddleware(ScriptedApp(), cache=one)
        there = RouteCacheMiddleware(ScriptedApp(), cache=other)
        await fetch(here)
        await one.engine.background.drain(5.0)
        for mw in (here, there):
            said = await why(mw)
            assert (said.outcome, said.trouble) == ("hit", "")
            assert said.answer is not None
            assert said.answer.size_bytes == len(completion())
        near = (await why(here, ask(seed=1))).neighbour
        assert near is not None
        assert near.differs == ("seed",)
        far = await why(there, ask(seed=1))
        assert (far.reason, far.neighbour) == ("absent", None)
