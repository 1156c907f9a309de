"""Builds the coordinator of ``redis://`` and its relatives, with its guard and its near cache."""

from functools import partial

from routecache_middleware.coordinators.compression import ZstdCompressor
from routecache_middleware.coordinators.guarded import GuardedCoordinator
from routecache_middleware.coordinators.redis.address import Address
from routecache_middleware.coordinators.redis.coordinator import RedisCoordinator
from routecache_middleware.coordinators.redis.driver import check_driver
from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.redis.links import connect
from routecache_middleware.coordinators.redis.session import Session
from routecache_middleware.coordinators.tiered import TieredCoordinator
from routecache_middleware.coordinators.url import CoordinatorUrl
from routecache_middleware.core.choices import Compression
from routecache_middleware.core.codec import EntryCodec
from routecache_middleware.core.ports import Clock, Coordinator
from routecache_middleware.core.settings import Settings

__all__ = ["create", "create_bare", "limit_bytes", "wrap"]

# Settings may forbid large answers; decisions and metadata are small, and no answers.
_LEAST_LIMIT_BYTES = 65_536


def create(url: CoordinatorUrl, settings: Settings, clock: Clock) -> Coordinator:
    """Build the coordinator that ``url`` names; connects to nothing.

    Raises:
        ConfigurationError: The URL or an option is wrong, or redis-py is missing.
    """
    return wrap(create_bare(url, settings, clock), url, settings, clock)


def create_bare(url: CoordinatorUrl, settings: Settings, clock: Clock) -> RedisCoordinator:
    """Build it without guard and near cache.

    Raises:
        ConfigurationError: The URL or an option is wrong, or redis-py is missing.
    """
    address = Address.parse(url)
    check_driver()
    return RedisCoordinator(
        partial(_session, address, settings, clock),
        name=url.scheme,
        limit_bytes=limit_bytes(settings),
    )


def wrap(
    coordinator: Coordinator, url: CoordinatorUrl, settings: Settings, clock: Clock
) -> Coordinator:
    """Put the guard around a networked coordinator, and a near cache in front unless unwanted.

    Raises:
        ConfigurationError: An option is wrong.
    """
    is_near = url.choice("near", ("true", "false"), "true" if settings.near else "false")
    near_bytes = url.whole_number("near_bytes", settings.near_bytes)
    guarded = GuardedCoordinator(
        coordinator,
        clock=clock,
        timeout_s=settings.coordinator_timeout_s,
        where=str(url).partition("?")[0],
    )
    if is_near == "false" or not near_bytes:
        return guarded
    return TieredCoordinator(
        guarded,
        max_bytes=near_bytes,
        clock=clock,
        max_disconnected_s=settings.max_disconnected_s,
        eviction=settings.eviction,
    )


def _session(address: Address, settings: Settings, clock: Clock) -> Session:
    keys = Keys(address.prefix)
    compressor = ZstdCompressor() if settings.compression is Compression.ZSTD else None
    limit = limit_bytes(settings)
    return Session(
        connect(address, keys.log, clock),
        keys,
        EntryCodec(max_bytes=limit, compressor=compressor),
        limit_bytes=limit,
        clock=clock,
    )


def limit_bytes(settings: Settings) -> int:
    """Largest body that is kept, bytes."""
    return max(settings.max_result_bytes, _LEAST_LIMIT_BYTES)
