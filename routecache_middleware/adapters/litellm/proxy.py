"""LiteLLM's proxy: the callback that its ``config.yaml`` names."""

import logging
from typing import TYPE_CHECKING

from routecache_middleware.adapters.litellm.hub import Hub, current, start
from routecache_middleware.adapters.litellm.options import configure
from routecache_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from routecache_middleware.adapters.litellm.hooks import RouteCacheCallback

__all__ = ["start_callback"]

_logger = logging.getLogger("routecache")


def start_callback() -> "RouteCacheCallback":
    """Return the callback of this process; the first time, put the cache in place.

    Raises:
        ConfigurationError: A setting is wrong: the proxy does not start, and says why.
    """
    hub = current()
    if hub is None or not hub.is_proxy:
        import litellm

        try:
            hub = start(Hub(configure(litellm.callback_settings.get("routecache")), is_proxy=True))
        except ConfigurationError as error:
            _logger.error("this proxy cannot start: %s", error)  # noqa: TRY400 - one line
            raise
    return hub.callback
