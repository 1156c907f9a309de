"""Real Valkey servers on free ports of this machine: one alone, a cluster, and sentinels."""

from tests.support.valkey.cluster import ValkeyCluster, start_cluster
from tests.support.valkey.resp import Reply, ReplyError
from tests.support.valkey.sentinels import Sentinels, start_sentinels
from tests.support.valkey.server import ValkeyServer, free_ports, server_binary, start_server

__all__ = [
    "Reply",
    "ReplyError",
    "Sentinels",
    "ValkeyCluster",
    "ValkeyServer",
    "free_ports",
    "server_binary",
    "start_cluster",
    "start_sentinels",
    "start_server",
]
