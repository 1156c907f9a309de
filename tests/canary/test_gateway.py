"""``routecache gateway`` as a process: what it writes, and the answers that it makes itself."""

import contextlib
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.canary.bodies import APIS, CREDENTIALS, QUERY, chat, completion
from tests.canary.ears import Ears
from tests.canary.planted import planted, prose
from tests.gateway.test_command import COMMAND, environment
from tests.support.child import ROOT, end, tied_to_parent
from tests.support.raw_upstream import Arrived, RawUpstream, answer, chunk, head

HEADERS = {name.decode(): value.decode() for name, value in CREDENTIALS}
CLIENT = f"sk-{planted('client key')}"
ENVIRON = {
    "ROUTECACHE_SECRET": planted("secret"),
    "ROUTECACHE_ADMIN_TOKEN": planted("admin token"),
    "ROUTECACHE_ADMIN_READ_TOKEN": planted("read token"),
    "KEY": planted("upstream key"),
    "KEYS": f"{CLIENT},another-key-of-somebody",
}
CHAT = chat()
FAILED = json.dumps({"error": {"message": prose("error text")}}).encode()
PIECES = APIS["openai.chat"].answers["said.sse"]


class Process:
    """The command with its output."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self._process = subprocess.Popen(
            tied_to_parent([*COMMAND, "--json", *arguments]),
            cwd=ROOT,
            env=environment(**{**ENVIRON, **variables}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.line = self._process.stdout.readline()

    @property
    def url(self) -> str:
        return str(json.loads(self.line)["url"])

    def ended(self, *, is_stopped: bool = True) -> str:
        """End it; return all that it has written."""
        if is_stopped:
            self._process.send_signal(signal.SIGTERM)
        try:
            out, err = self._process.communicate(timeout=30)
        finally:
            end(self._process)
        return f"{self.line}\n{out}\n{err}"


@contextlib.contextmanager
def gateway(ears: Ears, *arguments: str, **variables: str) -> Iterator[httpx.Client]:
    """Run it, ask it, and hear what it writes."""
    process = Process(*arguments, **variables)
    try:
        with httpx.Client(base_url=process.url, timeout=20, trust_env=False) as client:
            yield client
    finally:
        said = process.ended()
        ears.hear("a gateway", said)
        ears.hear("how much a gateway said", str(said.count("\n")))


def fails(connection: socket.socket, arrived: Arrived) -> None:
    """Say something of an answer, and hang up."""
    kind = "content-type: text/event-stream"
    connection.sendall(head("200 OK", kind, "transfer-encoding: chunked") + chunk(PIECES[:200]))
    connection.shutdown(socket.SHUT_RDWR)


def streams(connection: socket.socket, arrived: Arrived) -> None:
    kind = "content-type: text/event-stream"
    connection.sendall(head("200 OK", kind, "transfer-encoding: chunked"))
    connection.sendall(chunk(PIECES) + chunk(b""))


def hangs_up(connection: socket.socket, arrived: Arrived) -> None:
    connection.sendall(f"{prose('error text')}\r\n\r\n".encode())
    connection.shutdown(socket.SHUT_RDWR)


def ask(client: httpx.Client, path: str, body: Any, **headers: str) -> httpx.Response | None:
    """Ask with all credentials, in the header and in the query string."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"content-type": "application/json", **HEADERS, **headers}
    try:
        return client.post(f"{path}?{QUERY.decode()}", content=raw, headers=named)
    except httpx.HTTPError:
        return None  # the answer broke off, as it was meant to


@pytest.mark.parametrize("is_logged", [False, True], ids=["quiet", "access log"])
def test_requests_and_failures(far_ears: Ears, *, is_logged: bool) -> None:
    with RawUpstream(answer(completion())) as upstream:
        switches = ["--access-log"] if is_logged else []
        with gateway(far_ears, "--upstream", upstream.url, *switches) as client:
            for api in APIS.values():
                for _ in range(2):
                    ask(client, api.path, api.asks[0])
            upstream.reply = streams
            for _ in range(2):
                got = ask(client, "/v1/chat/completions", {**CHAT, "stream": True})
            assert got is not None
            assert got.headers["x-routecache"] == "HIT"
            for number, reply in enumerate(
                (fails, hangs_up, answer(FAILED, status="500 x"), answer(FAILED, status="401 x"))
            ):
                upstream.reply = reply
                ask(client, "/v1/chat/completions", {**CHAT, "seed": number, "stream": True})
                ask(client, f"/v1/{number}", CHAT)
            upstream.reply = answer(completion())
            for body in (b"{" + prose("broken json").encode(), b"\xff" + planted("bytes").encode()):
                ask(client, "/v1/chat/completions", body)
            ask(client, "/v1/chat/completions", CHAT, **{"x-long": planted("bytes") * 5000})
            client.get("/v1/files/file-1", params={"key": planted("query key")})
            _broken_requests(client.base_url.port or 0)
            upgrade = {
                "upgrade": "websocket",
                "connection": "upgrade",
                "sec-websocket-version": "13",
            }
            client.get(
                f"/v1/live?key={planted('query key')}",
                headers={**upgrade, "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="},
            )
    said = dict(far_ears.heard)["a gateway"]
    assert ("POST /v1/chat/completions" in said) == is_logged


def _broken_requests(port: int) -> None:
    """Send what is no HTTP, and requests that are cut off in the head and in the body."""
    word = planted("authorization").encode()
    for raw in (
        word + b"\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nauthorization: \x00" + word + b"\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer " + word,
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n" + word,
        b"POST http://u:" + word + b"@[x HTTP/1.1\r\nhost: x\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                connection.recv(65_536)


def test_what_it_answers_itself(far_ears: Ears) -> None:
    """Keys that it does not know, upstreams that are not there, models that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
    own = ("--upstream", gone, "--api-key-env", "KEY", "--client-keys-env", "KEYS", "--access-log")
    with gateway(far_ears, *own, "--admin") as client:
        for path in [*(api.path for api in APIS.values()), "/v1/files", "/v1/models"]:
            for key in (CLIENT, planted("wrong token"), ""):
                headers = {n: v for n, v in HEADERS.items() if not n.endswith(("key", "user"))}
                headers = {**headers, "authorization": f"Bearer {key}"} if key else {}
                got = client.post(f"{path}?{QUERY.decode()}", json=CHAT, headers=headers)
                assert got.status_code in {401, 404, 502}
                far_ears.hear("a gateway's own answer", f"{got.headers}\n{got.text}")
        token = {"authorization": f"Bearer {planted('admin token')}"}
        for path in (
            "/",
            "/stats",
            "/config",
            "/metrics",
            "/audit",
            "/entries",
            "/x",
            "/openapi.json",
        ):
            for headers in (token, {"authorization": f"Bearer {planted('wrong token')}"}, {}):
                got = client.get(f"/routecache{path}", headers=headers)
                far_ears.hear("its admin app", f"{got.headers}\n{got.text}")


def test_models_that_it_does_not_have(far_ears: Ears, tmp_path: Path) -> None:
    """It says which there are: those that the operator has named."""
    file = tmp_path / "routecache.toml"
    file.write_text(
        '[[routecache.gateway.models]]\nname = "m"\nbase_url = "http://127.0.0.1:9/v1"\n'
        'api_key_env = "KEY"\nfallbacks = ["n"]\n[[routecache.gateway.models]]\nname = "n"\n'
        'base_url = "http://127.0.0.1:9/v1"\n[[routecache.gateway.routes]]\nalias = "auto"\n'
        'model = "m"\nmax_chars = 5\n',
        encoding="utf-8",
    )
    with gateway(far_ears, "--config", str(file), "--access-log") as client:
        for model in ("m", "auto", "unknown"):
            got = ask(client, "/v1/chat/completions", {**CHAT, "model": model})
            assert got is not None
            far_ears.hear("a gateway's own answer", got.text)
        for body in (b"{" + prose("broken json").encode(), {"messages": [planted("prompt")]}):
            got = ask(client, "/v1/chat/completions", body)
            assert got is not None
            far_ears.hear("a gateway's own answer", got.text)
        got = ask(client, "/v1beta/models/m:generateContent", APIS["gemini"].asks[0])
        assert got is not None
        far_ears.hear("a gateway's own answer", got.text)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--upstream", f"https://{planted('url user')}:{planted('url password')}@host"),
        ("--upstream", f"https://{planted('url user')}:{planted('url password')}@host:x"),
        ("--upstream", f"https://host/v1?key={planted('url option')}"),
        ("--upstream", "https://host", "--api-key-env", f"sk-{planted('upstream key')}"),
        ("--upstream", "https://host", "--client-keys-env", f"sk-{planted('client key')}"),
        ("--upstream", "https://host", "--client-keys-env", "SHORT"),
        ("--upstream", "https://host", "--api-key-env", "BROKEN"),
        ("--upstream", "https://host", "--api-key-env", "KEY", "--host", "0.0.0.0"),
        ("--upstream", "https://host", "--config", "FILE"),
    ],
)
def test_why_it_does_not_start(arguments: tuple[str, ...], far_ears: Ears, tmp_path: Path) -> None:
    file = tmp_path / "routecache.toml"
    file.write_text(f'[routecache]\nsecret = "{planted("secret")}', encoding="utf-8")
    given = [str(file) if one == "FILE" else one for one in arguments]
    short = {"SHORT": planted("client key")[:12], "BROKEN": f"{planted('upstream key')} x"}
    said = Process(*given, **short).ended(is_stopped=False)
    assert "Error: " in said
    assert "Traceback" not in said
    far_ears.hear("a gateway", said)


@pytest.mark.parametrize("scheme", ["redis", "ring"])
def test_a_store_that_is_not_there(scheme: str, far_ears: Ears) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    url = f"{scheme}://{planted('url user')}:{planted('url password')}@127.0.0.1:{port}"
    with (
        RawUpstream(answer(completion())) as upstream,
        gateway(far_ears, "--upstream", upstream.url, ROUTECACHE_URL=url) as client,
    ):
        for _ in range(3):
            got = ask(client, "/v1/chat/completions", CHAT)
            assert got is not None
            assert got.status_code == 200
            far_ears.hear("its own header", got.headers["cache-status"])
    assert "coordinator" in dict(far_ears.heard)["a gateway"]
