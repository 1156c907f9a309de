"""What ``GET /v1/models`` lists, and ``GET /routecache/health``."""

import gzip
import json
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from routecache_middleware.gateway.health import StoreState, store_state
from routecache_middleware.gateway.model_list import Merging
from routecache_middleware.gateway.settings import ModelSettings, RouteSettings
from tests.admin.kit import TOKEN
from tests.gateway.kit import COMPLETION, KEY, chat, gateway, running
from tests.support.raw_upstream import RawUpstream, answer

LIST: dict[str, Any] = {
    "object": "list",
    "first_id": "gpt-4o",
    "data": [{"id": "gpt-4o", "owned_by": "openai"}, {"id": "own", "owned_by": "openai"}],
}
OWN: dict[str, Any] = {
    "models": (ModelSettings(name="own", rename="gpt-4o"), ModelSettings(name="x-*")),
    "routes": (RouteSettings(alias="auto", model="own"),),
}


def listed(reply: Any, **settings: Any) -> tuple[httpx.Response, RawUpstream]:
    with (
        RawUpstream(reply) as upstream,
        running(gateway(upstream=upstream.url, **settings)) as client,
    ):
        return client.get("/v1/models"), upstream


def test_names_of_ones_own_stand_before_those_of_the_upstream() -> None:
    body = json.dumps(LIST).encode()
    found, upstream = listed(answer(body, 'etag: "1"', "x-from: one"), **OWN)
    told = found.json()
    assert [model["id"] for model in told["data"]] == ["auto", "own", "gpt-4o"]
    assert told["data"][1]["owned_by"] == "routecache", "it is not what the upstream calls so"
    assert (told["object"], told["first_id"]) == ("list", "auto")
    assert found.headers["x-from"] == "one"
    assert "etag" not in found.headers
    assert upstream.arrived[0].values("accept-encoding") in ([], ["identity"])


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"data": 1}', b'{"data": null}', b"[" * 100_000, b""]
)
def test_a_list_that_cannot_be_understood_passes_as_it_is(body: bytes) -> None:
    found, _ = listed(answer(body), **OWN)
    assert found.content == body


def test_a_compressed_list_passes_as_it_is() -> None:
    packed = gzip.compress(json.dumps(LIST).encode())
    found, _ = listed(answer(packed, "content-encoding: gzip"), **OWN)
    assert found.json() == LIST


def test_a_refusal_passes_as_it_is() -> None:
    found, _ = listed(answer(b'{"error": {}}', status="401 Unauthorized"), **OWN)
    assert (found.status_code, found.json()) == (401, {"error": {}})


def test_without_names_of_ones_own_nothing_is_touched() -> None:
    body = json.dumps(LIST, indent=3).encode()
    found, _ = listed(answer(body, 'etag: "1"'))
    assert (found.content, found.headers["etag"]) == (body, '"1"')


async def test_a_list_that_has_no_end_is_not_kept() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    merging = Merging(("own",), send)
    await merging({"type": "http.response.start", "status": 200, "headers": []})
    piece = b"x" * 1024 * 1024
    for _ in range(6):
        await merging({"type": "http.response.body", "body": piece, "more_body": True})
    await merging({"type": "http.response.body", "body": b"", "more_body": False})
    assert sum(len(message.get("body", b"")) for message in sent) == 6 * len(piece)
    assert [message.get("more_body") for message in sent] == [None, True, True, False]


@pytest.mark.parametrize("admin", [False, True])
def test_anybody_may_ask_whether_it_takes_requests(*, admin: bool) -> None:
    environ = {"CLIENTS": KEY, "ROUTECACHE_ADMIN_TOKEN": TOKEN}
    made = gateway(environ, upstream="http://127.0.0.1:1", client_keys_env="CLIENTS", admin=admin)
    with running(made) as client:
        found = client.get("/routecache/health")
        assert (found.status_code, found.json()) == (200, {"status": "ok", "store": "up"})
        head = client.head("/routecache/health")
        assert (head.status_code, head.content) == (200, b"")
        assert client.post("/routecache/health").status_code in {401, 405}
        assert client.get("/v1/models").status_code == 401


@pytest.mark.parametrize(
    ("reading", "writing", "state"),
    [
        (True, True, StoreState.UP),
        (False, True, StoreState.DEGRADED),
        (True, False, StoreState.DEGRADED),
        (False, False, StoreState.DOWN),
    ],
)
def test_the_stores_state_is_told_apart(*, reading: bool, writing: bool, state: str) -> None:
    coordinator: Any = SimpleNamespace(is_reading=reading, is_writing=writing)
    assert store_state(coordinator) is state


def test_a_gateway_whose_store_is_down_is_well_and_says_so() -> None:
    with (
        RawUpstream(answer(COMPLETION)) as upstream,
        running(gateway(upstream=upstream.url, store="redis://127.0.0.1:1/0?near=false")) as client,
    ):
        for number in range(4):
            assert chat(client, str(number)).status_code == 200
        found = client.get("/routecache/health")
        assert (found.status_code, found.json()) == (200, {"status": "ok", "store": "down"})
