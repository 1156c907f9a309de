"""The total of real worker processes, one of which is killed (issue 6: counters never go back)."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support.child import ROOT, tied_to_parent, wait_until

REQUESTS = 40


@pytest.fixture(params=["valkey", "lmdb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "lmdb":
        return f"lmdb://{tmp_path}/cache"
    found: str = request.getfixturevalue("valkey_url")
    return found


@pytest.fixture
def port(url: str) -> Iterator[int]:
    """Two workers of uvicorn behind one port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "tests.support.metrics_app:app"]
    command += ["--port", str(port), "--workers", "2", "--log-level", "warning"]
    env = {**os.environ, "ROUTECACHE_URL": url, "ROUTECACHE_COORDINATOR_TIMEOUT_S": "5"}
    server = subprocess.Popen(tied_to_parent(command), cwd=ROOT, env=env)
    try:
        yield port
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(5)


def ask(port: int, path: str) -> httpx.Response:
    """Ask over a connection of its own, so that either worker may answer."""
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10)


def lookups(port: int) -> int:
    found = re.findall(
        r"^routecache_lookups_total\{.*\} (\d+)$", ask(port, "/metrics").text, re.MULTILINE
    )
    return sum(map(int, found))


def answers(port: int) -> bool:
    with suppress(httpx.HTTPError):
        return ask(port, "/metrics").status_code == 200
    return False


def test_any_worker_tells_what_all_have_counted_and_the_dead_are_not_forgotten(port: int) -> None:
    wait_until(lambda: answers(port), "the server answers")
    pids = [ask(port, f"/use?query={number}").json()["pid"] for number in range(REQUESTS)]
    seen = [0]

    def is_counted(wanted: int) -> bool:
        seen.append(lookups(port))
        return seen[-1] == wanted

    wait_until(lambda: is_counted(REQUESTS), "all requests are counted")
    for _ in range(10):  # by both
        assert is_counted(REQUESTS)
    os.kill(pids[0], signal.SIGKILL)  # uvicorn starts another one in its place
    wait_until(lambda: answers(port), "the server answers again")
    before = len(seen)
    for _ in range(20):
        with suppress(httpx.HTTPError):
            is_counted(REQUESTS)
    more = 0
    while more < 10:
        with suppress(httpx.HTTPError):
            ask(port, f"/use?query=more-{more}")
            more += 1
    wait_until(lambda: is_counted(REQUESTS + 10), "the new ones are counted too")
    assert seen[before:] == sorted(seen[before:])
    assert min(seen[before:]) == REQUESTS
