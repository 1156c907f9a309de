"""The gateway as an ASGI app: the door, the cache, and the proxy."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from routecache_middleware.adapters.asgi import RouteCacheMiddleware
from routecache_middleware.adapters.asgi.lifespan import Lifespan
from routecache_middleware.adapters.asgi.types import Receive, Scope, Send
from routecache_middleware.admin import AdminSettings, create_admin
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.gateway.beside import Beside
from routecache_middleware.gateway.catalogue import Catalogue
from routecache_middleware.gateway.clients import load_client_keys
from routecache_middleware.gateway.door import Door, is_loopback
from routecache_middleware.gateway.driver import Driver, needed
from routecache_middleware.gateway.proxy import Proxy
from routecache_middleware.gateway.settings import GatewaySettings
from routecache_middleware.wiring.cache import RouteCache
from routecache_middleware.wiring.config import (
    configured_url,
    load_policy,
    load_settings,
    load_table,
)
from routecache_middleware.wiring.prices import load_prices

__all__ = ["Gateway", "create_app"]


class Gateway:
    """A gateway, ready to be served.

    Attributes:
        app: The ASGI app.
        door: What of it requests to the upstreams meet first.
        cache: Its cache; it opens with the first request, and closes with the server.
        hosts: Hosts of the upstreams.
        settings: The gateway's own.
        has_client_keys: Clients need a key of the gateway's.
        has_own_keys: Some upstream is asked with a key of the gateway's.
        admin: The administration app that is served besides, or None.
        admin_settings: Who may use that, or None.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        store: str | None = None,
        toml_path: str | Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Build it; opens nothing.

        Args:
            settings: The gateway's own.
            store: The store's URL; None: the configured one.
            toml_path: Where those of the cache are, besides the environment.
            environ: The environment; None: that of the process.

        Raises:
            ConfigurationError: Something is wrong, missing, or would let strangers in.
        """
        environ = os.environ if environ is None else environ
        needed("httpx")
        catalogue = Catalogue(settings, environ)
        keys = load_client_keys(settings, environ)
        if keys is None and catalogue.has_own_keys and not is_loopback(settings.host):
            raise ConfigurationError(
                f"the gateway asks upstreams with a key of its own and listens on "
                f"{settings.host}, but has no client keys: whoever reaches it could use yours; "
                "set client_keys_env or client_keys_file in [routecache.gateway], "
                'or host = "127.0.0.1"'
            )
        passes = keys is None
        proxy = Proxy(catalogue, partial(Driver, settings), passes_credentials=passes)
        self.hosts, self.settings = catalogue.hosts, settings
        self.has_client_keys, self.has_own_keys = keys is not None, catalogue.has_own_keys
        self.cache = _cache(catalogue, store, toml_path, environ)
        _check_store(self.cache, settings)
        cached = RouteCacheMiddleware(
            _Closing(proxy, self.cache),
            cache=self.cache,
            router=catalogue.router if settings.routes else None,
            # A decision may have been made before the models were others.
            eligible=catalogue.knows if settings.routes else None,
        )
        self.door = Door(
            cached,
            via=proxy.via,
            keys=keys,
            is_guarded=catalogue.has_own_keys,
            coordinator=self.cache.engine.coordinator,
        )
        self.app: Door | Beside = self.door
        self.admin = None
        self.admin_settings: AdminSettings | None = None
        if settings.admin:
            table = load_table(AdminSettings, "admin", toml_path=toml_path, environ=environ)
            is_local = is_loopback(settings.host)
            self.admin_settings = table
            self.admin = create_admin(self.cache, settings=table, is_local=is_local)
            self.app = Beside(self.door, self.admin)


class _Closing:
    """The proxy, and at the end of the server's lifespan the cache, too."""

    def __init__(self, proxy: Proxy, cache: RouteCache) -> None:
        self._proxy = proxy
        self._cache = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await Lifespan(self._cache, send).run(self._proxy, scope, receive)
        else:
            await self._proxy(scope, receive, send)


def _cache(
    catalogue: Catalogue,
    store: str | None,
    toml_path: str | Path | None,
    environ: Mapping[str, str],
) -> RouteCache:
    """Return the gateway's cache: nobody has given it one, so it is told where all is written."""
    settings = load_settings(toml_path=toml_path, environ=environ)
    if catalogue.aliases and settings.routed_models is None:
        settings = replace(settings, routed_models=frozenset(catalogue.aliases))
    return RouteCache(
        url=configured_url(store, toml_path=toml_path, environ=environ),
        settings=settings,
        policy=load_policy(toml_path=toml_path, environ=environ),
        prices=partial(load_prices, toml_path=toml_path, environ=environ),
    )


def _check_store(cache: RouteCache, settings: GatewaySettings) -> None:
    """Refuse several workers with a store of its own for each of them.

    They would share neither entries nor invalidations: what was invalidated in one of them would be
    served by the others.
    """
    if settings.workers > 1 and not cache.engine.coordinator.is_shared:
        name = cache.engine.coordinator.name
        raise ConfigurationError(
            f"setting workers is {settings.workers}, and the store is {name}://, which belongs to "
            "one process: an invalidation would reach one worker and not the others; name a store "
            "that they share, such as --store lmdb:///var/cache/routecache (a directory on this "
            "machine, no server needed; pip install 'routecache-middleware[lmdb]'), also as url in "
            "[routecache] or ROUTECACHE_URL, or set workers to 1"
        )


def create_app() -> Door | Beside:
    """Return the gateway that environment and configuration file describe.

    For servers that want a factory, such as ``uvicorn --factory --workers 4
    routecache_middleware.gateway:create_app``. Where it listens is then the server's business, but
    ``host`` has to say so: it decides whether strangers can reach it.

    Raises:
        ConfigurationError: As for :class:`Gateway`.
    """
    return Gateway(load_table(GatewaySettings, "gateway")).app
