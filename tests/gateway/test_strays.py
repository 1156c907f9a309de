"""What a client, or an upstream, does that nobody should: it leads nowhere, and harms nobody."""

import contextlib
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from routecache_middleware.gateway.headers import without_named
from routecache_middleware.gateway.settings import ModelSettings
from tests.gateway.kit import CHAT, COMPLETION, KEY, chat, gateway, running
from tests.support.raw_upstream import Arrived, RawUpstream, answer, head

BODY = b'{"model": "m", "messages": []}'
LARGE = b" " * 1_100_000 + BODY  # larger than the cache reads


def exchange(client: httpx.Client, request: bytes) -> bytes:
    """Send bytes, and return what comes until the server closes."""
    found = b""
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as asking:
        asking.settimeout(5)
        asking.sendall(request)
        with contextlib.suppress(TimeoutError):
            while piece := asking.recv(65_536):
                found += piece
    return found


@contextmanager
def deaf() -> Iterator[str]:
    """Give the URL of a server whose queue is full: connecting to it takes for ever."""
    with ExitStack() as held:
        server = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("base", ["", "/team-a/v1"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/../../other-team/v1/files",
        "/v1/%2e%2E/%2e./secret",
        "/v1/files/..",
        "/v1/./files",
        "/v1/a%2F..%2F..%2Fsecret",
        "*",
    ],
)
def test_no_path_leads_out_of_the_base_url(path: str, base: str) -> None:
    """The key that the gateway adds may be meant for what is below that alone."""
    with (
        RawUpstream(answer(b"{}")) as upstream,
        running(gateway(upstream=upstream.url + base)) as client,
    ):
        line = f"OPTIONS {path} HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n"
        found = exchange(client, line.encode())
    assert found.startswith(b"HTTP/1.1 400")
    assert b"invalid_path" in found
    assert upstream.arrived == []


def test_dots_inside_of_names_are_no_steps() -> None:
    with RawUpstream(answer(b"{}")) as upstream, running(gateway(upstream=upstream.url)) as client:
        for path in ("/v1/models/gpt-4.1", "/v1/files/.hidden", "/v1/files/...", "/v1/a..b"):
            assert client.get(path).status_code == 200
    assert len(upstream.arrived) == 4


def test_what_a_connection_names_is_in_no_key_either() -> None:
    """Else an answer made without a field would be kept for those who mean it."""
    headers = {"authorization": f"Bearer {KEY}", "openai-organization": "org-1"}
    with (
        RawUpstream(answer(COMPLETION)) as upstream,
        running(gateway(upstream=upstream.url)) as client,
    ):
        hidden = chat(client, headers=headers | {"connection": "keep-alive, OpenAI-Organization"})
        meant = chat(client, headers=headers)
    assert hidden.headers["x-routecache"] == meant.headers["x-routecache"] == "MISS"
    seen = [arrived.values("openai-organization") for arrived in upstream.arrived]
    assert seen == [[], ["org-1"]]


def test_a_header_without_such_fields_stays_the_same_one() -> None:
    plain = [(b"connection", b"keep-alive, te, absent"), (b"te", b"trailers"), (b"a", b"b")]
    assert without_named(plain) is None
    assert without_named([*plain, (b"absent", b"")]) == plain


@pytest.mark.parametrize("status", ["600 Odd", "999 Odd", "101 Switching Protocols"])
def test_a_status_that_there_is_not_is_a_502(status: str) -> None:
    def reply(connection: socket.socket, _: Arrived) -> None:
        connection.sendall(head(status, "content-length: 0"))

    with RawUpstream(reply) as upstream, running(gateway(upstream=upstream.url)) as client:
        found = chat(client)
        assert found.status_code == 502
        assert found.json()["error"]["code"] == "upstream_unreachable"
        upstream.reply = answer(COMPLETION)
        assert chat(client).status_code == 200


def test_an_upstream_that_takes_no_connection_is_stood_in_for() -> None:
    """As most machines that are down are: nothing comes back at all."""
    with deaf() as url, RawUpstream(answer(COMPLETION)) as spare:
        tables = (
            ModelSettings(name="best", base_url=url, fallbacks=("spare",)),
            ModelSettings(name="spare", base_url=spare.url),
            ModelSettings(name="alone", base_url=url),
        )
        with running(gateway(models=tables, connect_timeout_s=0.2)) as client:
            assert chat(client, model="best").status_code == 200
            alone = chat(client, model="alone")
    assert alone.status_code == 504
    assert alone.json()["error"]["type"] == "timeout_error"


def test_what_was_passed_on_piece_by_piece_is_not_sent_again() -> None:
    """There is nothing left of it: a stand-in would get an empty body."""
    path = "/openai/deployments/gpt/chat/completions"
    with (
        RawUpstream(answer(b"{}", status="503 Down")) as one,
        RawUpstream(answer(COMPLETION)) as two,
    ):
        tables = (
            ModelSettings(name="gpt", base_url=one.url, fallbacks=("second",)),
            ModelSettings(name="second", base_url=two.url, rename="gpt"),
        )
        with running(gateway(models=tables)) as client:
            in_pieces = client.post(path, content=iter([LARGE[:9], LARGE[9:]]))
            whole = client.post(path, content=LARGE, headers={"content-type": "application/json"})
    assert in_pieces.status_code == 503
    assert whole.status_code == 200
    assert [arrived.body for arrived in one.arrived] == [LARGE, LARGE]
    assert [arrived.body for arrived in two.arrived] == [LARGE]


def test_credentials_that_a_connection_names_open_nothing() -> None:
    with RawUpstream(answer(COMPLETION)) as upstream:
        made = gateway(upstream=upstream.url)
        headers = {"authorization": f"Bearer {KEY}", "connection": "authorization"}
        with running(made) as client:
            assert chat(client).headers["x-routecache"] == "MISS"
            found = client.post(CHAT, json={"model": "m", "messages": []}, headers=headers)
    assert found.headers["x-routecache"] == "BYPASS"
    assert upstream.arrived[-1].values("authorization") == []
