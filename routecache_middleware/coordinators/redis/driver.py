"""redis-py's connections and clients, made to our needs: no retries, short timeouts.

The breaker around the coordinator retries; a driver that retries makes a request wait 9 s for a
server that hangs (measured). Nothing is connected here: clients connect with their first command.
"""

from functools import partial
from importlib import import_module
from typing import Any

from routecache_middleware.coordinators.redis.address import Address, Node
from routecache_middleware.coordinators.redis.pool import Pool
from routecache_middleware.errors import ConfigurationError

__all__ = ["check_driver", "cluster", "sentinels", "standalone"]

_CONNECT_TIMEOUT_S = 0.5
_HEALTH_CHECK_S = 15
_RESP = 2  # RESP 3 is no faster (measured), and adds a handshake that Valkey refuses


def check_driver() -> None:
    """Raise a ConfigurationError, with how to install it, when redis-py is missing."""
    try:
        import_module("redis.asyncio")
        import_module("hiredis")
    except ImportError as error:
        raise ConfigurationError(
            "redis:// and valkey:// URLs need the packages redis and hiredis; "
            "install them with: pip install 'routecache-middleware[redis]'"
        ) from error


def standalone(address: Address, node: Node, *, timeout_s: float, max_connections: int) -> Pool:
    """Return connections to one server."""
    module: Any = import_module("redis.asyncio")
    kind = module.Connection if address.tls is None else module.SSLConnection
    arguments = {
        **_common(address),
        **(address.tls or {}),
        "host": node.host,
        "port": node.port,
        "db": address.database,
        # The pool has one for the whole command; the driver's takes a task for each write.
        "socket_timeout": None,
    }
    return Pool(partial(kind, **arguments), limit=max_connections, timeout_s=timeout_s)


def sentinels(address: Address) -> Any:
    """Return a client of the sentinels."""
    module: Any = import_module("redis.asyncio.sentinel")
    asking = {
        **_common(address),
        **({} if address.tls is None else {"ssl": True, **address.tls}),
        "username": address.sentinel_username or None,
        "password": address.sentinel_password or None,
    }
    return module.Sentinel(
        [(node.host, node.port) for node in address.nodes], sentinel_kwargs=asking
    )


def cluster(address: Address) -> Any:
    """Return a client of a whole Cluster."""
    module: Any = import_module("redis.asyncio.cluster")
    return module.RedisCluster(
        startup_nodes=[module.ClusterNode(node.host, node.port) for node in address.nodes],
        require_full_coverage=False,
        max_connections=address.max_connections,
        **_common(address),
        **({} if address.tls is None else {"ssl": True, **address.tls}),
    )


def _common(address: Address) -> dict[str, Any]:
    retry: Any = import_module("redis.asyncio.retry")
    backoff: Any = import_module("redis.backoff")
    return {
        "username": address.username or None,
        "password": address.password or None,
        "client_name": address.client_name,
        "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        "socket_timeout": address.timeout_s,
        "health_check_interval": _HEALTH_CHECK_S,
        "retry": retry.Retry(backoff.NoBackoff(), 0),
        "protocol": _RESP,
        "decode_responses": False,
    }
