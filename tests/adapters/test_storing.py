"""What is stored, what never is, and one entry for both wire forms (design 6, 10)."""

import json
from pathlib import Path

import pytest

from routecache_middleware import CachePolicy
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer, sse_answer
from tests.support.asgi import Client, fetch
from tests.support.chat import ask, chunks, completion

FIXTURES = Path(__file__).parent.parent / "fixtures"
STREAM = ask(stream=True)
USAGE = ask(stream=True, stream_options={"include_usage": True})


def recorded(name: str) -> bytes:
    return (FIXTURES / "openai.chat" / name).read_bytes()


NEVER_STORED: dict[str, tuple[bytes, bytes, str]] = {
    "content filter": (ask(), completion(finish="content_filter"), "finish-reason"),
    "refusal": (ask(), recorded("discarded/finish-reason.refusal.json"), "finish-reason"),
    "tool calls": (ask(), recorded("answers/tool_calls.json"), "tool-calls"),
    "no text": (ask(), completion(""), "empty"),
    "no choices": (ask(), b'{"choices":[]}', "empty"),
    "an error with 200": (ask(), recorded("discarded/error-body.server.json"), "error-body"),
    "not JSON": (ask(), b"<html>", "incomplete"),
    "half of it": (ask(), completion()[:-5], "incomplete"),
    "a truncated stream": (STREAM, recorded("discarded/incomplete.truncated.sse"), "incomplete"),
    "an error event": (STREAM, recorded("discarded/error-body.midway.sse"), "error-body"),
    "a filtered stream": (STREAM, b"".join(chunks(finish="content_filter")), "finish-reason"),
    "a stream without its marker": (STREAM, b"".join(chunks()[:-1]), "incomplete"),
    "an empty stream": (STREAM, b"", "incomplete"),
    "streamed tool calls": (USAGE, recorded("answers/tool_calls.sse"), "tool-calls"),
}


@pytest.mark.parametrize("kind", NEVER_STORED)
async def test_what_must_not_be_stored_is_passed_on_and_forgotten(
    gateway: Gateway, kind: str
) -> None:
    """Stored only: complete 200 answers with a terminal marker and an allowed finish reason."""
    request, answer, reason = NEVER_STORED[kind]
    messages = sse_answer([answer]) if b"stream" in request else json_answer(answer)
    mw = gateway(ScriptedApp(messages))
    for _ in range(2):
        got = await fetch(mw, request)
        assert got.body == answer
        assert got.outcome == "MISS"
    assert mw.cache.stats().discards == {reason: 2}
    assert mw.cache.stats().result.entries == 0


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"seed": 7}])
async def test_tool_calls_of_deterministic_requests_are_stored(
    gateway: Gateway, fields: dict[str, object]
) -> None:
    """``cache_tool_calls="auto"`` (design 10)."""
    mw = gateway(ScriptedApp(json_answer(recorded("answers/tool_calls.json"))))
    await fetch(mw, ask(**fields))  # type: ignore[arg-type]
    assert (await fetch(mw, ask(**fields))).outcome == "HIT"  # type: ignore[arg-type]


@pytest.mark.parametrize(("allowed", "outcome"), [(True, "HIT"), (False, "MISS")])
async def test_policy_decides_about_tool_calls(
    gateway: Gateway, *, allowed: bool, outcome: str
) -> None:
    """``cache_tool_calls`` True and False."""
    policy = CachePolicy(cache_tool_calls=allowed)
    mw = gateway(ScriptedApp(json_answer(recorded("answers/tool_calls.json"))), policy=policy)
    await fetch(mw, ask(seed=1))
    assert (await fetch(mw, ask(seed=1))).outcome == outcome


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"text/event-stream")],
        [],
        [(b"content-type", b"application/json"), (b"vary", b"*")],
    ],
)
async def test_heads_that_forbid_reuse(
    gateway: Gateway, headers: list[tuple[bytes, bytes]]
) -> None:
    """Wrong media type, none, another wire form than asked for, ``Vary: *``."""
    mw = gateway(ScriptedApp(json_answer(headers=headers)))
    for _ in range(2):
        got = await fetch(mw)
        assert got.outcome == "MISS"
        assert got.headers[: len(headers)] == headers


async def test_a_same_mode_hit_is_byte_identical(gateway: Gateway) -> None:
    """Design 6: the body is the upstream's own bytes, odd white space and comments included."""
    odd = recorded("recorded/crlf_comments_reasoning.sse")
    mw = gateway(ScriptedApp(sse_answer([odd[:100], odd[100:]])))
    await fetch(mw, STREAM)
    hit = await fetch(mw, STREAM)
    assert hit.outcome == "HIT"
    assert hit.body == odd
    assert hit.get("content-type") == "text/event-stream; charset=utf-8"
    assert hit.get("content-length") is None
    assert hit.get("age") == "0"


@pytest.mark.parametrize("made_by", [ask(), USAGE])
@pytest.mark.parametrize("asked", [ask(), STREAM, USAGE])
async def test_one_entry_serves_json_and_stream(
    gateway: Gateway, made_by: bytes, asked: bytes
) -> None:
    """``stream`` and ``stream_options`` are not in the key; the other form is made on demand."""
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1,"total_tokens":3}}\n\n'
    pieces = chunks()
    streamed = sse_answer([*pieces[:-1], usage, pieces[-1]])
    app = ScriptedApp(json_answer() if made_by == ask() else streamed)
    mw = gateway(app)
    await fetch(mw, made_by)
    hit = await fetch(mw, asked)
    assert hit.outcome == "HIT"
    assert len(app.calls) == 1
    if asked == ask():
        assert json.loads(hit.body)["choices"][0]["message"]["content"] == "hi there"
        assert hit.get("content-length") == str(len(hit.body))
        assert hit.get("content-type") == "application/json"
    else:
        assert hit.body.endswith(b"data: [DONE]\n\n")
        assert (b'"total_tokens"' in hit.body) == (asked == USAGE)
        assert str(hit.get("content-type")).startswith("text/event-stream")


async def test_what_cannot_be_made_truthfully_is_a_miss_that_replaces_the_entry(
    gateway: Gateway,
) -> None:
    """Design 6: usage that the stream never carried."""
    app = ScriptedApp(sse_answer(chunks()), json_answer())
    mw = gateway(app)
    await fetch(mw, STREAM)
    got = await fetch(mw, ask())
    assert got.get("cache-status") == "routecache; fwd=miss; detail=conversion"
    assert (await fetch(mw, ask())).outcome == "HIT"
    assert (await fetch(mw, STREAM)).outcome == "HIT"
    assert len(app.calls) == 2


async def test_stored_headers_are_an_allow_list(gateway: Gateway) -> None:
    """Neither cookies nor rate limits of somebody's answer reach somebody else's."""
    headers = [
        (b"content-type", b"application/json"),
        (b"OpenAI-Version", b"2020-10-01"),
        (b"set-cookie", b"secret"),
        (b"x-request-id", b"1"),
        (b"date", b"yesterday"),
    ]
    mw = gateway(ScriptedApp(json_answer(headers=headers)))
    await fetch(mw)
    assert [name for name, _ in (await fetch(mw)).headers] == [
        b"content-type",
        b"openai-version",
        b"content-length",
        b"age",
        b"cache-status",
        b"x-routecache",
    ]


async def test_age_and_ttl_follow_the_clock(gateway: Gateway, clock: FakeClock) -> None:
    """RFC 9111 section 5.1, RFC 9211 section 2.4."""
    mw = gateway(result_ttl_s=100.0)
    await fetch(mw)
    clock.advance(40.5)
    hit = await fetch(mw)
    assert hit.get("age") == "40"
    assert hit.get("cache-status") == "routecache; hit; ttl=59; detail=memory"
    clock.advance(60)
    assert (await fetch(mw)).outcome == "MISS"


async def test_a_handler_may_veto(gateway: Gateway) -> None:
    """``scope["state"]["routecache"].no_store()`` (design 4)."""
    app = ScriptedApp(on_call=lambda call: call.scope["state"]["routecache"].no_store())
    mw = gateway(app)
    await fetch(mw)
    assert (await fetch(mw)).outcome == "MISS"
    assert mw.cache.stats().discards == {"vetoed": 2}


async def test_a_handler_may_set_the_ttl(gateway: Gateway, clock: FakeClock) -> None:
    """Shorter, longer, or none at all."""
    ttl = [5.0]
    app = ScriptedApp(on_call=lambda call: call.scope["state"]["routecache"].set_ttl(ttl[0]))
    mw = gateway(app)
    await fetch(mw)
    clock.advance(4)
    assert (await fetch(mw)).outcome == "HIT"
    clock.advance(2)
    ttl[0] = 0.0
    assert (await fetch(mw)).outcome == "MISS"
    assert (await fetch(mw)).outcome == "MISS"


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
async def test_a_ttl_that_makes_no_sense_is_the_handlers_error(
    gateway: Gateway, seconds: float
) -> None:
    """ValueError where it was set."""
    app = ScriptedApp(on_call=lambda call: call.scope["state"]["routecache"].set_ttl(seconds))
    error = await Client(gateway(app)).start().error()
    assert isinstance(error, ValueError)


async def test_a_handler_may_tag(gateway: Gateway) -> None:
    """``invalidate_tag`` then drops the answer."""
    app = ScriptedApp(on_call=lambda call: call.scope["state"]["routecache"].add_tags("a", "b"))
    mw = gateway(app)
    await fetch(mw)
    assert (await fetch(mw)).outcome == "HIT"
    await mw.cache.invalidate_tag("b")
    assert (await fetch(mw)).outcome == "MISS"


async def test_an_answer_is_stored_under_the_model_that_served(gateway: Gateway) -> None:
    """Design 10: a fallback's answer is never served as the requested model's."""
    app = ScriptedApp(on_call=lambda call: call.scope["state"]["routecache"].served_by("backup"))
    mw = gateway(app)
    await fetch(mw, ask(model="main"))
    app.on_call = None
    assert (await fetch(mw, ask(model="main"))).outcome == "MISS"
    assert mw.cache.stats().result.entries == 2


async def test_what_the_app_is_told(gateway: Gateway) -> None:
    """Outcome, query hash and tenant are in the state; nothing of them is a secret."""
    app = ScriptedApp()
    await fetch(gateway(app))
    state = app.call.scope["state"]["routecache"]
    assert state.outcome == "miss"
    assert state.bypass_reason is None
    assert len(state.query_hash) == 32
    assert len(state.tenant) == 32
    assert state.decision is None


async def test_result_caching_can_be_turned_off_as_a_whole(gateway: Gateway) -> None:
    """``result_caching=False``: every request is a bypass."""
    mw = gateway(result_caching=False)
    await fetch(mw)
    assert (await fetch(mw)).get("cache-status") == "routecache; fwd=bypass; detail=disabled"


async def test_a_broken_coordinator_costs_the_cache_and_nothing_else(gateway: Gateway) -> None:
    """Counted, forwarded with detail=coordinator-error; the answer comes through (design 10)."""
    mw = gateway()

    async def broken(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    mw.cache.engine.coordinator.fetch = broken  # type: ignore[method-assign,assignment]
    mw.cache.engine.coordinator.store = broken  # type: ignore[method-assign,assignment]
    got = await fetch(mw)
    assert got.status == 200
    assert got.get("cache-status") == "routecache; fwd=bypass; detail=coordinator-error"
    assert got.outcome == "MISS"
    stats = mw.cache.stats().result
    assert (stats.errors, stats.write_errors, stats.misses) == (1, 1, 0)


async def test_a_stream_in_odd_pieces_is_stored_whole(gateway: Gateway) -> None:
    """Events may be split anywhere between messages; empty messages mean nothing."""
    body = b"".join(chunks())
    pieces = [b"", *(body[n : n + 7] for n in range(0, len(body), 7)), b""]
    mw = gateway(ScriptedApp(sse_answer(pieces)))
    first = await fetch(mw, STREAM)
    assert [m["body"] for m in first.bodies] == [*pieces, b""]
    assert (await fetch(mw, STREAM)).body == body
