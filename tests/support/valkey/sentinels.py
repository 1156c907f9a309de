"""A master with replicas, watched by three real sentinels."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from tests.support.child import wait_until
from tests.support.valkey.resp import Reply, ReplyError
from tests.support.valkey.server import ValkeyServer, free_ports, start_server

__all__ = ["Sentinels", "start_sentinels"]

_NAME = "mymaster"
_SENTINELS = 3
_QUORUM = 2


class Sentinels:
    """The servers and who watches them.

    Attributes:
        servers: The data servers; the first one was the first master.
        sentinels: Those that watch; any two of them decide.
    """

    def __init__(self, servers: Sequence[ValkeyServer], sentinels: Sequence[ValkeyServer]) -> None:
        self.servers = list(servers)
        self.sentinels = list(sentinels)

    @property
    def url(self) -> str:
        """``redis+sentinel://127.0.0.1:PORT,.../mymaster``."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{_NAME}"

    def master(self) -> ValkeyServer:
        """Return the server that most sentinels that answer call the master now."""
        ports = [port for s in self.sentinels if (port := _master_port(s)) is not None]
        if not ports:
            raise ConnectionError("no sentinel answers")
        port = max(ports, key=ports.count)
        return next(server for server in self.servers if server.port == port)

    def replicas(self) -> list[ValkeyServer]:
        """Return the servers that are not the master now."""
        master = self.master()
        return [server for server in self.servers if server is not master]

    def flush(self) -> None:
        """Forget all keys."""
        self.master().command("FLUSHALL")

    def heal(self) -> None:
        """Start dead processes again, resume paused ones, and wait until all of them agree."""
        for server in (*self.servers, *self.sentinels):
            if not server.is_running:
                server.restart()
            server.resume()
        wait_until(lambda: self._follow() and self.is_whole(), "all is healed", timeout_s=60)

    def wait_until_whole(self) -> None:
        """Wait until the sentinels know each other and all, and every replica follows."""
        wait_until(self.is_whole, "the sentinels see all well", timeout_s=60)

    def is_whole(self) -> bool:
        """Whether all processes are up and agree about who is master and who follows."""
        with contextlib.suppress(OSError, ReplyError):
            master = self.master()
            return all(self._is_content(s, master) for s in self.sentinels) and all(
                _is_in_role(server, master) for server in self.servers
            )
        return False

    def close(self) -> None:
        """End all processes; idempotent."""
        for server in (*self.sentinels, *self.servers):
            server.close()

    def _follow(self) -> bool:
        """Attach what came back as a master of its own: the sentinels would take 10 s to do it."""
        with contextlib.suppress(OSError, ReplyError):
            master = self.master()
            for server in self.servers:
                if server is not master and not _is_in_role(server, master):
                    server.command("REPLICAOF", "127.0.0.1", master.port)
            return True
        return False

    def _is_content(self, sentinel: ValkeyServer, master: ValkeyServer) -> bool:
        facts = _facts(sentinel)
        rows = sentinel.command("SENTINEL", "REPLICAS", _NAME)
        assert isinstance(rows, list)
        return (
            facts["port"] == str(master.port)
            and facts["flags"] == "master"
            and facts["num-other-sentinels"] == str(_SENTINELS - 1)
            and facts["num-slaves"] == str(len(self.servers) - 1)
            and all(_pairs(row)["flags"] == "slave" for row in rows)
        )


def start_sentinels(
    directory: Path, *options: str, replicas: int = 1, down_after_ms: int = 1_000
) -> Sentinels:
    """Start a master, its replicas and three sentinels; wait until all agree (about 3 s).

    Args:
        directory: A folder of the test's own.
        options: More command line for every data server.
        replicas: How many follow the master.
        down_after_ms: Silence after which a sentinel takes a server for down; a failover takes
            one to two seconds more.
    """
    watched = Sentinels([], [])
    try:
        ports = free_ports(1 + replicas + _SENTINELS)
        master, following, watching = ports[0], ports[1 : 1 + replicas], ports[1 + replicas :]
        watched.servers.append(start_server(directory, *options, port=master))
        for port in following:
            replica = start_server(directory, *options, port=port)
            watched.servers.append(replica)
            replica.command("REPLICAOF", "127.0.0.1", master)
        for port in watching:
            watched.sentinels.append(_start_sentinel(directory, port, master, down_after_ms))
        watched.wait_until_whole()
    except BaseException:
        watched.close()
        raise
    return watched


def _start_sentinel(
    directory: Path, port: int, master_port: int, down_after_ms: int
) -> ValkeyServer:
    home = directory / f"sentinel-{port}"
    home.mkdir(parents=True)
    config = home / "sentinel.conf"  # the sentinel writes into it what it learns
    config.write_text(
        f"bind 127.0.0.1\n"
        f"port {port}\n"
        f"dir {home}\n"
        f"sentinel monitor {_NAME} 127.0.0.1 {master_port} {_QUORUM}\n"
        f"sentinel down-after-milliseconds {_NAME} {down_after_ms}\n"
        f"sentinel failover-timeout {_NAME} 3000\n"
        f"sentinel parallel-syncs {_NAME} 1\n"
    )
    sentinel = ValkeyServer(home, port, (str(config), "--sentinel"))
    try:
        sentinel.wait_until_ready()
    except BaseException:
        sentinel.close()
        raise
    return sentinel


def _master_port(sentinel: ValkeyServer) -> int | None:
    if not sentinel.is_running:
        return None
    try:
        return int(_facts(sentinel)["port"])
    except (OSError, ReplyError):
        return None


def _facts(sentinel: ValkeyServer) -> dict[str, str]:
    return _pairs(sentinel.command("SENTINEL", "MASTER", _NAME, timeout_s=1.0))


def _pairs(reply: Reply) -> dict[str, str]:
    assert isinstance(reply, list)
    texts = [item.decode() for item in reply if isinstance(item, bytes)]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _is_in_role(server: ValkeyServer, master: ValkeyServer) -> bool:
    replication = server.text("INFO", "replication")
    if server is master:
        return "role:master" in replication
    return f"master_port:{master.port}" in replication and "link_status:up" in replication
