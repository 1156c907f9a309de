"""The proxy over real connections: what passes, when, and what becomes of trouble."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.gateway.kit import CHAT, COMPLETION, KEY, chat, gateway, running
from tests.support.raw_upstream import Arrived, RawUpstream, answer, chunk, head

SSE = ("content-type: text/event-stream", "transfer-encoding: chunked")


def test_an_answer_passes_as_it_is_and_comes_from_the_cache_the_second_time() -> None:
    reply = answer(COMPLETION, "x-request-id: r-1", "Server: llm")
    with RawUpstream(reply) as upstream, running(gateway(upstream=upstream.url)) as client:
        first, second = chat(client), chat(client)
    assert first.content == second.content == COMPLETION
    assert first.headers["x-routecache"] == "MISS"
    assert second.headers["x-routecache"] == "HIT"
    assert first.headers["x-request-id"] == "r-1"
    assert "llm" in first.headers.get_list("server")
    assert len(first.headers.get_list("date")) == 1
    assert len(upstream.arrived) == 1


def test_pieces_of_a_stream_pass_one_by_one() -> None:
    """The upstream writes the next piece only once the client has read the one before."""
    turn = threading.Semaphore(0)

    def reply(connection: socket.socket, _: Arrived) -> None:
        connection.sendall(head("200 OK", *SSE))
        for number in range(3):
            connection.sendall(chunk(b"data: %d\n\n" % number))
            assert turn.acquire(timeout=20)
        connection.sendall(chunk(b""))

    with RawUpstream(reply) as upstream, running(gateway(upstream=upstream.url)) as client:
        seen = []
        body = {"model": "m", "messages": [], "stream": True}
        headers = {"authorization": f"Bearer {KEY}"}
        with client.stream("POST", CHAT, json=body, headers=headers) as response:
            for piece in response.iter_raw():
                seen.append(piece)
                turn.release()
    assert seen == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]


def test_a_body_is_uploaded_piece_by_piece() -> None:
    """The first piece is with the upstream before the client has sent the second."""
    has_first = threading.Event()

    pieces = [b"a" * 100_000, b"b" * 100_000]

    def slowly() -> Iterator[bytes]:
        yield pieces[0]
        deadline_s = time.monotonic() + 20
        while not upstream.connections and time.monotonic() < deadline_s:
            time.sleep(0.01)
        if upstream.connections:
            has_first.set()
        yield pieces[1]

    ok = answer(b'{"ok": true}')
    with RawUpstream(ok) as upstream, running(gateway(upstream=upstream.url)) as client:
        done = client.post("/v1/files", content=slowly(), headers={"content-type": "audio/wav"})
    assert done.json() == {"ok": True}
    assert has_first.is_set()
    assert upstream.arrived[0].body == b"".join(pieces)
    assert upstream.arrived[0].values("transfer-encoding") == ["chunked"]


def test_a_body_larger_than_the_cache_reads_arrives_whole() -> None:
    content = "x" * 3_000_000
    with (
        RawUpstream(answer(COMPLETION)) as upstream,
        running(gateway(upstream=upstream.url)) as client,
    ):
        done = chat(client, content)
    assert done.headers["x-routecache"] == "BYPASS"
    assert content.encode() in upstream.arrived[0].body
    assert upstream.arrived[0].values("content-length") == [str(len(upstream.arrived[0].body))]


def test_a_large_answer_passes_whole() -> None:
    body = bytes(range(256)) * 40_000
    reply = answer(body, "content-type: application/octet-stream")
    with RawUpstream(reply) as upstream, running(gateway(upstream=upstream.url)) as client:
        found = client.get("/v1/files/1/content")
    assert found.content == body
    assert found.headers["content-length"] == str(len(body))


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "429 Slow", "500 No"])
def test_an_error_of_the_upstream_passes_verbatim(status: str) -> None:
    body = b'{"error": {"message": "no",  "type": "t"}}'
    reply = answer(body, "retry-after: 7", status=status)
    with RawUpstream(reply) as upstream, running(gateway(upstream=upstream.url)) as client:
        found = chat(client)
        again = chat(client)
    assert found.status_code == again.status_code == int(status[:3])
    assert found.content == body
    assert found.headers["retry-after"] == "7"
    assert len(upstream.arrived) == 2


def test_an_upstream_that_is_not_there_is_a_502_in_the_apis_shape() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with running(gateway(upstream=url)) as client:
        found = chat(client)
        of_anthropic = client.post(
            "/v1/messages",
            json={"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]},
            headers={"x-api-key": KEY},
        )
    assert found.status_code == of_anthropic.status_code == 502
    assert found.json()["error"]["code"] == "upstream_unreachable"
    assert of_anthropic.json()["type"] == "error"
    assert of_anthropic.json()["error"]["type"] == "api_error"
    assert KEY not in found.text


def test_an_upstream_that_does_not_begin_is_a_504() -> None:
    done = threading.Event()

    def reply(_: socket.socket, __: Arrived) -> None:
        done.wait(20)

    with (
        RawUpstream(reply) as upstream,
        running(gateway(upstream=upstream.url, head_timeout_s=0.2)) as client,
    ):
        found = chat(client)
        done.set()
    assert found.status_code == 504
    assert found.json()["error"]["type"] == "timeout_error"
    assert len(upstream.arrived) == 1  # asked once: it may be at work


def test_no_free_connection_is_a_503() -> None:
    done = threading.Event()

    def reply(connection: socket.socket, arrived: Arrived) -> None:
        done.wait(20)
        answer(COMPLETION)(connection, arrived)

    made = gateway(upstream="http://127.0.0.1:1", max_connections=1, connect_timeout_s=0.3)
    with RawUpstream(reply) as upstream:
        made = gateway(upstream=upstream.url, max_connections=1, connect_timeout_s=0.3)
        with running(made) as client:
            first = threading.Thread(target=lambda: chat(client, "one"))
            first.start()
            while not upstream.arrived:
                time.sleep(0.01)
            found = chat(client, "two")
            done.set()
            first.join(20)
    assert found.status_code == 503
    assert found.headers["retry-after"] == "1"


@pytest.mark.parametrize("framing", ["transfer-encoding: chunked", "content-length: 1000"])
def test_an_answer_that_breaks_off_is_never_taken_for_whole(
    framing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is it kept."""

    def reply(connection: socket.socket, _: Arrived) -> None:
        connection.sendall(head("200 OK", "content-type: text/event-stream", framing))
        piece = b"data: {}\n\n"
        connection.sendall(chunk(piece) if "chunked" in framing else piece)
        connection.shutdown(socket.SHUT_RDWR)

    with RawUpstream(reply) as upstream, running(gateway(upstream=upstream.url)) as client:
        for _ in range(2):
            with pytest.raises(httpx.RemoteProtocolError):
                chat(client, stream=True)
    assert len(upstream.arrived) == 2
    assert caplog.text.count(f"an answer of 127.0.0.1:{upstream.port} broke off") == 2


def test_an_answer_that_falls_silent_breaks_off() -> None:
    done = threading.Event()

    def reply(connection: socket.socket, _: Arrived) -> None:
        connection.sendall(head("200 OK", *SSE) + chunk(b"data: {}\n\n"))
        done.wait(20)

    with RawUpstream(reply) as upstream:
        made = gateway(upstream=upstream.url, idle_timeout_s=0.2)
        with running(made) as client, pytest.raises(httpx.RemoteProtocolError):
            chat(client, stream=True)
        done.set()


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_client_that_leaves_ends_the_call_of_the_upstream(*, has_begun: bool) -> None:
    def reply(connection: socket.socket, _: Arrived) -> None:
        if has_begun:
            connection.sendall(head("200 OK", *SSE) + chunk(b"data: {}\n\n"))
        upstream.wait_until_gone(connection)

    with RawUpstream(reply) as upstream, running(gateway(upstream=upstream.url)) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post(
                CHAT,
                json={"model": "m", "messages": [], "stream": True},
                headers={"authorization": f"Bearer {KEY}"},
                timeout=0.5,
            )
        assert upstream.hung_up.wait(20)


def test_a_client_that_leaves_while_it_uploads_ends_the_call() -> None:
    with RawUpstream(answer(b"{}")) as upstream, running(gateway(upstream=upstream.url)) as client:
        port = client.base_url.port
        with socket.create_connection(("127.0.0.1", port or 0)) as asking:
            asking.sendall(
                b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nhalf"
            )
            while not upstream.connections:
                time.sleep(0.01)
        assert client.get("/v1/files").status_code == 200  # and the gateway goes on
    assert [arrived.start_line for arrived in upstream.arrived] == ["GET /v1/files HTTP/1.1"]
    assert upstream.connections == 2


def test_connections_to_the_upstream_are_kept() -> None:
    with (
        RawUpstream(answer(COMPLETION)) as upstream,
        running(gateway(upstream=upstream.url)) as client,
    ):
        for number in range(5):
            chat(client, f"question {number}")
    assert len(upstream.arrived) == 5
    assert upstream.connections == 1


def test_cookies_of_an_upstream_go_to_the_client_and_to_nobody_else() -> None:
    reply = answer(COMPLETION, "set-cookie: a=1", "set-cookie: b=2")
    with RawUpstream(reply) as upstream, running(gateway(upstream=upstream.url)) as client:
        first = chat(client, "one")
        client.cookies.clear()
        chat(client, "two")
    assert first.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert upstream.arrived[1].values("cookie") == []


def test_a_redirect_is_the_clients_to_follow() -> None:
    reply = answer(b"", "location: http://127.0.0.1:1/", status="307 Elsewhere")
    with RawUpstream(reply) as upstream, running(gateway(upstream=upstream.url)) as client:
        assert chat(client).status_code == 307
    assert len(upstream.arrived) == 1


def test_a_gateway_in_front_of_itself_is_found_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    made = gateway(upstream=f"http://127.0.0.1:{port}", port=port)
    with RawUpstream(answer(b"{}")) as forwarder:
        # What comes back to it has passed it before.
        via = made.door._via.decode()
        with running(made) as client:
            found = chat(client, headers={"authorization": f"Bearer {KEY}", "via": f"1.1 x, {via}"})
    assert found.status_code == 508
    assert forwarder.arrived == []


def test_a_stored_answer_stands_in_for_an_upstream_that_fails() -> None:
    environ = {"ROUTECACHE_RESULT_TTL_S": "0.05", "ROUTECACHE_RESULT_STALE_IF_ERROR_S": "60"}
    with (
        RawUpstream(answer(COMPLETION)) as upstream,
        running(gateway(environ, upstream=upstream.url)) as client,
    ):
        assert chat(client).headers["x-routecache"] == "MISS"
        time.sleep(0.1)  # its lifetime passes on the clock of the machine
        upstream.reply = answer(b"{}", status="503 Down")
        found = chat(client)
    assert (found.status_code, found.headers["x-routecache"]) == (200, "STALE")
    assert found.content == COMPLETION


def test_equal_questions_at_the_same_time_are_one_call() -> None:
    rest = threading.Event()

    def reply(connection: socket.socket, arrived: Arrived) -> None:
        rest.wait(20)
        answer(COMPLETION)(connection, arrived)

    with RawUpstream(reply) as upstream:
        made = gateway(upstream=upstream.url)
        with running(made) as client, ThreadPoolExecutor(20) as pool:
            asking = [pool.submit(chat, client) for _ in range(20)]
            deadline_s = time.monotonic() + 20
            while made.cache.engine.recorder.result.misses < 1 and time.monotonic() < deadline_s:
                time.sleep(0.01)
            time.sleep(0.5)  # the others arrive
            rest.set()
            found = [one.result(30) for one in asking]
    assert {one.content for one in found} == {COMPLETION}
    assert len(upstream.arrived) == 1
