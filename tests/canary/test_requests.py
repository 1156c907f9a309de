"""Every API, with canaries in all it says: misses, hits, conversions, what is not kept."""

import json
from typing import Any

import pytest

from routecache_middleware.dialects.table import DIALECTS
from tests.canary.bodies import APIS, Api, Json, answers
from tests.canary.ears import Ears
from tests.canary.house import House
from tests.canary.planted import leaks, planted
from tests.support.apps import ScriptedApp, json_answer

DIALECT = pytest.mark.parametrize("dialect", DIALECTS)


def test_there_is_something_of_every_api() -> None:
    assert set(APIS) == set(DIALECTS)
    for name, api in APIS.items():
        assert leaks(json.dumps(api.asks)), name
        assert any(leaks(body.decode("latin-1")) for body in api.answers.values()), name


def forms(dialect: str, api: Api, ask: Json) -> dict[str, tuple[bytes, dict[str, Any]]]:
    """Return a request for JSON, and one for a stream."""
    if dialect == "gemini":
        body = json.dumps(ask).encode()
        streamed = api.path.replace(":generateContent", ":streamGenerateContent")
        return {"json": (body, {"path": api.path}), "stream": (body, {"path": streamed})}
    where = {"path": api.path}
    streaming = {} if dialect in {"openai.embeddings", "rerank"} else {"stream": True}
    return {
        "json": (json.dumps({**ask, "stream": False} if streaming else ask).encode(), where),
        "stream": (json.dumps(ask | streaming).encode(), where),
    }


@DIALECT
async def test_every_answer_to_a_request(dialect: str, ears: Ears) -> None:
    """Asked for twice in each form: a miss, hits, conversions, or nothing of it is kept."""
    api, outcomes = APIS[dialect], set()
    for name, answer in answers(dialect):
        async with House(ears, ScriptedApp(answer)) as house:
            first, second = forms(dialect, api, api.asks[0]).values()
            if name.endswith(".sse"):
                first, second = second, first
            for body, where in (first, first, second, second):
                await house.ask(body, **where)
            explained = await house.middleware.explain(
                body=first[0], path=api.path, headers=house.client(b"").scope["headers"]
            )
            ears.hear("explanation", explained)
            outcomes |= {*house.outcomes}
    assert {"MISS", "HIT"} <= outcomes


@DIALECT
async def test_every_request_of_the_fixtures(dialect: str, ears: Ears) -> None:
    api = APIS[dialect]
    for number, ask in enumerate(api.asks):
        _, answer = next(iter(answers(dialect)))
        async with House(ears, ScriptedApp(answer)) as house:
            for body, where in forms(dialect, api, ask).values():
                await house.ask(body, **where)
                await house.ask(body, **where)
                neighbour = json.dumps(api.asks[number - 1]).encode()
                told = {"headers": house.client(b"").scope["headers"], "path": where["path"]}
                for other in (None, neighbour, b"{", planted("broken json").encode()):
                    ears.hear(
                        "explanation",
                        await house.middleware.explain(body=body, neighbour=other, **told),
                    )


BROKEN = {
    "cut off": b'{"model": "m", "messages": "' + planted("broken json").encode(),
    "no object": json.dumps([planted("broken json")]).encode(),
    "twice": f'{{"{planted("broken json")}": 1, "{planted("broken json")}": 2}}'.encode(),
    "no number": b'{"model": "m", "' + planted("broken json").encode() + b'": 1e999}',
    "surrogate": b'{"model": "m", "x": "\\ud800' + planted("broken json").encode() + b'"}',
    "not UTF-8": b'{"model": "\xff\xfe' + planted("bytes").encode() + b'"}',
    "UTF-16": json.dumps({"model": planted("broken json")}).encode("utf-16"),
    "deep": b'{"' + planted("broken json").encode() + b'": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "long number": b'{"' + planted("broken json").encode() + b'": ' + b"9" * 6000 + b"}",
    "model is none": json.dumps({"model": {planted("broken json"): 1}, "messages": []}).encode(),
    "text": planted("broken json").encode(),
    "nothing": b"",
}


@DIALECT
@pytest.mark.parametrize("name", BROKEN)
async def test_bodies_that_cannot_be_read(dialect: str, name: str, ears: Ears) -> None:
    async with House(ears, ScriptedApp(json_answer(planted("error text").encode()))) as house:
        path = APIS[dialect].path
        await house.ask(BROKEN[name], path=path)
        told = {"headers": house.client(b"").scope["headers"], "path": path}
        ears.hear("explanation", await house.middleware.explain(body=BROKEN[name], **told))


@DIALECT
async def test_bodies_that_are_too_large_encoded_or_of_another_type(
    dialect: str, ears: Ears
) -> None:
    api = APIS[dialect]
    body = json.dumps(api.asks[0]).encode()
    app = ScriptedApp(json_answer(planted("completion").encode()))
    async with House(ears, app, max_request_bytes=50) as house:
        await house.ask(body, path=api.path)
        await house.ask(body, path=api.path, headers=[(b"content-encoding", b"gzip")])
        await house.ask(body, path=api.path, content_type=b"text/" + planted("bytes").encode())
        assert house.outcomes == ["BYPASS"] * 3
    assert len(app.calls) == 3
