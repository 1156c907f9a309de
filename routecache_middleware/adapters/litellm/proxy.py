"""LiteLLM's proxy: the callback that its ``config.yaml`` names."""

import logging
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from routecache_middleware.adapters.litellm.hub import Hub, current, start
from routecache_middleware.adapters.litellm.options import configure
from routecache_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from routecache_middleware.adapters.litellm.hooks import RouteCacheCallback

__all__ = ["start_callback"]

_NAME = "routecache"
_logger = logging.getLogger(_NAME)


def start_callback() -> "RouteCacheCallback":
    """Return the callback of this process; the first time, put the cache in place.

    Raises:
        ConfigurationError: A setting is wrong: the proxy does not start, and says why.
    """
    hub = current()
    if hub is None or not hub.is_proxy:
        import litellm

        _check_name(litellm.callback_settings)
        try:
            hub = start(Hub(configure(litellm.callback_settings.get(_NAME)), is_proxy=True))
        except ConfigurationError as error:
            _logger.error("this proxy cannot start: %s", error)  # noqa: TRY400 - one line
            raise
    return hub.callback


def _check_name(settings: Mapping[str, object]) -> None:
    """Say so when our settings seem to stand under another name: nobody would read them."""
    close = [] if _NAME in settings else get_close_matches(_NAME, settings, n=1)
    if close:
        _logger.warning(
            "callback_settings.%s is not read: did you mean callback_settings.%s?", close[0], _NAME
        )
