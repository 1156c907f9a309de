"""Gemini through the middleware: the path says the form, one entry serves all of them."""

import json
from typing import Any

import pytest

from tests.adapters.conftest import Gateway
from tests.support.apps import Answer, ScriptedApp, json_answer, sse_answer
from tests.support.asgi import Response, fetch
from tests.support.wire import FIXTURES, files, names_of_pairs

NAME = "gemini"
BASE = "/v1beta/models/gemini-2.5-flash"
KEY = (b"x-goog-api-key", b"key-1")
FORMS = {
    "json": (f"{BASE}:generateContent", b""),
    "stream": (f"{BASE}:streamGenerateContent", b"alt=sse"),
    "array": (f"{BASE}:streamGenerateContent", b""),
}


def ask(choices: int = 1, **fields: object) -> bytes:
    config = {"temperature": 0, "candidateCount": choices}
    contents = [{"role": "user", "parts": [{"text": "hi"}]}]
    return json.dumps({"contents": contents, "generationConfig": config, **fields}).encode()


def sent(body: bytes, *, is_stream: bool) -> Answer:
    pieces = [body[start : start + 100] for start in range(0, len(body), 100)]
    return sse_answer(pieces) if is_stream else json_answer(body)


async def asked(mw: Any, form: str, body: bytes, **more: Any) -> Response:
    path, query = FORMS[form]
    return await fetch(mw, body, path=path, query_string=query, headers=[KEY], **more)


@pytest.mark.parametrize("is_stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("name", names_of_pairs(NAME))
async def test_one_answer_serves_every_form(
    gateway: Gateway,
    name: str,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    folder = FIXTURES / NAME / "answers"
    whole, stream = (folder / f"{name}.json").read_bytes(), (folder / f"{name}.sse").read_bytes()
    body = ask(2 if name == "two_candidates" else 1)
    app = ScriptedApp(sent(stream if is_stream else whole, is_stream=is_stream))
    mw = gateway(app)
    form, other = ("stream", "json") if is_stream else ("json", "stream")
    live, hit = await asked(mw, form, body), await asked(mw, form, body)
    converted, array = await asked(mw, other, body), await asked(mw, "array", body)
    assert [got.outcome for got in (live, hit, converted, array)] == ["MISS", *["HIT"] * 3]
    assert live.body == hit.body == (stream if is_stream else whole)
    events = [json.loads(chunk) for chunk in array.body[1:-1].split(b",\r\n")]
    if is_stream:
        assert json.loads(converted.body) == json.loads(whole)
        assert len(events) == stream.count(b"data:")
    else:
        assert json.loads(converted.body.removeprefix(b"data: ")) == json.loads(whole)
        assert events == [json.loads(whole)]
    assert (array.get("content-type") or "").startswith("application/json")
    assert len(app.calls) == 1


async def test_what_cannot_be_told_as_json_is_asked_for_again(gateway: Gateway) -> None:
    """And then the JSON serves both."""
    path = next(path for path in files(NAME, "streams") if path.stem == "thinking")
    whole = (FIXTURES / NAME / "answers" / "short.json").read_bytes()
    answers = sent(path.read_bytes(), is_stream=True), sent(whole, is_stream=False)
    app = ScriptedApp(*answers)
    mw = gateway(app)
    assert (await asked(mw, "stream", ask())).outcome == "MISS"
    got = [await asked(mw, form, ask()) for form in ("json", "json", "stream")]
    assert [response.outcome for response in got] == ["MISS", "HIT", "HIT"]
    assert got[0].body == got[1].body == whole
    assert len(app.calls) == 2


async def test_an_array_is_kept_as_it_is(gateway: Gateway) -> None:
    chunk = (FIXTURES / NAME / "answers" / "text.json").read_bytes()
    app = ScriptedApp(json_answer(b"[" + chunk + b"]"))
    mw = gateway(app)
    got = [await asked(mw, form, ask()) for form in ("array", "array", "json", "stream")]
    assert [response.outcome for response in got] == ["MISS", "HIT", "HIT", "HIT"]
    assert got[0].body == got[1].body
    assert json.loads(got[2].body) == json.loads(chunk)


async def test_what_the_body_says_of_the_form_counts_for_nothing(gateway: Gateway) -> None:
    whole = (FIXTURES / NAME / "answers" / "text.json").read_bytes()
    mw = gateway(ScriptedApp(json_answer(whole)))
    got = [await asked(mw, "json", ask(stream=said)) for said in (True, "stream", "array")]
    assert [response.outcome for response in got] == ["MISS"] * 3  # fields that nobody knows
    assert (await asked(mw, "json", ask(stream="array"))).body == whole


@pytest.mark.parametrize("query", [b"alt=proto", b"alt=sse&alt=json", b"alt=%73se"])
async def test_other_forms_pass(gateway: Gateway, query: bytes) -> None:
    mw = gateway(ScriptedApp(json_answer(b"[]")))
    path = FORMS["stream"][0]
    got = await fetch(mw, ask(), path=path, query_string=query, headers=[KEY])
    assert (got.outcome, got.body) == ("BYPASS", b"[]")
    assert got.get("cache-status") == "routecache; fwd=bypass; detail=content-type"


async def test_a_stream_in_answer_to_a_request_for_json_is_not_kept(gateway: Gateway) -> None:
    """Gateways may send one whatever ``alt`` says."""
    stream = (FIXTURES / NAME / "answers" / "text.sse").read_bytes()
    mw = gateway(ScriptedApp(sent(stream, is_stream=True)))
    for _ in range(2):
        got = await asked(mw, "array", ask())
        assert (got.outcome, got.body) == ("MISS", stream)
    assert mw.cache.stats().discards == {"content-type": 2}


@pytest.mark.parametrize("path", files(NAME, "discarded"), ids=lambda path: path.name)
async def test_what_must_not_be_stored_is_asked_for_again(gateway: Gateway, path: Any) -> None:
    is_stream = path.suffix == ".sse"
    app = ScriptedApp(sent(path.read_bytes(), is_stream=is_stream))
    mw = gateway(app)
    for _ in range(2):
        got = await asked(mw, "stream" if is_stream else "json", ask())
        assert (got.outcome, got.body) == ("MISS", path.read_bytes())
    assert len(app.calls) == 2


@pytest.mark.parametrize("form", FORMS)
async def test_keys_and_projects_are_never_mixed(gateway: Gateway, form: str) -> None:
    """A key in the query is a credential as much as one in the header; so is a project's name."""
    whole = (FIXTURES / NAME / "answers" / "text.json").read_bytes()
    path, query = FORMS[form]
    answer = {"json": whole, "array": b"[%b]" % whole}.get(form, b"")
    if form == "stream":
        answer = (FIXTURES / NAME / "answers" / "text.sse").read_bytes()
    mw = gateway(ScriptedApp(sent(answer, is_stream=form == "stream")))
    project = (b"x-goog-user-project", b"p")
    callers: list[tuple[bytes, list[tuple[bytes, bytes]]]] = [
        (b"", [KEY]),
        (b"", [(b"x-goog-api-key", b"key-2")]),
        (b"", [KEY, project]),
        (b"key=key-1", []),
        (b"key=key-2", []),
        (b"key=key-2&access_token=t", []),
    ]
    outcomes = []
    for said, headers in callers * 2:
        both = b"&".join(part for part in (query, said) if part)
        got = await fetch(mw, ask(), path=path, query_string=both, headers=headers)
        outcomes.append(got.outcome)
    assert outcomes == ["MISS"] * len(callers) + ["HIT"] * len(callers)
    nobody = await fetch(mw, ask(), path=path, query_string=query, headers=[])
    assert nobody.get("cache-status") == "routecache; fwd=bypass; detail=no-principal"


async def test_another_model_or_service_is_another_entry(gateway: Gateway) -> None:
    whole = (FIXTURES / NAME / "answers" / "text.json").read_bytes()
    app = ScriptedApp(json_answer(whole))
    mw = gateway(app)
    for path in (f"{BASE}:generateContent", "/v1/models/gemini-2.5-flash:generateContent"):
        assert (await fetch(mw, ask(), path=path)).outcome == "MISS"
        assert (await fetch(mw, ask(), path=path.replace("flash", "pro"))).outcome == "MISS"
    assert len(app.calls) == 4
    await mw.cache.invalidate_model("gemini-2.5-pro")
    got = [
        await fetch(mw, ask(), path=f"{BASE.replace('flash', model)}:generateContent")
        for model in ("flash", "pro")
    ]
    assert [response.outcome for response in got] == ["HIT", "MISS"]
