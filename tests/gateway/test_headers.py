"""Which header fields pass, and how the two connections are kept apart."""

import asyncio
import socket
from typing import Any

import httpx
import pytest

from routecache_middleware.gateway.catalogue import joined
from routecache_middleware.gateway.headers import (
    is_anthropic,
    request_fields,
    response_fields,
    without_credentials,
)
from tests.gateway.kit import CHAT, COMPLETION, KEY, gateway, running
from tests.support.raw_upstream import Arrived, RawUpstream, answer, chunk, head

VIA = b"1.1 routecache-test"


def test_what_is_of_one_connection_stays_there() -> None:
    given = [
        (b"host", b"gateway"),
        (b"connection", b"keep-alive, X-Secret"),
        (b"x-secret", b"hop"),
        (b"keep-alive", b"timeout=5"),
        (b"te", b"trailers"),
        (b"trailer", b"x"),
        (b"transfer-encoding", b"chunked"),
        (b"content-length", b"7"),
        (b"upgrade", b"websocket"),
        (b"expect", b"100-continue"),
        (b"proxy-authorization", b"Basic x"),
        (b"proxy-connection", b"keep-alive"),
        (b"x-kept", b"1"),
        (b"x-kept", b"2"),
        (b"content_length", b"9"),
    ]
    assert request_fields(given, via=VIA) == [
        (b"x-kept", b"1"),
        (b"x-kept", b"2"),
        (b"accept-encoding", b"identity"),
        (b"via", VIA),
    ]


def test_stations_add_up_and_a_chosen_encoding_stays() -> None:
    given = [(b"via", b"1.1 a"), (b"accept-encoding", b"gzip")]
    assert request_fields(given, via=VIA) == [
        (b"accept-encoding", b"gzip"),
        (b"via", b"1.1 a, " + VIA),
    ]


def test_a_length_beside_chunks_does_not_pass() -> None:
    """RFC 9112 section 6.3: chunks win, and who reads the length is fooled."""
    given = [(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"3"), (b"X-A", b"1")]
    assert response_fields(given) == [(b"x-a", b"1")]
    assert response_fields([(b"Content-Length", b"3"), (b"Date", b"x")]) == [
        (b"content-length", b"3")
    ]


def test_credentials_are_taken_out_of_header_and_query() -> None:
    fields = [(b"authorization", b"x"), (b"cookie", b"x"), (b"x-api-key", b"x"), (b"a", b"b")]
    kept = without_credentials(fields, b"key=1&alt=sse&api_key=2&access_token=3&keys=4")
    assert kept == ([(b"a", b"b")], b"alt=sse&keys=4")


def test_anthropics_requests_are_told_by_path_or_header() -> None:
    assert is_anthropic("/v1/messages", [])
    assert is_anthropic("/v1/models", [(b"anthropic-version", b"2023-06-01")])
    assert not is_anthropic("/v1/models", [(b"a", b"b")])


@pytest.mark.parametrize(
    ("base", "path", "of_anthropic", "expected"),
    [
        ("", "/v1/chat/completions", False, "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions", False, "/v1/chat/completions"),
        ("/api/v1", "/v1/models", False, "/api/v1/models"),
        ("/v1beta/openai", "/v1/chat/completions", False, "/v1beta/openai/chat/completions"),
        ("/anthropic", "/v1/messages", True, "/anthropic/v1/messages"),
        ("/anthropic", "/v1/messages", False, "/anthropic/v1/messages"),
        ("/anthropic", "/v1/models", True, "/anthropic/v1/models"),
        ("/x/v1", "/v1/messages", True, "/x/v1/messages"),
        ("/v1", "/v1", False, "/v1/v1"),
        ("/v1", "/health", False, "/v1/health"),
    ],
)
def test_a_base_url_means_what_it_means_to_the_apis_library(
    base: str,
    path: str,
    of_anthropic: bool,  # noqa: FBT001 - a parameter of the table
    expected: str,
) -> None:
    assert joined(base, path, is_anthropic=of_anthropic) == expected


def test_the_upstream_sees_its_own_host_and_the_clients_fields() -> None:
    with (
        RawUpstream(answer(COMPLETION)) as upstream,
        running(gateway(upstream=f"{upstream.url}/v1")) as client,
    ):
        client.post(
            f"{CHAT}?api-version=1%2F2&x=%20",
            json={"model": "m", "messages": []},
            headers={"authorization": f"Bearer {KEY}", "x-custom": "1"},
        )
    (arrived,) = upstream.arrived
    assert arrived.start_line == "POST /v1/chat/completions?api-version=1%2F2&x=%20 HTTP/1.1"
    assert arrived.values("host") == [f"127.0.0.1:{upstream.port}"]
    assert arrived.values("authorization") == [f"Bearer {KEY}"]
    assert arrived.values("x-custom") == ["1"]
    assert arrived.values("content-length") == [str(len(arrived.body))]
    assert arrived.values("transfer-encoding") == []
    assert arrived.values("connection") == []
    assert len(arrived.values("via")) == 1


def test_escapes_in_a_path_arrive_as_they_were() -> None:
    with (
        RawUpstream(answer(b"{}")) as upstream,
        running(gateway(upstream=upstream.url)) as client,
    ):
        url = httpx.URL(client.base_url).copy_with(raw_path=b"/v1/models/a%2Fb%20c?q=%41")
        assert client.get(url).status_code == 200
    assert upstream.arrived[0].start_line == "GET /v1/models/a%2Fb%20c?q=%41 HTTP/1.1"


SMUGGLED = [
    b"content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nX",
    b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    b"content-length: 0\r\ncontent-length: 36\r\n\r\nGET /admin HTTP/1.1\r\nhost: inner\r\n\r\n",
    b"content_length: 44\r\ncontent-length: 0\r\n\r\n",
    b"transfer_encoding: chunked\r\ncontent-length: 0\r\n\r\n",
    b"content-length: 3\r\nconnection: content-length\r\n\r\nabc",
    b"x: y\r\n transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n",
]


@pytest.mark.parametrize("rest", SMUGGLED, ids=range(len(SMUGGLED)))
def test_no_request_hides_another(rest: bytes) -> None:
    """Whatever the server makes of it, the upstream gets one request, framed in one way."""
    with RawUpstream(answer(b"{}")) as upstream, running(gateway(upstream=upstream.url)) as client:
        with socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as asking:
            asking.settimeout(1)
            asking.sendall(b"POST /v1/files HTTP/1.1\r\nhost: g\r\nx-first: 1\r\n" + rest)
            try:
                while asking.recv(65_536):
                    pass
            except TimeoutError:
                pass
        assert client.get("/v1/files").status_code == 200
    for arrived in upstream.arrived:
        framing = arrived.values("content-length") + arrived.values("transfer-encoding")
        assert len(framing) <= 1
        assert "/admin" not in arrived.start_line
        assert arrived.values("content_length") == arrived.values("transfer_encoding") == []
    assert len(upstream.arrived) <= 2 + rest.count(b"GET /admin")


def test_an_answer_with_two_lengths_is_no_answer() -> None:
    def reply(connection: socket.socket, _: Arrived) -> None:
        connection.sendall(head("200 OK", "content-length: 2", "content-length: 3") + b"{}x")

    with RawUpstream(reply) as upstream, running(gateway(upstream=upstream.url)) as client:
        assert client.get("/v1/files").status_code == 502


def test_a_compressed_answer_passes_as_it_is() -> None:
    """It is asked for only by requests that the cache takes no part in."""
    import gzip  # noqa: PLC0415 - for this test alone

    packed = gzip.compress(b'{"object": "list"}')
    reply = answer(packed, "content-encoding: gzip")
    with RawUpstream(reply) as upstream, running(gateway(upstream=upstream.url)) as client:
        assert client.get("/v1/models").json() == {"object": "list"}
    assert upstream.arrived[0].values("accept-encoding") != ["identity"]


def test_interim_answers_and_trailers_do_not_pass() -> None:
    def reply(connection: socket.socket, _: Arrived) -> None:
        connection.sendall(
            head("103 Early Hints", "link: </a>")
            + head(
                "200 OK",
                "transfer-encoding: chunked",
                "trailer: x-late",
                "connection: x-hop",
                "x-hop: 1",
            )
        )
        connection.sendall(chunk(b"{}") + b"0\r\nx-late: 1\r\n\r\n")

    with RawUpstream(reply) as upstream, running(gateway(upstream=upstream.url)) as client:
        found = client.get("/v1/files")
    assert (found.status_code, found.content) == (200, b"{}")
    assert not {"x-late", "trailer", "x-hop", "link"} & set(found.headers)


def test_what_no_upstream_could_read_is_the_clients_mistake() -> None:
    """An obsolete folded value, say, which some servers let through."""
    sent: list[Any] = []
    received: list[str] = []

    async def receive() -> Any:
        if received:
            await asyncio.Event().wait()
        received.append("http.request")
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/files",
        "raw_path": b"/v1/files",
        "query_string": b"",
        "headers": [(b"x-odd", b"a\r\nhost: inner")],
    }
    with RawUpstream(answer(b"{}")) as upstream:
        asyncio.run(gateway(upstream=upstream.url).app(scope, receive, send))
    assert upstream.arrived == []
    assert sent[0]["status"] == 400
    assert b"invalid_request" in sent[1]["body"]
