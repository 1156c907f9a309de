"""Nothing is served that was invalidated before it was asked for: many processes, real faults."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.history import History, run_history
from tests.support.valkey import ValkeyCluster, ValkeyServer

QUICK, LONG = 15_000, 100_000


def test_a_plain_delete_fails_this_check(valkey_url: str) -> None:
    """The control: Redis as a key-value store with DEL, and nobody is even paused."""
    history = run_history(f"naive+{valkey_url}", reads=60_000, with_nemesis=False)
    assert history.stale


def check(history: History, reads: int) -> None:
    assert not history.stale, history.stale[:5]
    assert history.reads >= reads
    assert history.invalidations
    assert history.made < history.reads / 2


@pytest.mark.parametrize("query", ["?near=true", "?near=false"])
def test_nothing_stale_from_one_server(valkey_url: str, query: str) -> None:
    check(run_history(valkey_url + query, reads=QUICK), QUICK)


def test_nothing_stale_from_workers_of_one_machine(tmp_path: Path) -> None:
    check(run_history(f"lmdb://{tmp_path}/cache", reads=QUICK), QUICK)


@pytest.mark.slow
def test_nothing_stale_from_workers_of_one_machine_for_long(tmp_path: Path) -> None:
    check(run_history(f"lmdb://{tmp_path}/cache", reads=LONG, seed=2), LONG)


class Nemesis:
    """Does something to the coordinator every few seconds."""

    def __init__(self, *faults: Callable[[], object], every_s: float = 3.0) -> None:
        self._faults = faults
        self._next_s = self._every_s = every_s
        self._chance = random.Random(5)
        self.done = 0

    def __call__(self, elapsed_s: float) -> None:
        if elapsed_s >= self._next_s:
            self._chance.choice(self._faults)()
            self.done += 1
            self._next_s = elapsed_s + self._every_s


@pytest.mark.slow
def test_nothing_stale_from_one_server_that_is_flushed_killed_and_paused(
    valkey_url: str, valkey: ValkeyServer
) -> None:
    def pause() -> None:
        valkey.pause()
        time.sleep(1.5)
        valkey.resume()

    def restart() -> None:
        valkey.kill()
        time.sleep(0.5)
        valkey.restart()

    nemesis = Nemesis(pause, restart, lambda: valkey.command("FLUSHALL"))
    check(run_history(valkey_url, reads=LONG, faults=nemesis), LONG)
    assert nemesis.done > 3


@pytest.mark.slow
def test_nothing_stale_from_a_cluster_whose_primaries_are_paused(
    cluster_url: str, valkey_cluster: ValkeyCluster
) -> None:
    chance = random.Random(7)

    def pause() -> None:
        victim = chance.choice(valkey_cluster.servers)
        victim.pause()
        time.sleep(1.0)
        victim.resume()

    nemesis = Nemesis(pause)
    check(run_history(cluster_url, reads=LONG, faults=nemesis), LONG)
    assert nemesis.done > 3
