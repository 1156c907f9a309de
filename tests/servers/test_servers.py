"""The servers that tests run against: they start, fail and heal as told."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.child import ROOT, wait_until
from tests.support.fixtures import StartValkey
from tests.support.valkey import (
    ReplyError,
    Sentinels,
    ValkeyCluster,
    ValkeyServer,
    free_ports,
    start_server,
)
from tests.support.valkey.resp import call


def test_free_ports_differ_and_leave_room_for_the_cluster_bus() -> None:
    ports = free_ports(50, bus=True)
    assert len(set(ports)) == 50
    assert max(ports) + 10_000 < 32_768, "clients of this machine take ports from there on"


def test_a_server_answers_with_what_was_planted(valkey: ValkeyServer, valkey_url: str) -> None:
    assert valkey_url == f"redis://127.0.0.1:{valkey.port}/0"
    assert valkey.command("DBSIZE") == 0
    assert valkey.command("SET", "k", b"\x00\r\n\xff") == b"OK"
    assert valkey.command("GET", "k") == b"\x00\r\n\xff"
    assert valkey.command("RPUSH", "list", 1, 2.5) == 2
    assert valkey.command("LRANGE", "list", 0, -1) == [b"1", b"2.5"]
    assert valkey.command("GET", "absent") is None
    with pytest.raises(ReplyError, match="WRONGTYPE"):
        valkey.command("GET", "list")


def test_the_url_fixture_hands_out_an_empty_server(valkey: ValkeyServer, valkey_url: str) -> None:
    assert valkey.command("DBSIZE") == 0, "the test before left keys"


def test_a_server_takes_options_and_logs_in(start_valkey: StartValkey) -> None:
    server = start_valkey("--requirepass", "open sesame", "--maxmemory", "2mb")
    assert server.command("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"2097152"]
    assert "open" not in server.url
    with pytest.raises(ReplyError, match="NOAUTH"):
        call(server.port, "DBSIZE")


def test_a_server_takes_users(start_valkey: StartValkey) -> None:
    rights = ("on", ">pw:/@", "~rc*", "&*", "+@all")
    server = start_valkey("--user", "alice", *rights, "--user", "default", "off")
    alice = ("alice", "pw:/@")
    assert call(server.port, "SET", "rc:1", "v", credentials=alice) == b"OK"
    with pytest.raises(ReplyError, match="NOPERM"):
        call(server.port, "SET", "other", "v", credentials=alice)
    with pytest.raises(ReplyError, match="WRONGPASS"):
        call(server.port, "PING", credentials=("alice", "guess"))
    with pytest.raises(ReplyError, match="NOAUTH"):
        server.command("PING")


def test_a_killed_server_comes_back_empty_on_its_port(start_valkey: StartValkey) -> None:
    server = start_valkey()
    server.command("SET", "k", "v")
    port, pid = server.port, server.pid
    server.kill()
    assert not server.is_running
    with pytest.raises(ConnectionRefusedError):
        server.command("PING")
    server.restart()
    assert (server.port, server.command("GET", "k")) == (port, None)
    assert server.pid != pid


def test_a_persistent_server_comes_back_with_its_keys(start_valkey: StartValkey) -> None:
    server = start_valkey("--appendonly", "yes")
    server.command("SET", "k", "v")
    server.restart()
    assert server.command("GET", "k") == b"v"


def test_a_paused_server_accepts_and_does_not_answer(start_valkey: StartValkey) -> None:
    server = start_valkey()
    server.pause()
    with pytest.raises(TimeoutError):
        server.command("PING", timeout_s=0.2)
    server.resume()
    assert server.command("PING") == b"PONG"


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError, match="no-such-option"):
        start_server(tmp_path, "--no-such-option", "1")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_a_server_does_not_outlive_a_killed_test_run(tmp_path: Path) -> None:
    script = (
        "import pathlib, time\n"
        "from tests.support.valkey import start_server\n"
        f"print(start_server(pathlib.Path({str(tmp_path)!r})).port, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        port = int(run.stdout.readline())
        run.send_signal(signal.SIGKILL)
    log = tmp_path / f"valkey-{port}" / "server.log"
    pid = log.read_text().split(":", 1)[0]
    wait_until(lambda: not Path("/proc", pid).exists(), "the server is gone", timeout_s=10)


def test_a_cluster_serves_every_slot_and_redirects(
    valkey_cluster: ValkeyCluster, cluster_url: str
) -> None:
    ports = ",".join(f"127.0.0.1:{server.port}" for server in valkey_cluster.servers)
    assert cluster_url == f"redis+cluster://{ports}"
    owners = {valkey_cluster.node_of(f"key-{number}").port for number in range(50)}
    assert owners == {server.port for server in valkey_cluster.masters()}
    assert len(owners) == 3
    owner = valkey_cluster.node_of("key")
    assert owner.command("SET", "key", "v") == b"OK"
    other = next(server for server in valkey_cluster.masters() if server is not owner)
    with pytest.raises(ReplyError, match="MOVED"):
        other.command("GET", "key")


def test_a_replica_takes_over_from_a_killed_master_with_its_keys(
    valkey_cluster: ValkeyCluster, cluster_url: str
) -> None:
    owner = valkey_cluster.node_of("kept")
    owner.command("SET", "kept", "v")
    assert owner.command("WAIT", 1, 5_000) == 1
    owner.kill()
    wait_until(lambda: valkey_cluster.node_of("kept") is not owner, "a failover")
    assert valkey_cluster.node_of("kept").command("GET", "kept") == b"v"
    assert not valkey_cluster.is_whole()
    valkey_cluster.heal()
    assert valkey_cluster.is_whole()


def test_sentinels_make_the_replica_master_when_the_master_is_killed(
    sentinels: Sentinels, sentinel_url: str
) -> None:
    watching = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels.sentinels)
    assert sentinel_url == f"redis+sentinel://{watching}/mymaster"
    first = sentinels.master()
    first.command("SET", "kept", "v")
    assert first.command("WAIT", 1, 5_000) == 1
    with pytest.raises(ReplyError, match="READONLY"):
        sentinels.replicas()[0].command("SET", "kept", "w")
    began_s = time.monotonic()
    first.kill()
    wait_until(lambda: sentinels.master() is not first, "a failover")
    assert time.monotonic() - began_s < 10
    assert sentinels.master().command("GET", "kept") == b"v"
    sentinels.heal()
    assert sentinels.replicas() == [first]
