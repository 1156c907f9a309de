"""What commands show besides, on a terminal: progress; and what they say of what is odd."""

import asyncio
import io
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from routecache_middleware.cli import bench, checkup, warm
from routecache_middleware.cli.checkup import Verdict
from routecache_middleware.core.cluster import NodeState, NodeStats
from tests.cli.kit import run


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("module", [bench, warm])
def test_long_work_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    with module._progress(2) as progress:
        progress.advance(progress.task_ids[0])
    assert any(word in screen.getvalue() for word in ("Asking", "Warming"))


class Desk:
    """Stands for an admin app, whose gateway is in trouble."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    async def get(self, path: str) -> Any:
        return self._answers[path.strip("/")]

    async def clock_s(self) -> float:
        return time.time() + 100


def test_a_gateway_in_trouble_is_described() -> None:
    config = {
        "version": "0.0.0",
        "mode": "on",
        "coordinator": "redis",
        "settings": {"secret": "<not set>"},
    }
    breakers = {
        "breakers": [{"name": "reads", "state": "open"}, {"name": "writes", "state": "open"}],
        "errors": {"get TimeoutError": 3},
    }
    desk: Any = Desk(config=config, breakers=breakers)
    found = {one.name: one for one in asyncio.run(checkup.check_app(desk))}
    assert {name: one.verdict for name, one in found.items()} == {
        "admin app": Verdict.GOOD,
        "gateway": Verdict.ODD,
        "secret": Verdict.ODD,
        "breakers": Verdict.BAD,
        "errors": Verdict.ODD,
        "clock": Verdict.BAD,
    }
    assert found["breakers"].found == "no reads and no writes reach the store"
    assert "get TimeoutError: 3" in found["errors"].found
    assert "ahead" in found["clock"].found


def test_a_node_that_is_down_is_bad_and_one_that_says_nothing_is_not() -> None:
    (down,) = checkup._of_node(NodeStats(name="a:1", state=NodeState.DOWN))
    assert (down.verdict, down.found) == (Verdict.BAD, "down")
    (silent,) = checkup._of_node(NodeStats(name="a:1"))
    assert silent.verdict is Verdict.GOOD


def test_models_are_shown_in_a_table_too(tmp_path: Path) -> None:
    url = f"lmdb://{tmp_path}/cache"
    shown = run("top", "--url", url)
    assert shown.exit_code == 0
    assert "hit rate" in shown.stdout
    watched = run("top", "--watch", "--times", "2", "--every", "0.1", "--url", url)
    assert watched.stdout.count("hit rate") == 2
    full = run("config", "--url", url)
    assert "credential_headers" in full.stdout
    assert run("stats", "--watch", "--times", "1", "--json", "--url", url).stdout.count("\n") == 1
