"""``routecache gateway`` as a process: the line for scripts, the libraries, signals, exit codes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from anthropic import Anthropic
from click.testing import CliRunner
from openai import OpenAI

from routecache_middleware.cli.commands import routecache
from tests.cli.kit import ENVIRONMENT
from tests.clients.kit import TLS
from tests.clients.llama import MODEL
from tests.gateway.kit import COMPLETION, KEY, chat
from tests.support.child import ROOT, ModuleChild, end, tied_to_parent
from tests.support.raw_upstream import Arrived, RawUpstream, answer, chunk, head

COMMAND = [sys.executable, "-m", "routecache_middleware.cli.main", "gateway", "--port", "0"]
SSE = ("content-type: text/event-stream", "transfer-encoding: chunked")


def environment(**more: str) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.lower().endswith("_proxy")}
    return {n: v for n, v in kept.items() if not n.startswith("ROUTECACHE_")} | more


class Process:
    """The command, started.

    Attributes:
        line: What it printed when it was ready.
        url: Where it listens.
        out: What it said on standard output after that; known at its end.
    """

    out = ""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self._process = subprocess.Popen(
            tied_to_parent([*COMMAND, "--json", *arguments]),
            cwd=ROOT,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        if not text:
            _, said = self._process.communicate(timeout=10)
            raise AssertionError(f"it did not start: {said}")
        self.line: dict[str, Any] = json.loads(text)
        self.url: str = self.line["url"]
        self.pid = self._process.pid

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return exit code and what it said on standard error."""
        self.out, said = self._process.communicate(timeout=30)
        return self._process.returncode, said

    def close(self) -> None:
        """End it."""
        end(self._process)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


@contextlib.contextmanager
def started(*arguments: str, **variables: str) -> Iterator[Process]:
    process = Process(*arguments, **variables)
    try:
        yield process
    finally:
        process.close()


def client_of(process: Process) -> httpx.Client:
    return httpx.Client(base_url=process.url, timeout=30, trust_env=False, verify=TLS)


def test_it_says_where_it_listens_and_ends_in_peace() -> None:
    reply = answer(COMPLETION, "server: llm")
    with RawUpstream(reply) as upstream, started("--upstream", f"{upstream.url}/v1") as process:
        assert process.line == {
            "event": "listening",
            "url": process.url,
            "pid": process.line["pid"],
            "upstreams": [f"127.0.0.1:{upstream.port}"],
            "workers": 1,
            "store": "memory://",
            "dashboard": None,
            "notes": [],
        }
        with client_of(process) as client:
            found = [chat(client) for _ in range(2)]
        assert [one.headers["x-routecache"] for one in found] == ["MISS", "HIT"]
        assert found[0].headers.get_list("server") == ["llm"]
        process.stop(signal.SIGINT)
        assert process.ended() == (0, "")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_line_for_a_request_has_the_key_in_its_query(tmp_path: Path, workers: str) -> None:
    store = ("--store", f"lmdb://{tmp_path}/store")
    more = ("--access-log", "--workers", workers, *store)
    # With a proxy httpx is given the whole URL, and would log it.
    with RawUpstream(answer(COMPLETION)) as upstream:
        proxy = {"http_proxy": upstream.url, "no_proxy": ""}
        with started("--upstream", "http://somewhere.test/v1", *more, **proxy) as process:
            with client_of(process) as client:
                body = {"model": "m", "messages": []}
                found = client.post("/v1/chat/completions?key=canary-key&a=b", json=body)
            assert found.status_code == 200
            process.stop()
            code, said = process.ended()
        (arrived,) = upstream.arrived
    assert "key=canary-key" in arrived.start_line, "the upstream gets it"
    out = process.out + said
    assert "POST /v1/chat/completions?... HTTP/1.1" in out
    assert (code, "canary" in out) == (0, False)


def test_a_stream_under_way_ends_before_the_process_does() -> None:
    """SIGTERM drains: no new connection, but what has begun is finished."""
    rest = threading.Event()

    def reply(connection: socket.socket, _: Arrived) -> None:
        connection.sendall(head("200 OK", *SSE) + chunk(b"data: 1\n\n"))
        rest.wait(20)
        connection.sendall(chunk(b"data: 2\n\n") + chunk(b""))

    with RawUpstream(reply) as upstream, started("--upstream", upstream.url) as process:
        body = {"model": "m", "messages": [], "stream": True}
        with (
            client_of(process) as client,
            client.stream(
                "POST",
                "/v1/chat/completions",
                json=body,
                headers={"authorization": f"Bearer {KEY}"},
            ) as response,
        ):
            pieces = response.iter_raw()
            assert next(pieces) == b"data: 1\n\n"
            process.stop()
            port = httpx.URL(process.url).port or 0
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                except OSError:
                    break
            rest.set()
            assert b"".join(pieces) == b"data: 2\n\n"
        code, said = process.ended()
    assert code == 0, said


def test_the_libraries_speak_through_it_to_a_real_model(tmp_path: Path) -> None:
    child = ModuleChild("tests.clients.llama")
    file = tmp_path / "gateway.toml"
    file.write_text(
        f"""
[routecache]
profile = "production"
[routecache.gateway]
upstream = "http://127.0.0.1:{child.port}/v1"
client_keys_env = "CLIENT_KEYS"
[[routecache.gateway.models]]
name = "tiny-alias"
rename = "{MODEL}"
[[routecache.gateway.routes]]
model = "tiny-alias"
""",
        encoding="utf-8",
    )
    try:
        with started("--config", str(file), CLIENT_KEYS=KEY) as process:
            _ask_openai(process)
            _ask_anthropic(process)
            process.stop()
            code, said = process.ended()
        assert code == 0, said
    finally:
        child.close()


def _ask_openai(process: Process) -> None:
    with (
        httpx.Client(verify=TLS, trust_env=False) as http,
        OpenAI(
            api_key=KEY, base_url=f"{process.url}/v1", max_retries=0, http_client=http
        ) as client,
    ):
        create: Any = client.chat.completions.with_raw_response.create
        fields: dict[str, Any] = {
            "messages": [{"role": "user", "content": "The capital of France is"}],
            "temperature": 0,
            "max_tokens": 4,
        }
        for model in ("tiny-alias", "auto"):
            first, second = create(model=model, **fields), create(model=model, **fields)
            assert [r.headers["x-routecache"] for r in (first, second)] == ["MISS", "HIT"]
            assert first.parse() == second.parse()
            chunks = client.chat.completions.create(model=model, stream=True, **fields)
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            assert text == first.parse().choices[0].message.content
        # A stream first, whose client hangs up at [DONE]; then the same again.
        for outcome in ("MISS", "HIT"):
            raw = create(model="tiny-alias", stream=True, seed=2, **fields)
            assert raw.headers["x-routecache"] == outcome
            assert list(raw.parse())
        names = [model.id for model in client.models.list()]
        assert MODEL in names  # the upstream's own list
    with (
        pytest.raises(Exception, match="invalid_api_key"),
        httpx.Client(verify=TLS, trust_env=False) as http,
    ):
        OpenAI(
            api_key="wrong", base_url=f"{process.url}/v1", max_retries=0, http_client=http
        ).models.list()


def _ask_anthropic(process: Process) -> None:
    with (
        httpx2.Client(verify=TLS, trust_env=False) as http,
        Anthropic(api_key=KEY, base_url=process.url, max_retries=0, http_client=http) as client,
    ):
        fields: dict[str, Any] = {
            "model": "tiny-alias",
            "max_tokens": 4,
            "messages": [{"role": "user", "content": "The capital of Italy is"}],
            "extra_body": {"temperature": 0, "seed": 1},
        }
        first = client.messages.with_raw_response.create(**fields)
        second = client.messages.with_raw_response.create(**fields)
        assert [r.headers["x-routecache"] for r in (first, second)] == ["MISS", "HIT"]
        assert first.parse() == second.parse()
        with client.messages.stream(**fields) as stream:
            assert "".join(stream.text_stream) == first.parse().content[0].text


def failed(*arguments: str, **variables: str) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def test_what_cannot_start_says_the_remedy_and_ends_with_1() -> None:
    code, said = failed()
    assert (code, "--upstream URL" in said) == (1, True)
    code, said = failed(
        "-u", "https://api.openai.com/v1", "--host", "0.0.0.0", "--api-key-env", "K", K="sk-canary"
    )
    assert (code, "client_keys_env" in said, "sk-canary" in said) == (1, True, False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, said = failed("--upstream", "http://127.0.0.1:1", "--port", port)
    assert (code, "--port" in said) == (1, True)
    assert "Traceback" not in said


def test_wrong_arguments_end_with_2() -> None:
    assert failed("--config", "/nowhere.toml")[0] == 2
    assert failed("--port", "70000")[0] == 2


def test_without_its_packages_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in ("httpx", "uvicorn"):
        monkeypatch.setitem(sys.modules, missing, None)
        done = CliRunner().invoke(routecache, ["gateway", "-u", "http://127.0.0.1:1", "-p", "0"])
        assert done.exit_code == 1
        assert "routecache-middleware[gateway]" in done.output
        monkeypatch.undo()


def test_a_person_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(made: Any, settings: Any, *, started: Any, **options: Any) -> None:
        started("http://127.0.0.1:9")
        assert options == {"access_log": True, "log_level": "info"}

    monkeypatch.setattr("routecache_middleware.gateway.server.serve", serve)
    arguments = ["gateway", "-u", "http://127.0.0.1:1", "--access-log"]
    done = CliRunner().invoke(routecache, arguments, env=ENVIRONMENT)
    assert done.output.splitlines() == [
        "Listening on http://127.0.0.1:9, in front of 127.0.0.1:1",
        "  clients:   their credentials are passed on to the upstream",
        "  store:     memory:// (in this process alone, and gone when it ends)",
        "  dashboard: none (--admin serves it at /routecache/)",
    ]
