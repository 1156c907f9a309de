"""The cache inside one LiteLLM process: what it is made of, how it gets in, and how it gets out."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from routecache_middleware.adapters.asgi.parts import WarnOnce
from routecache_middleware.adapters.litellm.options import Configured, configure, for_cache
from routecache_middleware.adapters.litellm.outcomes import Outcomes
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.cache import RouteCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from routecache_middleware.adapters.litellm.hooks import RouteCacheCallback
    from routecache_middleware.adapters.litellm.part import Part
    from routecache_middleware.adapters.litellm.sync.door import SyncDoor

__all__ = ["Hub", "current", "install", "uninstall"]


# In the order in which they see an event. Each module has a ``create(hub) -> Part | None``.
_PARTS = ("sync", "results", "decisions", "load", "pinning", "models", "fastlane", "admin")
_PACKAGE = "routecache_middleware.adapters.litellm"
# Where LiteLLM copies what stands in ``litellm.callbacks`` at the first call.
_CALLBACK_LISTS = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "service_callback",
    "_async_input_callback",
    "_async_success_callback",
    "_async_failure_callback",
)

_logger = logging.getLogger("routecache")

_current: "Hub | None" = None


class Hub:
    """Everything that one process has of the cache, for the parts to share.

    Attributes:
        configured: URL, settings, policy and options.
        cache: The cache; its engine has the coordinator.
        is_owner: Whether closing the cache is ours.
        outcomes: What became of each call.
        door: The way in for calls that are not async; set by the part ``sync``.
        warn: Logs what of the user's own fails, once.
        callback: What LiteLLM knows.
        router: The Router that ``install`` was given; the proxy's is found when it is needed.
        parts: What is at work.
    """

    def __init__(
        self,
        configured: Configured,
        *,
        cache: RouteCache | None = None,
        router: Any = None,
        is_proxy: bool = False,
    ) -> None:
        """Build everything; puts nothing in place."""
        self.configured = configured
        self.is_owner = cache is None
        self.cache = cache or RouteCache(
            url=configured.url, settings=configured.settings, policy=configured.policy
        )
        self.engine = self.cache.engine
        self.options = configured.options
        self.outcomes = Outcomes()
        self.door: SyncDoor | None = None
        self.warn = WarnOnce()
        self.router = router
        self.is_proxy = is_proxy
        self.callback = _new_callback()
        self.parts: tuple[Part, ...] = ()

    def install(self) -> None:
        """Put everything in place; undone by :meth:`uninstall`. All of it, or nothing."""
        import litellm

        try:
            for name in _PARTS:
                part = _factory(name)(self)
                if part is not None:
                    self.parts = (*self.parts, part)
            for part in self.parts:
                part.install()
        except BaseException:
            self.uninstall()
            raise
        self.callback.set_parts(self.parts)
        if not self.is_proxy:  # the proxy registers what it finds under that name
            litellm.callbacks.append(self.callback)

    def uninstall(self) -> None:
        """Take everything out of LiteLLM; idempotent."""
        import litellm

        self.callback.set_parts(())
        for name in _CALLBACK_LISTS:
            callbacks = getattr(litellm, name, [])
            # In place, by identity: LiteLLM's own modules hold on to these lists.
            callbacks[:] = [one for one in callbacks if one is not self.callback]
        for part in reversed(self.parts):
            try:
                part.uninstall()
            except Exception as error:  # noqa: BLE001 - the others have to be taken out as well
                name = type(part).__name__
                _logger.warning("%s could not be taken out (%s)", name, type(error).__name__)

    async def aclose(self) -> None:
        """Finish what is under way and close the cache, if it is ours."""
        for part in reversed(self.parts):
            await part.aclose()
        if self.is_owner:
            await self.cache.aclose()


def current() -> Hub | None:
    """What is installed in this process, or None."""
    return _current


def start(hub: Hub) -> Hub:
    """Install a hub in place of the one before; if that fails there is none."""
    global _current  # noqa: PLW0603 - LiteLLM itself is configured by globals of the process
    uninstall()
    hub.install()
    _current = hub
    return hub


def install(
    router: Any = None,
    *,
    url: str | None = None,
    cache: RouteCache | None = None,
    **settings: Any,
) -> RouteCache:
    """Cache the calls that this process makes through LiteLLM's SDK and Router.

    Async calls and others, streams and others. It may be called inside or outside an event loop,
    before or after Routers are made, and again: the latest call counts.

    Args:
        router: A ``litellm.Router`` whose models are to be watched. Answers are cached for every
            Router of the process, whatever its ``cache_responses``; one call goes without by
            ``caching=False``.
        url: Coordinator URL; None: ``ROUTECACHE_URL``, the configuration file, or ``memory://``.
        cache: A cache to use instead, with its own settings; it is never closed from here.
        settings: Settings, policy and options by name, such as ``result_ttl_s=60``. With
            ``cache``: options alone.

    Returns:
        The cache: for statistics, invalidation, and ``await cache.aclose()`` at the end.

    Raises:
        ConfigurationError: LiteLLM is missing, or a setting is wrong. What was installed before
            still is.
    """
    if cache is None:
        return start(Hub(configure(url=url, **settings), router=router)).cache
    if url is not None:
        raise ConfigurationError("cache= was given together with url=; give the URL to the cache")
    return start(Hub(for_cache(cache, **settings), cache=cache, router=router)).cache


def uninstall() -> None:
    """Take the cache out of LiteLLM again; idempotent. It stays open: ``await cache.aclose()``."""
    global _current
    hub, _current = _current, None
    if hub is not None:
        hub.uninstall()


def _factory(name: str) -> "Callable[[Hub], Part | None]":
    factory: Callable[[Hub], Part | None] = import_module(f"{_PACKAGE}.{name}").create
    return factory


def _new_callback() -> "RouteCacheCallback":
    try:
        from routecache_middleware.adapters.litellm.hooks import (
            RouteCacheCallback,
        )
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("litellm"):
            raise
        raise ConfigurationError(
            "LiteLLM is not installed; pip install 'routecache-middleware[litellm]'"
        ) from error
    return RouteCacheCallback()
