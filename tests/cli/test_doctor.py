"""``routecache doctor`` finds what is wrong, and says what to do about it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from routecache_middleware.cli import checkup
from routecache_middleware.cli.checkup import Verdict
from tests.cli.kit import CANARY, fill, run, told
from tests.support.valkey import ValkeyServer


@pytest.fixture
def server(valkey: ValkeyServer, valkey_url: str) -> Iterator[ValkeyServer]:
    assert valkey_url
    yield valkey
    valkey.command("CONFIG", "SET", "maxmemory", "0")
    valkey.command("CONFIG", "SET", "maxmemory-policy", "noeviction")


def findings(url: str, *, status: int = 0, **environ: str) -> dict[str, Any]:
    done = run("doctor", "--json", "--url", url, **environ)
    assert done.exit_code == status, done.output
    return {one["name"]: one for one in json.loads(done.stdout)["findings"]}


def test_a_good_store_is_well(server: ValkeyServer) -> None:
    server.command("CONFIG", "SET", "maxmemory", "100mb")
    server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    fill(server.url)
    found = findings(server.url, ROUTECACHE_SECRET="0123456789abcdef")
    assert {one["verdict"] for one in found.values()} == {"good"}
    (node,) = [name for name in found if name.startswith("node ") and "," not in name]
    assert found[node]["found"].startswith("valkey ")
    assert "allkeys-lfu" in found[f"{node}, memory"]["found"]
    assert "ms" in found["latency"]["found"]


def test_a_store_that_refuses_writes_when_it_is_full_is_sick(server: ValkeyServer) -> None:
    server.command("CONFIG", "SET", "maxmemory", "100mb")
    server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    found = findings(server.url, status=3)
    (memory,) = [one for name, one in found.items() if name.endswith(", memory")]
    assert memory["verdict"] == "bad"
    assert "allkeys-lfu" in memory["remedy"]
    shown = run("doctor", "--url", server.url)
    assert shown.exit_code == 3
    assert "BAD " in shown.stdout
    assert "set maxmemory, and maxmemory-policy allkeys-lfu" in shown.stdout


def test_what_is_odd_is_no_sickness(server: ValkeyServer) -> None:
    found = findings(server.url)
    assert found["secret"]["verdict"] == "odd"
    assert "ROUTECACHE_SECRET" in found["secret"]["remedy"]
    (memory,) = [one for name, one in found.items() if name.endswith(", memory")]
    assert (memory["verdict"], "no limit" in memory["found"]) == ("odd", True)


def test_clocks_that_differ_are_found(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 60)
    found = findings(server.url, status=3)
    (clock,) = [one for name, one in found.items() if name.endswith(", clock")]
    assert "behind" in clock["found"]
    assert "NTP" in clock["remedy"]


def test_a_store_that_is_too_far_away_is_found() -> None:
    found = checkup._latency("redis://far", [0.04, 0.05, 0.06], 0.05)
    assert found.verdict is Verdict.BAD
    assert "coordinator_timeout_s" in found.remedy


def test_a_store_that_is_not_there_is_found_without_its_password() -> None:
    found = findings("redis://u:canary-password@127.0.0.1:1/0", status=3)
    bad = [one for one in found.values() if one["verdict"] == "bad"]
    assert len(bad) == 1
    assert "canary-password" not in str(found)


def test_a_configuration_that_is_wrong_is_found(tmp_path: Path) -> None:
    url = f"lmdb://{tmp_path}/cache"
    found = findings(url, status=3, ROUTECACHE_RESULT_TTL_S="soon")
    assert found["configuration"]["verdict"] == "bad"
    assert "result_ttl_s" in found["configuration"]["found"]
    assert "memory://" in findings("memory://", status=3)["configuration"]["found"]


def test_a_gateway_that_is_not_there_is_found() -> None:
    found = findings("http://127.0.0.1:1", status=3)
    assert "does not answer" in found["reach"]["found"]


def test_a_store_on_this_machine_is_well(tmp_path: Path) -> None:
    url = f"lmdb://{tmp_path}/cache"
    fill(url)
    assert told("doctor", "--url", url, ROUTECACHE_SECRET=f"{CANARY}-0123456789")["is_well"]


def test_a_ring_is_looked_at_node_by_node(server: ValkeyServer) -> None:
    server.command("CONFIG", "SET", "maxmemory", "100mb")
    host = server.url.partition("://")[2].partition("/")[0]
    found = findings(f"ring://{host}", status=3)
    (node,) = [name for name in found if name.endswith(", memory")]
    assert "noeviction" in found[node]["found"]
    assert found[node.replace("memory", "clock")]["verdict"] == "good"
