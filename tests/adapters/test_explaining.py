"""What would become of a request, and why: said without doing it (issue 5.3)."""

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
from routecache_middleware.core.canonical import DoubtfulJSONError
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.explain import Explanation
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Outcome
from routecache_middleware.core.overrides import RequestPolicy
from routecache_middleware.engine.identify import Identifier
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.wiring import understanding
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer, sse_answer
from tests.support.asgi import KEY, PATH, Client, Pair, fetch, scope_of, settle
from tests.support.chat import ask, chunks, completion

OTHER = (b"authorization", b"Bearer key-2")
PLAIN = ask()


async def why(mw: RouteCacheMiddleware, body: bytes = PLAIN, **more: Any) -> RequestExplanation:
    """Explain a request of the usual caller."""
    return await mw.explain(body=body, **{"path": PATH, "headers": [KEY], **more})


def asking(fields: dict[str, object]) -> bytes:
    """Return a request with further fields, whatever their names."""
    return json.dumps(json.loads(PLAIN) | fields).encode()


# What it says is what happens.

Case = tuple[bytes, list[Pair]]

CASES: dict[str, Case] = {
    "plain": (ask(), [KEY]),
    "again": (ask(), [KEY]),
    "other caller": (ask(), [OTHER]),
    "nobody": (ask(), []),
    "stream": (ask(stream=True), [KEY]),
    "stream with usage": (ask(stream=True, stream_options={"include_usage": True}), [KEY]),
    "hot": (ask(temperature=1.5), [KEY]),
    "store": (ask(store=True), [KEY]),
    "no-cache": (ask(), [KEY, (b"cache-control", b"no-cache")]),
    "no-store": (ask(), [KEY, (b"cache-control", b"no-store")]),
    "both": (ask(), [KEY, (b"cache-control", b"no-cache, no-store")]),
    "young": (ask(), [KEY, (b"cache-control", b"max-age=0")]),
    "younger": (ask(), [KEY, (b"cache-control", b"max-age=5")]),
    "only if there": (ask(), [KEY, (b"cache-control", b"only-if-cached")]),
    "only if there, but is not": (ask("never"), [KEY, (b"cache-control", b"only-if-cached")]),
    "only if there, but never is": (b"{", [KEY, (b"cache-control", b"only-if-cached")]),
    "invalid": (b"{", [KEY]),
    "no form": (b"{}", [KEY]),
    "twice": (b'{"model":"m","model":"n","messages":[]}', [KEY]),
    "large": (ask("x" * 3000), [KEY]),
    "encoded": (ask(), [KEY, (b"content-encoding", b"gzip")]),
    "signed": (ask(), [KEY, (b"content-digest", b"x")]),
    "invalid of nobody": (b"{", []),
}

SETUPS: dict[str, dict[str, Any]] = {
    "on": {},
    "off": {"mode": "off"},
    "read_only": {"mode": "read_only"},
    "write_only": {"mode": "write_only"},
    "shadow": {"mode": "shadow"},
    "no results": {"result_caching": False},
    "shared": {"tenancy": "shared"},
    "stale": {"result_stale_while_revalidate_s": 100.0, "result_stale_if_error_s": 100.0},
    "alone": {"coalescing": False, "allow_anonymous": True},
}


@pytest.mark.parametrize("has_router", [False, True])
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("elapsed_s", [0.0, 10.0, 650.0, 5000.0])
async def test_what_it_says_is_what_happens(
    gateway: Gateway, clock: FakeClock, setup: str, elapsed_s: float, *, has_router: bool
) -> None:
    """Outcome and reason of every request, after the same history, as its response has them."""

    async def router(_: object) -> str:
        return "small"

    app = ScriptedApp()
    mw = gateway(
        app,
        router=router if has_router else None,
        max_request_bytes=2000,
        **SETUPS[setup],
    )
    mw.cache.mode = Mode.ON
    await fetch(mw)
    mw.cache.mode = mw.cache.settings.mode
    clock.advance(elapsed_s)
    for name, (body, headers) in CASES.items():
        before = mw.cache.stats()
        said = await mw.explain(path=PATH, body=body, headers=headers)
        assert mw.cache.stats() == before
        got = await fetch(mw, body, headers=headers)
        await settle()
        if got.outcome is None:  # off: it passed through untouched
            assert (setup, has_router, said.reason) == ("off", False, "disabled")
            continue
        assert ("gets status 504" in said.because) == (got.status == 504), name
        if got.status == 504:
            assert (said.outcome, got.outcome) == ("miss", "MISS")
            continue
        if "router is asked first" in said.because:  # nobody knows what it will say
            assert got.get("x-routecache-decision") == "MISS"
            continue
        assert said.outcome.upper() == got.outcome, (name, said)
        status = got.get("cache-status") or ""
        if said.outcome is Outcome.BYPASS:
            assert f"fwd=bypass; detail={said.reason}" in status, name
        elif said.outcome is Outcome.MISS:
            forward = {"absent": "miss", "expired": "stale", "request": "request"}
            assert f"fwd={forward.get(said.reason, 'miss')}" in status, (name, said)
        else:
            assert "; hit; " in status


async def test_nothing_is_made_counted_or_traced(gateway: Gateway) -> None:
    app = ScriptedApp()
    asked: list[object] = []

    async def router(request: object) -> str:
        asked.append(request)
        return "small"

    mw = gateway(app, router=router)
    before = mw.cache.stats()
    for _ in range(2):
        said = await why(mw)
        assert (said.outcome, said.reason) == ("miss", "absent")
        assert "router is asked first" in said.because
    assert (app.calls, asked, mw.cache.stats()) == ([], [], before)
    assert len(mw._parts.identifier._memo) == 0  # what is explained is not taken for seen


async def test_what_counts_is_named(gateway: Gateway) -> None:
    mw = gateway(result_ttl_s=90.0)
    headers = {"Authorization": "Bearer key-1", "OpenAI-Beta": "x", "Cache-Control": "max-age=7"}
    body = ask(temperature=0.5, user="u", something_new=1, stream=True)
    said = await why(mw, body, headers=headers, query_string=b"api_key=sk-query")
    assert (said.dialect, said.model, said.mode, said.shape) == (
        "openai.chat",
        "m",
        "stream",
        "stream",
    )
    assert said.counted == ("model", "messages", "something_new")
    assert said.sampling == ("temperature",)
    assert said.ignored == ("user", "stream")
    assert said.context == ("dialect", "path", "query", "openai-beta")
    assert said.asked == ("max-age=7",)
    flags = (said.looks_up, said.serves, said.stores, said.shares, said.converts)
    assert flags == (True, True, True, True, True)
    assert said.ttl_s == 90.0


async def test_what_is_stored_is_described(gateway: Gateway, clock: FakeClock) -> None:
    mw = gateway(result_stale_while_revalidate_s=10.0)
    await fetch(mw)
    clock.advance(100.0)
    said = await why(mw)
    assert (said.outcome, said.reason, said.because) == ("hit", "", "The stored answer is served.")
    assert said.answer is not None
    assert (said.answer.state, said.answer.age_s, said.answer.ttl_s) == ("fresh", 100.0, 500.0)
    assert said.answer.size_bytes == len(completion())
    assert (said.answer.shape, said.answer.model) == ("json", "m")
    clock.advance(505.0)
    said = await why(mw)
    assert said.outcome is Outcome.STALE
    assert said.answer is not None
    assert said.answer.ttl_s == -5.0
    await mw.cache.invalidate_all()
    said = await why(mw)
    assert (said.outcome, said.reason) == ("miss", "invalidated")
    assert said.answer is not None
    assert said.answer.state == "invalidated"


async def test_an_answer_of_another_form_is_a_hit_if_it_can_be_made_of_it(gateway: Gateway) -> None:
    """In a thread, too, when it is large; and not when the client forbids it."""
    for limit in (65_536, 0):
        mw = gateway(ScriptedApp(sse_answer(chunks())), hash_in_thread_bytes=limit)
        await fetch(mw, ask(stream=True))
        assert (await why(mw, ask(stream=True))).outcome is Outcome.HIT
        said = await why(mw)
        assert (said.outcome, said.reason) == ("miss", "conversion")  # it carries no usage
        json_first = gateway(ScriptedApp(json_answer()), hash_in_thread_bytes=limit)
        await fetch(json_first)
        assert (await why(json_first, ask(stream=True))).outcome is Outcome.HIT
        kept = [KEY, (b"cache-control", b"no-transform")]
        said = await why(json_first, ask(stream=True), headers=kept)
        assert (said.outcome, said.reason, said.converts) == ("miss", "conversion", False)


async def test_a_call_under_way_would_be_shared(gateway: Gateway, clock: FakeClock) -> None:
    app = ScriptedApp(is_stepped=True)
    mw = gateway(app)
    leader = Client(mw).start()
    await settle()
    said = await why(mw)
    assert (said.outcome, said.is_under_way) == ("coalesced", True)
    said = await why(mw, headers=[KEY, (b"cache-control", b"no-store")])
    assert (said.outcome, said.is_under_way) == ("miss", True)
    assert not (await why(mw, ask("else"))).is_under_way
    await mw.cache.invalidate_model("m")
    assert (await why(mw)).outcome is Outcome.MISS  # its answer is invalidated already
    await app.call.step(2)
    await leader.end()
    assert not (await why(mw)).is_under_way


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"temperature": 0.5}, ("temperature",)),
        ({"messages": [{"role": "user", "content": "bye"}]}, ("messages[0]",)),
        ({"model": "n"}, ("model",)),
        ({"n": 2, "seed": 1}, ("n", "seed")),
    ],
)
async def test_on_a_miss_the_field_that_made_it_one_is_named(
    gateway: Gateway, clock: FakeClock, changes: dict[str, object], differs: tuple[str, ...]
) -> None:
    mw = gateway()
    await fetch(mw)
    await fetch(mw, ask("something else altogether", top_p=0.2, temperature=0.1, seed=4))
    clock.advance(3.0)
    said = await why(mw, asking(changes))
    assert said.neighbour is not None
    assert (said.neighbour.differs, said.neighbour.differences) == (differs, len(differs))
    assert not said.neighbour.is_given
    assert said.neighbour.answer is not None
    assert said.neighbour.answer.age_s == 3.0
    assert said.neighbour.result_hash == (await why(mw)).result_hash


async def test_messages_and_headers_are_named_one_by_one(gateway: Gateway) -> None:
    mw = gateway()
    turns = [{"role": "user", "content": text} for text in ("one", "two", "three")]
    body = json.dumps({"model": "m", "messages": turns}).encode()
    await fetch(mw, body, headers=[KEY, (b"openai-beta", b"a")])
    turns[2] = {"role": "user", "content": "four"}
    changed = json.dumps({"model": "m", "messages": turns}).encode()
    said = await why(mw, changed, headers=[KEY, (b"openai-beta", b"b")])
    assert said.neighbour is not None
    assert said.neighbour.differs == ("header.openai-beta", "messages[2]")
    said = await why(mw, body, path="/x" + PATH, headers=[KEY, (b"openai-beta", b"a")])
    assert said.neighbour is not None
    assert said.neighbour.differs == ("context.path",)


async def test_nothing_of_other_tenants_is_ever_named(gateway: Gateway) -> None:
    """The memo holds everybody's requests; only keys of the asking tenant are asked for."""
    mw = gateway()
    await fetch(mw, headers=[OTHER])
    assert (await why(mw, ask(temperature=0.5))).neighbour is None
    assert (await why(mw, ask(temperature=0.5), headers=[OTHER])).neighbour is not None
    # Not even that two tenants have asked the same, unless one has an answer of its own to it.
    said = await why(mw)
    assert (said.outcome, said.neighbour) == ("miss", None)
    shared = gateway(ScriptedApp(json_answer(), json_answer(status=401)), tenancy="shared")
    await fetch(shared)
    said = await why(shared, ask(temperature=0.5), headers=[OTHER])
    assert (said.reason, said.answer, said.neighbour) == ("unauthorised", None, None)
    assert (await why(shared, headers=[OTHER])).answer is None
    assert (await why(shared, ask(temperature=0.5))).neighbour is not None


async def test_only_what_can_be_used_now_is_a_neighbour(gateway: Gateway, clock: FakeClock) -> None:
    mw = gateway()
    await fetch(mw)
    await fetch(mw, b"{")
    await fetch(mw, ask(store=True))
    await fetch(mw, json.dumps({"model": "m", "prompt": "hello"}).encode(), path="/v1/completions")
    asked = ask(temperature=0.5)
    assert (await why(mw, asked)).neighbour is not None
    await mw.cache.invalidate_model("m")
    assert (await why(mw, asked)).neighbour is None
    await fetch(mw)
    assert (await why(mw, asked)).neighbour is not None
    clock.advance(601.0)
    assert (await why(mw, asked)).neighbour is None


async def test_of_many_the_nearest_is_found_and_of_equals_the_latest(gateway: Gateway) -> None:
    """In however many batches: what others have asked stands in between."""
    mw = gateway()
    for seed in (1, 2):
        await fetch(mw, ask(seed=seed, top_p=0.5))
    for number in range(80):
        await fetch(mw, ask(f"prompt {number}"), headers=[OTHER])
    said = await why(mw, ask("else", seed=2))
    assert said.neighbour is not None
    assert said.neighbour.differs == ("messages[0]", "top_p")
    said = await why(mw, ask("else", seed=3, top_p=0.5), full=True)
    assert said.neighbour is not None
    latest = await why(mw, ask(seed=2, top_p=0.5), full=True)
    assert (said.neighbour.result_hash, len(latest.result_hash)) == (latest.result_hash, 32)


async def test_looking_for_neighbours_takes_a_bounded_time(
    gateway: Gateway, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    mw = gateway(ScriptedApp(), max_request_bytes=4_194_304, memo_bytes=67_108_864)
    for number in range(300):
        await fetch(mw, ask(f"prompt {number}"))
    ticks = iter(range(10**6))
    monkeypatch.setattr(clock, "monotonic_s", lambda: next(ticks) * 0.1)
    # Two of them were compared before a quarter of a second was over.
    assert (await why(mw, ask("prompt 5", seed=1))).neighbour is not None
    monkeypatch.undo()
    compared: list[int] = []
    explain = mw._parts.identifier.explain

    def counted(_: Identifier, *given: Any) -> Explanation:
        compared.append(1)
        return explain(*given)

    monkeypatch.setattr(Identifier, "explain", counted)
    assert (await why(mw, ask("prompt 299", seed=1))).neighbour is not None
    assert len(compared) == 257  # the request itself, and 256 others
    for number in range(5):
        await fetch(mw, ask(f"{number}" * 1_000_000))
    compared.clear()
    assert (await why(mw, ask("prompt 299", seed=1))).neighbour is not None
    assert len(compared) == 5  # four others make four megabytes


async def test_a_neighbour_may_be_named(gateway: Gateway) -> None:
    """Stored or not, cacheable or not."""
    mw = gateway(max_request_bytes=1000)
    said = (await why(mw, neighbour=ask(seed=1))).neighbour
    assert said is not None
    assert (said.is_given, said.differs, said.answer, said.reason) == (True, ("seed",), None, "")
    await fetch(mw, ask(seed=1))
    said = (await why(mw, neighbour=ask(seed=1))).neighbour
    assert said is not None
    assert said.answer is not None
    assert said.answer.state == "fresh"
    said = (await why(mw, neighbour=ask(user="u"))).neighbour
    assert said is not None
    assert said.differs == ()
    said = (await why(mw, neighbour=ask(store=True))).neighbour
    assert said is not None
    assert (said.differs, said.reason) == (("store",), "store")
    for body, reason in ((b"{", "invalid-json"), (ask("x" * 1000), "body-too-large")):
        said = (await why(mw, neighbour=body)).neighbour
        assert said is not None
        assert (said.reason, said.differs, said.result_hash) == (reason, (), "")
    # The field is named also when the request itself is never cached, and for nobody.
    explained = await why(mw, ask(store=True), neighbour=ask(seed=1), headers=[])
    assert explained.reason == "no-principal"
    assert explained.neighbour is not None
    assert explained.neighbour.differs == ("seed", "store")
    assert explained.neighbour.answer is None


async def test_a_request_that_cannot_be_compared_after_all_is_no_neighbour(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How deeply JSON may be nested depends on how deep the stack is already."""
    mw = gateway()
    await fetch(mw, ask(seed=1))
    await fetch(mw, ask(seed=2))
    explain = mw._parts.identifier.explain

    def explained(_: Identifier, *given: Any) -> Explanation:
        if given[2] == ask(seed=2):
            raise DoubtfulJSONError
        return explain(*given)

    monkeypatch.setattr(Identifier, "explain", explained)
    said = (await why(mw)).neighbour
    assert said is not None
    assert said.differs == ("seed",)
    assert said.result_hash == (await why(mw, ask(seed=1))).result_hash


async def test_the_lifetime_that_is_asked_for_counts(gateway: Gateway) -> None:
    """In the head and in LiteLLM's object; the least of all, and no more than is granted."""
    mw = gateway(result_ttl_s=100.0)
    for ttl, in_body, lifetime_s in (
        (b"30", {}, 30.0),
        (b"x", {}, 100.0),
        (b"30", {"ttl": 20}, 20.0),
        (b"3000", {"s-maxage": 5}, 100.0),
    ):
        body = asking({"cache": in_body}) if in_body else ask()
        said = await why(mw, body, headers=[KEY, (b"routecache-ttl", ttl)])
        assert said.ttl_s == lifetime_s
    assert said.asked_in_body == ("s-maxage=5",)
    said = await why(mw, asking({"cache": {"no-cache": True, "no-store": True}}))
    assert (said.outcome, said.reason, said.ttl_s) == ("bypass", "no-store", 0.0)


async def test_the_policy_of_the_request_is_the_one_it_is_explained_by(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    mw = gateway()
    rules = RequestPolicy(mw.cache.engine.policy, is_cached=True, ttl_s=7.0)
    monkeypatch.setattr(understanding, "_rules", lambda *_: rules)
    assert (await why(mw)).ttl_s == 7.0
    rules = rules._replace(is_cached=False)
    assert (await why(mw)).reason == "disabled"


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
