"""The administration app: every endpoint, every way to be refused, the page and its files.

What whoever asks has named themselves (a tenant or a tag to invalidate, a field that there is not)
is said back to them, and stands in the audit log: those are other names here.
"""

import json
from typing import Any

import pytest

from routecache_middleware import ModelMetadata
from routecache_middleware.admin import live
from routecache_middleware.admin.assets import FILES
from routecache_middleware.admin.routes import ROUTES
from tests.admin.kit import Admin
from tests.canary.bodies import CREDENTIALS, QUERY, chat, completion
from tests.canary.ears import Ears
from tests.canary.house import House
from tests.canary.planted import planted, prose
from tests.canary.test_outcomes import fail, fail_later
from tests.support.apps import ScriptedApp, json_answer, sse_answer
from tests.support.asgi import Response

TOKEN, READER = planted("admin token"), planted("read token")
BODY = json.dumps(chat()).encode()
HEADERS = {name.decode(): value.decode() for name, value in CREDENTIALS}
TOKENS = (TOKEN, READER, planted("wrong token"), TOKEN[:-1], f"{TOKEN} x", "")
EXPLAIN = (
    {"body": chat(), "headers": HEADERS, "query_string": QUERY.decode(), "tenant": "somebody"},
    {"body": BODY.decode(), "headers": HEADERS, "neighbour": {**chat(), "seed": 1}},
    {"body": planted("broken json"), "headers": HEADERS, "neighbour": planted("broken json")},
    {"body": [planted("prompt")]},
    {"body": chat(), "headers": {"authorization": [planted("authorization")]}},
    {"body": chat(), "headers": planted("authorization")},
    {"body": chat(), "query_string": [planted("query key")]},
    {"body": chat(), "tenant": {planted("tenant"): 1}},
    {"body": chat(), "path": planted("prompt")},
    {"body": chat(), "path": f"/{planted('prompt')}"},
    {"body": chat(), "method": [planted("prompt")]},
)
INVALIDATE = (
    {"model": "gpt-4o"},
    {"all": True, "dry_run": False},
    {"all": planted("tag")},
    {"tenant": [planted("tenant")]},
    {"tenant": {planted("tenant"): 1}},
    {"layer": planted("prompt")},
    {"entry": planted("prompt")},
    {"tag": planted("tag"), "all": True},
    {"model": "m", "tag": planted("tag"), "layer": planted("prompt")},
    {"model": "m", "older_than": planted("prompt")},
    {"model": "m", "router_version": [planted("prompt")]},
)
BODIES: dict[str, tuple[Any, ...]] = {
    "/explain": EXPLAIN,
    "/invalidate": INVALIDATE,
    "/warm": ({"models": ["m"]}, {"models": planted("prompt")}, {"models": [[planted("prompt")]]}),
}
BROKEN = (
    prose("broken json").encode(),
    json.dumps([planted("prompt")]).encode(),
    b"\xff" + planted("bytes").encode(),
    b'{"x": "' + planted("prompt").encode() + b"x" * 3_000_000,
)


@pytest.fixture
async def told(ears: Ears, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(live, "_LASTS", 1)
    stream = json.dumps({**chat(), "stream": True}).encode()
    app = ScriptedApp(json_answer(completion()), sse_answer([b"data: " + completion()]))
    async with House(ears, app) as house:
        for body in (BODY, BODY, stream, BROKEN[0]):
            await house.ask(body)
        cache, tenant = house.cache, planted("tenant")
        await cache.cache_query_result("0" * 32, "m", completion(), 1.0, tenant=tenant)
        await cache.cache_routing_decision(planted("prompt"), "m", 0.5, tenant=tenant)
        await cache.cache_model_metadata("m", {"x": prose("capabilities")}, 0, 1.0, tenant=tenant)
        await cache.get_query_result("0" * 32, "m", tenant=tenant)
        yield house, ears


def hear(ears: Ears, path: str, got: Response) -> Response:
    ears.hear(f"{path}, {got.status}", got.body)
    ears.hear(f"header of {path}", got.headers)
    return got


async def load(model: str) -> ModelMetadata:
    return ModelMetadata(model, {"x": prose("capabilities")})


@pytest.mark.parametrize("loader", [None, load, fail_later])
async def test_every_endpoint(told: Any, loader: Any) -> None:
    house, ears = told
    given = {"token": TOKEN, "read_token": READER, "requests_per_s": 1e6}
    admin = Admin(house.cache, settings=given, load=loader)
    seen = set()
    for row in ROUTES:
        for token in TOKENS:
            if row.method == "POST":
                for body in (*BODIES[row.path], *BROKEN):
                    got = await admin.post(row.path, body, token=token)
                    seen.add(hear(ears, row.path, got).status)
                kind = b"text/" + planted("bytes").encode()
                got = await admin.post(row.path, BODY, token=token, content_type=kind)
                hear(ears, row.path, got)
                continue
            for path in await _paths(admin, row.path):
                got = await admin.get(path, token=token, headers=CREDENTIALS[1:])
                seen.add(hear(ears, row.path, got).status)
    accept = (b"accept", b"application/openmetrics-text")
    hear(ears, "/metrics", await admin.get("/metrics", token=TOKEN, headers=[accept]))
    for path in (*FILES, "/openapi.json", "/elsewhere", "/assets/door.json", "/assets/x"):
        for token in TOKENS:
            hear(ears, path, await admin.get(path, token=token))
    assert {200, 400, 401, 403, 404, 413} <= seen


async def _paths(admin: Admin, path: str) -> list[str]:
    if "{entry}" not in path:
        wrong = f"{path}?limit={planted('prompt')}&layer={planted('prompt')}&window=1h&since=x"
        layers = [f"{path}?layer={one}" for one in ("route", "result", "meta")]
        return [path, wrong, *(layers if path == "/entries" else [])]
    rows = json.loads((await admin.get("/entries", token=TOKEN)).body)["entries"]
    rows += json.loads((await admin.get("/entries?layer=meta", token=TOKEN)).body)["entries"]
    assert rows
    return [path.replace("{entry}", row["id"]) for row in [*rows, {"id": "none"}]]


async def test_endpoints_that_fail(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults of ours, whatever they quote: the name of their class is all that is said."""
    house, ears = told
    admin = Admin(house.cache, settings={"token": TOKEN, "read_token": "", "requests_per_s": 1e6})
    for name in ("stats", "total_metrics", "cluster_stats", "savings", "explain", "invalidate_all"):
        with monkeypatch.context() as patched:
            is_sync = name in {"stats", "savings"}
            patched.setattr(type(house.cache), name, fail if is_sync else fail_later)
            for row in ROUTES:
                path = row.path.replace("{entry}", "none")
                if row.method == "GET":
                    hear(ears, path, await admin.get(path, token=TOKEN))
                else:
                    hear(ears, path, await admin.post(path, BODIES[path][1], token=TOKEN))
    sections = {"more": fail}
    other = Admin(house.cache, settings={"token": TOKEN, "read_token": ""}, sections=sections)
    hear(ears, "/stats", await other.get("/stats", token=TOKEN))
    assert [one for one in ears.records if "failed with RaisedError" in one.getMessage()]


async def test_clients_that_are_refused_again_and_again(told: Any) -> None:
    house, ears = told
    admin = Admin(house.cache, settings={"token": TOKEN, "read_token": READER})
    seen = {
        hear(ears, "/stats", await admin.get("/stats", token=planted("wrong token"))).status
        for _ in range(60)
    }
    assert seen == {401, 429}
    foreign = [(b"origin", f"https://{planted('identity')}.example".encode())]
    hear(ears, "/stats", await admin.get("/stats", token=TOKEN, headers=foreign))
