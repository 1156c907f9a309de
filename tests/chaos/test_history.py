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


# A process that goes on after 2 s may find its breaker open for a moment: it is cut off then, and
# shares what it was making, or goes on with its near cache.
@pytest.mark.parametrize(("query", "bound_s"), [("?near=true", 6.0), ("?near=false", 3.0)])
def test_nothing_stale_from_one_server(valkey_url: str, query: str, bound_s: float) -> None:
    check(run_history(valkey_url + query, reads=QUICK, bound_s=bound_s), QUICK)


def test_nothing_stale_while_no_process_stands_still(valkey_url: str) -> None:
    check(run_history(valkey_url, reads=QUICK, with_nemesis=False), QUICK)


def test_nothing_stale_from_workers_of_one_machine(tmp_path: Path) -> None:
    check(run_history(f"lmdb://{tmp_path}/cache", reads=QUICK), QUICK)


@pytest.mark.slow
def test_nothing_stale_from_workers_of_one_machine_for_long(tmp_path: Path) -> None:
    check(run_history(f"lmdb://{tmp_path}/cache", reads=LONG, seed=2), LONG)


class Nemesis:
    """Does something to the coordinator every few seconds."""

    def __init__(self, *faults: Callable[[], object], every_s: float = 2.0) -> None:
        self._faults = faults
        self._next_s = self._every_s = every_s
        self._chance = random.Random(5)
        self.done = 0

    def __call__(self, elapsed_s: float) -> None:
        if elapsed_s >= self._next_s:
            self._chance.choice(self._faults)()
            self.done += 1
            self._next_s = elapsed_s + self._every_s


# A process that is cut off goes on with its near cache for up to 5 s, as the README says, and still
# shares what it is making. Without a near cache, and while no process stands still in the middle of
# making something, a second is enough whatever the servers do.
FAULTS = pytest.mark.parametrize("query", ["?near=false", "?near=true"])


def check_with_faults(url: str, nemesis: "Nemesis") -> None:
    is_near = url.endswith("true")
    bound_s = 6.0 if is_near else 1.0
    check(run_history(url, reads=LONG, bound_s=bound_s, with_nemesis=is_near, faults=nemesis), LONG)
    assert nemesis.done > 3


@pytest.mark.slow
@FAULTS
def test_nothing_stale_from_one_server_that_is_flushed_killed_and_paused(
    valkey_url: str, valkey: ValkeyServer, query: str
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
    check_with_faults(valkey_url + query, nemesis)


@pytest.mark.slow
@FAULTS
def test_nothing_stale_from_a_cluster_whose_primaries_are_paused(
    cluster_url: str, valkey_cluster: ValkeyCluster, query: str
) -> None:
    chance = random.Random(7)

    def pause() -> None:
        victim = chance.choice(valkey_cluster.servers)
        victim.pause()
        time.sleep(1.0)
        victim.resume()

    nemesis = Nemesis(pause)
    check_with_faults(cluster_url + query, nemesis)
