"""``routecache bench`` against a real server."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Self

import pytest
import uvicorn

from routecache_middleware import RouteCache, RouteCacheMiddleware, Settings
from tests.cli.kit import run, told
from tests.support.model import app


class Server(uvicorn.Server):
    """Serves in a thread of its own."""

    def __init__(self, served: object) -> None:
        super().__init__(uvicorn.Config(served, port=0, log_level="error"))  # type: ignore[arg-type]
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve()))
        self._up = threading.Event()

    async def startup(self, sockets: object = None) -> None:
        await super().startup(sockets)  # type: ignore[arg-type]
        self._up.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.should_exit = True
        self._thread.join()


@pytest.fixture
def gateway() -> Iterator[str]:
    cache = RouteCache(url="memory://", settings=Settings(), observers=[])
    with Server(RouteCacheMiddleware(app, cache=cache)) as server:
        yield server.url


def test_hits_and_misses_are_told_apart(gateway: str) -> None:
    found = told("bench", gateway, "-n", "30", "-d", "3", "-k", "3")
    assert found["requests"] == 30
    assert found["failed"] == {}
    outcomes = found["outcomes"]
    assert {name: row["requests"] for name, row in outcomes.items()} == {"HIT": 27, "MISS": 3}
    assert outcomes["HIT"]["p50"] < 0.2 <= outcomes["MISS"]["p50"]
    assert outcomes["HIT"]["p50"] <= outcomes["HIT"]["p95"] <= outcomes["HIT"]["p99"]
    shown = run("bench", f"{gateway}/v1", "-n", "4", "-d", "1", "-k", "1")
    assert shown.exit_code == 0
    assert "4 requests in" in shown.stdout


def test_without_the_cache_that_is_said() -> None:
    with Server(app) as server:
        done = run("bench", server.url, "-n", "2", "-d", "1", "-k", "1")
    assert done.exit_code == 0
    assert "no cache of this package has seen them" in done.stdout


def test_failures_are_counted_and_are_a_failure(gateway: str) -> None:
    done = run("bench", "http://127.0.0.1:1", "-n", "2", "-k", "1")
    assert done.exit_code == 1
    assert "2 failed: ConnectError" in done.stdout
    assert "is URL the base URL of a gateway that runs?" in done.stdout
    refused = run("bench", f"{gateway}/elsewhere/v1", "-n", "1", "--timeout", "5")
    assert refused.exit_code == 0  # the app behind answers anything


@pytest.mark.parametrize("url", ["http://user:word@[::1", "http://user:word@x:y", "user:word@x"])
def test_what_is_no_url_is_wrong_usage_and_shows_no_password(url: str) -> None:
    done = run("bench", url)
    assert done.exit_code == 2
    assert "http://HOST:PORT" in done.output
    assert "word" not in done.output


def test_a_key_that_cannot_be_sent_is_not_shown() -> None:
    done = run("bench", "http://127.0.0.1:1", OPENAI_API_KEY="wordé")
    assert done.exit_code == 1
    assert "OPENAI_API_KEY holds <hidden>" in done.output
