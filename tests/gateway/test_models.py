"""Several upstreams: who serves which model, under which name and key, and who stands in."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway.kit import COMPLETION, KEY, chat, gateway, running, stored_by
from tests.support.raw_upstream import Arrived, RawUpstream, answer

FAILS = answer(b'{"error": {"message": "down"}}', status="503 Down")


@pytest.fixture
def one() -> Iterator[RawUpstream]:
    with RawUpstream(answer(COMPLETION, "x-from: one")) as upstream:
        yield upstream


@pytest.fixture
def two() -> Iterator[RawUpstream]:
    with RawUpstream(answer(COMPLETION, "x-from: two")) as upstream:
        yield upstream


def body_of(upstream: RawUpstream) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(upstream.arrived[-1].body)
    return found


def models(*tables: dict[str, Any]) -> Any:
    from routecache_middleware.gateway.settings import ModelSettings  # noqa: PLC0415

    return tuple(ModelSettings(**table) for table in tables)


def test_each_model_has_its_upstream_key_and_name(one: RawUpstream, two: RawUpstream) -> None:
    made = gateway(
        environ={"KEY_ONE": "sk-one", "CLIENTS": KEY},
        client_keys_env="CLIENTS",
        models=models(
            {"name": "gpt-*", "base_url": f"{one.url}/v1", "api_key_env": "KEY_ONE"},
            {"name": "claude", "base_url": two.url, "rename": "claude-4"},
        ),
    )
    with running(made) as client:
        first = chat(client, model="gpt-5-mini")
        second = chat(client, model="claude")
        again = chat(client, model="claude")
        none = chat(client, model="other")
        listed = client.get("/v1/models", headers={"authorization": f"Bearer {KEY}"}).json()
    assert first.headers["x-from"] == "one"
    assert second.headers["x-from"] == "two"
    assert again.headers["x-routecache"] == "HIT"
    assert body_of(one)["model"] == "gpt-5-mini"
    assert body_of(two)["model"] == "claude-4"
    assert one.arrived[0].values("authorization") == ["Bearer sk-one"]
    assert two.arrived[0].values("authorization") == []  # the client's key is the gateway's alone
    assert none.status_code == 404
    assert none.json()["error"]["code"] == "model_not_found"
    assert "claude" in none.json()["error"]["message"]
    assert [model["id"] for model in listed["data"]] == ["claude"]


def test_anthropics_api_gets_the_key_in_its_own_field(one: RawUpstream) -> None:
    made = gateway(environ={"K": "sk-ant"}, upstream=one.url, api_key_env="K")
    with running(made) as client:
        client.post(
            "/v1/messages?key=mine",
            json={"model": "m", "messages": [], "max_tokens": 1},
            headers={"x-api-key": KEY, "authorization": "Bearer x", "cookie": "a=b"},
        )
    (arrived,) = one.arrived
    assert arrived.values("x-api-key") == ["sk-ant"]
    assert arrived.values("authorization") == arrived.values("cookie") == []
    assert "?" not in arrived.start_line


@pytest.mark.parametrize("fails", ["status", "rate", "connect", "breaks off"])
def test_a_model_that_fails_is_stood_in_for_and_the_answer_is_the_other_ones(
    one: RawUpstream, two: RawUpstream, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(connection: socket.socket, _: Arrived) -> None:
        connection.shutdown(socket.SHUT_RDWR)

    one.reply = {"rate": answer(b"{}", status="429 Slow"), "breaks off": broken}.get(fails, FAILS)
    url = one.url
    if fails == "connect":
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    made = gateway(
        models=models(
            {"name": "best", "base_url": url, "fallbacks": ["spare"]},
            {"name": "spare", "base_url": two.url, "rename": "spare-1"},
        )
    )
    stored = stored_by(made, monkeypatch)
    with running(made) as client:
        found = chat(client, model="best")
        same = chat(client, model="best")
    assert found.status_code == same.status_code == 200
    assert body_of(two)["model"] == "spare-1"
    # Stored as what it is: an answer of the spare model, and not of the best.
    assert same.headers["x-routecache"] == "MISS"
    assert [entry.model_id for entry in stored] == ["spare", "spare"]


def test_when_all_fail_the_last_one_is_heard(
    one: RawUpstream, two: RawUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    one.reply = answer(b"{}", status="429 Slow")
    two.reply = FAILS
    made = gateway(
        models=models(
            {"name": "a", "base_url": one.url, "fallbacks": ["b"]},
            {"name": "b", "base_url": two.url},
        )
    )
    with running(made) as client:
        found = chat(client, model="a")
    assert found.status_code == 503
    assert found.json()["error"]["message"] == "down"
    host, other = one.url.partition("//")[2], two.url.partition("//")[2]
    assert f"{host} failed (status 429); asking {other} instead" in caplog.text
    assert (len(one.arrived), len(two.arrived)) == (1, 1)


def test_a_wrong_request_is_not_asked_again_elsewhere(one: RawUpstream, two: RawUpstream) -> None:
    one.reply = answer(b'{"error": {}}', status="400 Bad")
    made = gateway(
        models=models(
            {"name": "a", "base_url": one.url, "fallbacks": ["b"]},
            {"name": "b", "base_url": two.url},
        )
    )
    with running(made) as client:
        assert chat(client, model="a").status_code == 400
    assert two.arrived == []


def test_vectors_of_another_model_are_no_stand_in(one: RawUpstream, two: RawUpstream) -> None:
    one.reply = FAILS
    made = gateway(
        models=models(
            {"name": "a", "base_url": one.url, "fallbacks": ["b"]},
            {"name": "b", "base_url": two.url},
        )
    )
    with running(made) as client:
        found = client.post(
            "/v1/embeddings",
            json={"model": "a", "input": "x"},
            headers={"authorization": f"Bearer {KEY}"},
        )
    assert found.status_code == 503
    assert two.arrived == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"model": "a", "model": "b"}', "application/json"),
        (b"not json", "application/json"),
        (b"\xff", "application/json"),
        (b"{}", "application/json"),
        (b'{"model": 7}', "application/json"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
    ],
)
def test_what_names_no_model_goes_where_the_rest_goes_or_nowhere(
    one: RawUpstream, body: bytes, kind: str
) -> None:
    tables = models({"name": "a", "base_url": "http://127.0.0.1:1"})
    headers = {"content-type": kind, "authorization": f"Bearer {KEY}"}
    with running(gateway(upstream=one.url, models=tables)) as client:
        assert client.post("/v1/chat/completions", content=body, headers=headers).is_success
    assert one.arrived[0].body == body
    with running(gateway(models=tables)) as client:
        found = client.post("/v1/chat/completions", content=body, headers=headers)
    assert found.status_code == 404


def test_a_large_body_is_read_in_a_thread_and_renamed(one: RawUpstream) -> None:
    tables = models({"name": "a", "base_url": one.url, "rename": "b"})
    with running(gateway(models=tables)) as client:
        assert chat(client, "x" * 2_000_000, model="a").status_code == 200
    assert body_of(one)["model"] == "b"


def test_a_body_too_large_to_be_read_is_refused(
    one: RawUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routecache_middleware.gateway.body.MAX_READ_BYTES", 1000)
    with running(gateway(models=models({"name": "a", "base_url": one.url}))) as client:
        found = chat(client, "x" * 2_000_000, model="a")
    assert found.status_code == 413
    assert one.arrived == []


def test_a_model_that_the_path_names_keeps_its_name(one: RawUpstream, two: RawUpstream) -> None:
    one.reply = FAILS
    tables = models(
        {"name": "renamed", "base_url": one.url, "rename": "other"},
        {"name": "plain", "base_url": one.url, "fallbacks": ["renamed"]},
    )
    headers = {"authorization": f"Bearer {KEY}"}
    with running(gateway(models=tables)) as client:
        path = "/openai/deployments/{}/chat/completions"
        refused = client.post(path.format("renamed"), json={"messages": []}, headers=headers)
        failed = client.post(path.format("plain"), json={"messages": []}, headers=headers)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "model_in_path"
    assert failed.status_code == 503
    assert len(one.arrived) == 1
    assert two.arrived == []


def test_a_model_without_an_address_is_at_the_default_upstream(one: RawUpstream) -> None:
    made = gateway(
        environ={"A": "sk-a", "B": "sk-b"},
        upstream=one.url,
        api_key_env="A",
        models=models({"name": "a", "api_key_env": "B"}, {"name": "b", "rename": "c"}),
    )
    with running(made) as client:
        for model in ("a", "b", "z"):
            chat(client, model=model)
    assert [a.values("authorization") for a in one.arrived] == [
        ["Bearer sk-b"],
        ["Bearer sk-a"],
        ["Bearer sk-a"],
    ]
