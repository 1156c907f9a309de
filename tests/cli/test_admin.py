"""``routecache admin``: a process that serves the administration app, and stops when told to."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from click.testing import CliRunner

from routecache_middleware import RouteCache
from routecache_middleware.cli.commands import routecache
from tests.admin.kit import READ_TOKEN
from tests.cli.kit import ENVIRONMENT
from tests.support.child import ROOT, end, tied_to_parent

TOKEN = "canary-token-of-the-operator"
HASH = "0123456789abcdef0123456789abcdef"


class Served:
    """The command, running."""

    def __init__(self, *args: str, token: str = TOKEN) -> None:
        command = [sys.executable, "-m", "routecache_middleware.cli.main", "admin", *args]
        plain = {name: value for name, value in os.environ.items() if "ROUTECACHE" not in name}
        self.process = subprocess.Popen(
            tied_to_parent([*command, "--port", "0", "--json"]),
            cwd=ROOT,
            env={**plain, "ROUTECACHE_ADMIN_TOKEN": token},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.told = json.loads(line) if line else {}

    def get(self, path: str, token: str = TOKEN) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.get(self.told["url"] + path, headers=headers, timeout=10)

    def post(self, path: str, body: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {TOKEN}"}
        return httpx.post(self.told["url"] + path, json=body, headers=headers, timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end(self.process)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def stop(self) -> tuple[int, str]:
        """Tell it to stop; return its exit code and what it complained of."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


async def test_it_shows_what_processes_on_the_same_coordinator_have_stored(
    tmp_path: Path,
) -> None:
    url = f"lmdb://{tmp_path}/cache"
    async with RouteCache.from_url(url) as cache:
        await cache.cache_query_result(HASH, "gpt", b"{}", 1.0)
    with Served("--url", url) as served:
        assert served.told["event"] == "listening"
        assert served.get("/entries", token="").status_code == 401
        (row,) = served.get("/entries").json()["entries"]
        assert row["model"] == "gpt"
        assert "<title>routecache</title>" in served.get("/", token="").text
        asked = {"body": {"model": "gpt", "messages": []}, "tenant": "somebody"}
        assert served.post("/explain", asked).status_code == 200
        assert served.stop() == (0, "")


def test_it_stops_at_once_though_somebody_watches() -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    with Served() as served:
        with httpx.stream("GET", served.told["url"] + "/live", headers=headers) as stream:
            assert next(stream.iter_bytes()).startswith(b"data: ")
            code, errors = served.stop()
        assert code == 0
        assert "Traceback" not in errors


def test_without_a_token_it_listens_on_this_machine_and_nowhere_else() -> None:
    with Served(token="") as served:
        assert served.get("/stats", token="").status_code == 200
        assert served.get("/assets/door.json", token="").json() == {"open": True}
        code, errors = served.stop()
        assert code == 0
        assert "belongs to one process" in errors
    result = CliRunner(env={"ROUTECACHE_ADMIN_TOKEN": None}).invoke(
        routecache, ["admin", "--host", "0.0.0.0", "--port", "0"]
    )
    assert result.exit_code == 1
    assert "ROUTECACHE_ADMIN_TOKEN" in result.output


def test_an_address_that_is_taken_is_an_error_that_says_so() -> None:
    with Served() as served:
        port = served.told["url"].rpartition(":")[2]
        env = {"ROUTECACHE_ADMIN_TOKEN": TOKEN}
        result = CliRunner(env=env).invoke(routecache, ["admin", "--port", port])
        assert result.exit_code == 1
        assert "choose another one" in result.output


def test_without_uvicorn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routecache_middleware.cli.admin.find_spec", lambda _: None)
    result = CliRunner().invoke(routecache, ["admin"])
    assert result.exit_code == 1
    assert "routecache-middleware[admin]" in result.output


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"ROUTECACHE_ADMIN_TOKEN": TOKEN}, "who has the admin token"),
        ({"ROUTECACHE_ADMIN_READ_TOKEN": READ_TOKEN}, "who has the read token, to look"),
        ({}, "this machine only: there is no ROUTECACHE_ADMIN_TOKEN"),
    ],
)
def test_a_person_is_told_where_it_looks_and_whom_it_lets_in(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], words: str
) -> None:
    async def serve(*_: Any, started: Any) -> None:
        started("http://127.0.0.1:9")

    monkeypatch.setattr("routecache_middleware.admin.server.serve", serve)
    url = "redis://u:canary-password@cache:6379/0"
    done = CliRunner().invoke(routecache, ["admin", "--url", url], env={**ENVIRONMENT, **environ})
    assert done.exit_code == 0, done.output
    first, store, lets_in = done.output.splitlines()
    assert first == "Listening on http://127.0.0.1:9"
    assert store == "  store:   redis://***@cache:6379/0"
    assert lets_in.startswith(f"  lets in: {words}")
    assert "canary" not in done.output
