"""Requests for several embeddings: each input is looked up, asked for and stored by itself."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routecache_middleware import RouteCacheMiddleware
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.asgi import KEY, Response, fetch
from tests.support.embeddings import PATH, EmbeddingApp, ask, embeddings, vector, vectors


async def embed(mw: Any, value: object, *headers: tuple[bytes, bytes], **fields: Any) -> Response:
    got = await fetch(mw, ask(value, **fields), path=PATH, headers=[KEY, *headers])
    assert got.get("content-length") == str(len(got.body))
    return got


def counts(mw: RouteCacheMiddleware) -> tuple[int, int, int]:
    stats = mw.cache.stats().result
    return stats.hits, stats.misses, stats.writes


async def test_a_list_is_stored_input_by_input(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    live = await embed(mw, ["a", "bb", "ccc"])
    again = await embed(mw, ["a", "bb", "ccc"])
    assert (live.outcome, live.get("cache-status")) == ("MISS", "routecache; fwd=miss")
    assert (again.outcome, again.get("age")) == ("HIT", "0")
    assert (again.get("cache-status") or "").startswith("routecache; hit; ttl=")
    assert again.body == live.body
    assert (app.asked, counts(mw)) == ([["a", "bb", "ccc"]], (1, 1, 3))


@pytest.mark.parametrize("alone", ["bb", ["bb"]])
async def test_an_input_of_a_list_is_there_for_who_asks_for_it_alone(
    gateway: Gateway, alone: object
) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "bb", "ccc"])
    got = await embed(mw, alone)
    assert got.outcome == "HIT"
    assert json.loads(got.body) == embeddings(["bb"])
    assert len(app.asked) == 1


async def test_what_was_asked_for_alone_is_there_for_a_list(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    alone = [await embed(mw, item) for item in ("a", ["bb"], "ccc")]
    got = await embed(mw, ["ccc", "a", "bb", "a"])
    assert got.outcome == "HIT"
    assert json.loads(got.body) == embeddings(["ccc", "a", "bb", "a"])
    for live, item in zip(alone, ("a", "bb", "ccc"), strict=True):
        assert (await embed(mw, item)).body == live.body
    assert len(app.asked) == 3


async def test_only_what_is_not_known_is_asked_for(gateway: Gateway, clock: FakeClock) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "bb")
    clock.advance(7)
    got = await embed(mw, ["a", "bb", "ccc", "a"], user="u")
    assert app.asked[1:] == [["a", "ccc"]]
    assert json.loads(app.bodies[1]) == json.loads(ask(["a", "ccc"], user="u"))
    assert dict(app.scopes[1]["headers"])[b"host"] == b"gateway"
    assert json.loads(got.body) == embeddings(["a", "bb", "ccc", "a"])
    assert (got.outcome, got.get("cache-status")) == ("MISS", "routecache; fwd=partial")
    assert (got.get("age"), got.all("content-length")) == ("7", [str(len(got.body))])
    assert counts(mw) == (0, 2, 3)
    assert (await embed(mw, ["ccc", "bb", "a"])).outcome == "HIT"


async def test_one_missing_input_is_stored_as_it_came(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "bb")
    await embed(mw, ["bb", "a"])
    got = await embed(mw, "a")
    assert got.outcome == "HIT"
    assert got.body == json.dumps(embeddings(["a"]), separators=(",", ":")).encode()


async def test_the_length_that_the_app_is_told_is_that_of_what_it_gets(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "bb")
    body = ask(["a", "bb"])
    await embed(mw, ["a", "bb"], (b"content-length", b"%d" % len(body)))
    assert dict(app.scopes[1]["headers"])[b"content-length"] == b"%d" % len(app.bodies[1])


async def test_inputs_of_tokens_are_items_too(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, [[1, 2], [3]])
    assert (await embed(mw, [1, 2])).outcome == "HIT"
    got = await embed(mw, [[3], [4, 5, 6], [1, 2]])
    assert app.asked[1:] == [[[4, 5, 6]]]
    assert json.loads(got.body) == embeddings([[3], [4, 5, 6], [1, 2]])


@pytest.mark.parametrize(("first", "second"), [("float", "base64"), ("base64", "float")])
async def test_one_entry_serves_both_forms(gateway: Gateway, first: str, second: str) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "bb"], encoding_format=first)
    other = await embed(mw, ["bb", "a"], encoding_format=second)
    assert json.loads(other.body) == embeddings(["bb", "a"], form=second)
    mixed = await embed(mw, ["c", "bb"], encoding_format=second)
    assert json.loads(mixed.body) == embeddings(["c", "bb"], form=second)
    alone = await embed(mw, "a", encoding_format=second)
    assert json.loads(alone.body) == embeddings(["a"], form=second)
    assert app.asked == [["a", "bb"], ["c"]]


async def test_a_repeated_list_with_a_duplicate_costs_one_call(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    live = await embed(mw, ["a", "a", "b"])
    assert app.asked == [["a", "a", "b"]]  # none is known: forwarded as it came
    again = await embed(mw, ["a", "a", "b"])
    assert (again.outcome, again.body) == ("HIT", live.body)
    assert counts(mw)[2] == 2


async def test_tenants_do_not_share(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    other = (b"authorization", b"Bearer key-2")
    got = await fetch(mw, ask(["b", "c"]), path=PATH, headers=[other])
    assert (got.outcome, app.asked[1]) == ("MISS", ["b", "c"])
    assert (got.get("cache-status")) == "routecache; fwd=miss"


async def test_the_router_s_model_is_asked_for_the_rest(gateway: Gateway) -> None:
    app = EmbeddingApp()

    async def router(request: object) -> str:
        return "small"

    mw = gateway(app, router=router, routed_models=frozenset({"auto"}))
    await embed(mw, "a", model="auto")
    got = await embed(mw, ["a", "b"], model="auto")
    assert json.loads(app.bodies[1]) == {"model": "small", "input": ["b"]}
    assert (got.outcome, got.get("x-routecache-model")) == ("MISS", "small")
    assert (await embed(mw, ["b", "a"], model="auto")).outcome == "HIT"


async def test_another_model_or_field_is_another_entry(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    for fields in ({"model": "f"}, {"dimensions": 8}, {"unheard_of": 1}):
        assert (await embed(mw, ["a", "b"], **fields)).outcome == "MISS"
    assert len(app.asked) == 4


# What clients ask of the cache.


async def test_only_if_cached_needs_all_of_them(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    only = (b"cache-control", b"only-if-cached")
    await embed(mw, ["a", "b"])
    assert (await embed(mw, ["b", "a"], only)).outcome == "HIT"
    assert (await embed(mw, ["b", "c"], only)).status == 504
    assert len(app.asked) == 1


async def test_no_cache_asks_for_all_and_stores_all(gateway: Gateway, clock: FakeClock) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    clock.advance(5)
    got = await embed(mw, ["a", "b"], (b"cache-control", b"no-cache"))
    assert got.get("cache-status") == "routecache; fwd=request"
    assert app.asked[1] == ["a", "b"]
    assert (await embed(mw, "a")).get("age") == "0"


async def test_no_store_stores_nothing_of_it(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "a")
    got = await embed(mw, ["a", "b"], (b"cache-control", b"no-store"))
    assert json.loads(got.body) == embeddings(["a", "b"])
    assert app.asked[1] == ["b"]
    assert counts(mw)[2] == 1


async def test_max_age_holds_for_each_part(gateway: Gateway, clock: FakeClock) -> None:
    """RFC 9111 section 5.2.1.1."""
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "a")
    clock.advance(10)
    await embed(mw, "b")
    got = await embed(mw, ["a", "b"], (b"cache-control", b"max-age=5"))
    assert app.asked[2:] == [["a"]]
    assert got.get("age") == "0"


async def test_min_fresh_holds_for_each_part(gateway: Gateway, clock: FakeClock) -> None:
    """RFC 9111 section 5.2.1.3."""
    app = EmbeddingApp()
    mw = gateway(app, result_ttl_s=100.0)
    await embed(mw, "a")
    clock.advance(60)
    await embed(mw, "b")
    await embed(mw, ["a", "b"], (b"cache-control", b"min-fresh=50"))
    assert app.asked[2:] == [["a"]]


async def test_nothing_is_put_together_for_no_transform(gateway: Gateway) -> None:
    """RFC 9111 section 5.2.1.6; what comes of it is stored part by part all the same."""
    app = EmbeddingApp()
    mw = gateway(app)
    plain = (b"cache-control", b"no-transform")
    await embed(mw, ["a", "b"], plain)
    for value in (["a", "b"], ["b", "c"]):
        got = await embed(mw, value, plain)
        assert got.get("cache-status") == "routecache; fwd=miss; detail=conversion"
    assert app.asked == [["a", "b"], ["a", "b"], ["b", "c"]]
    assert (await embed(mw, ["a", "c"])).outcome == "HIT"


@pytest.mark.parametrize("name", [b"signature", b"content-digest", b"idempotency-key"])
async def test_a_body_that_a_header_speaks_of_is_not_changed(gateway: Gateway, name: bytes) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "a")
    got = await embed(mw, ["a", "b"], (name, b"x"))
    assert app.bodies[1] == ask(["a", "b"])
    assert (got.outcome, got.get("cache-status")) == (
        "MISS",
        "routecache; fwd=miss; detail=partial",
    )
    assert (await embed(mw, ["b", "a"], (name, b"x"))).outcome == "HIT"


# Ages, modes and what the app says.


async def test_what_is_stale_is_asked_for(gateway: Gateway, clock: FakeClock) -> None:
    app = EmbeddingApp()
    mw = gateway(
        app, result_ttl_s=10.0, result_stale_while_revalidate_s=50.0, result_stale_if_error_s=50.0
    )
    await embed(mw, "a")
    clock.advance(8)
    await embed(mw, "b")
    clock.advance(4)
    await embed(mw, ["a", "b"])
    assert app.asked[2:] == [["a"]]
    clock.advance(20)
    got = await embed(mw, ["a", "b"])
    assert got.get("cache-status") == "routecache; fwd=stale"
    assert app.asked[3:] == [["a", "b"]]


@pytest.mark.parametrize("mode", ["shadow", "read_only", "write_only", "off"])
async def test_modes_mean_what_they_mean_for_one(gateway: Gateway, mode: str) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    mw.cache.engine.mode = type(mw.cache.engine.mode)(mode)
    whole, some = await embed(mw, ["a", "b"]), await embed(mw, ["b", "c"])
    if mode == "read_only":
        assert (whole.outcome, app.asked[1:]) == ("HIT", [["c"]])
        assert json.loads(some.body) == embeddings(["b", "c"])
    else:
        assert app.asked[1:] == [["a", "b"], ["b", "c"]]
    assert mw.cache.stats().shadow_hits == (mode == "shadow")
    assert counts(mw)[2] == {"read_only": 2, "off": 2}.get(mode, 6)


async def test_what_the_app_says_of_its_answer_counts_for_each_part(
    gateway: Gateway, clock: FakeClock
) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "a")

    def tagged(scope: Any) -> None:
        scope["state"]["routecache"].add_tags("news")
        scope["state"]["routecache"].set_ttl(30)

    app.on_call = tagged
    await embed(mw, ["a", "b", "c"])
    assert (await embed(mw, ["a", "b", "c"])).outcome == "HIT"
    await mw.cache.invalidate_tag("news")
    await embed(mw, ["a", "b", "c"])
    assert app.asked[2:] == [["b", "c"]]
    clock.advance(31)
    await embed(mw, ["a", "b", "c"])
    assert app.asked[3:] == [["b", "c"]]


async def test_a_veto_keeps_all_parts_out(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "a")
    app.on_call = lambda scope: scope["state"]["routecache"].no_store()
    await embed(mw, ["a", "b"])
    await embed(mw, ["c", "d"])
    assert counts(mw)[2] == 1


async def test_headers_that_all_parts_have_are_replayed(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    app.headers = [(b"openai-version", b"1"), (b"content-language", b"en"), (b"age", b"9")]
    await embed(mw, "a")
    app.headers = [(b"openai-version", b"1"), (b"x-request-id", b"r"), (b"ETag", b'"x"')]
    some = await embed(mw, ["a", "b"])
    whole = await embed(mw, ["a", "b"])
    assert (some.get("x-request-id"), some.get("etag")) == ("r", None)
    assert (whole.get("openai-version"), whole.get("content-language")) == ("1", None)
    assert whole.all("age") == ["0"]


async def test_the_age_that_the_app_tells_is_not_lost(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "a")
    app.headers = [(b"Age", b"40"), (b"age", b"x"), (b"age", b"9" * 5000)]
    assert (await embed(mw, ["a", "b"])).all("age") == ["40"]


async def test_without_our_fields_no_age_is_told(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app, response_headers=False)
    await embed(mw, "a")
    got = await embed(mw, ["a", "b"])
    assert (got.get("age"), got.outcome) == (None, None)


async def test_a_former_secret_s_parts_are_found(gateway: Gateway) -> None:
    app, secret = EmbeddingApp(), b"1" * 16
    old = gateway(app, secret=secret)
    await embed(old, ["a", "b"])
    await embed(old, "c")
    new = gateway(app, secret=b"2" * 16, previous_secrets=(secret,))
    old_store, engine = old.cache.engine.coordinator, new.cache.engine
    engine.coordinator = old_store
    assert (await embed(new, ["b", "c", "b"])).outcome == "HIT"
    await old.cache.invalidate_model("e")
    assert (await embed(new, ["b", "c"])).outcome == "MISS"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    known=st.lists(st.sampled_from("abcdef"), max_size=6),
    wanted=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=9),
    form=st.sampled_from(["float", "base64"]),
)
async def test_whatever_is_known_the_answer_is_the_upstream_s(
    gateway: Gateway, known: list[str], wanted: list[str], form: str
) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    if known:
        await embed(mw, known)
    got = await embed(mw, wanted, encoding_format=form)
    assert json.loads(got.body)["data"] == embeddings(wanted, form=form)["data"]
    unknown = [item for item in dict.fromkeys(wanted) if item not in known]
    if unknown and len(unknown) < len(set(wanted)):
        assert app.asked[bool(known) :] == [unknown]
    again = await embed(mw, wanted, encoding_format=form)
    assert again.outcome == "HIT"
    assert vectors(again.body) == vectors(got.body)
    assert json.loads(again.body)["usage"]["prompt_tokens"] == len(wanted)


async def test_2048_inputs_are_items_too(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    inputs = [f"text {number}" for number in range(2048)]
    await embed(mw, inputs[:1000])
    await mw.cache.engine.background.drain(10)  # so many are stored bit by bit
    got = await embed(mw, inputs)
    await mw.cache.engine.background.drain(10)
    assert [len(asked) for asked in app.asked] == [1000, 1048]
    assert vectors(got.body) == [vector(item) for item in inputs]
    assert (await embed(mw, inputs[::-1])).outcome == "HIT"
