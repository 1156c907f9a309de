"""LiteLLM: the callback for its proxy, and ``install`` for its SDK and Router.

The names are loaded on first use, so that importing this package needs no LiteLLM.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routecache_middleware.adapters.litellm.hooks import RouteCacheCallback
    from routecache_middleware.adapters.litellm.hub import install, uninstall

    callback: RouteCacheCallback

__all__ = ["callback", "install", "uninstall"]

_HOMES = {"install": "hub", "uninstall": "hub"}


def __getattr__(name: str) -> object:
    if name == "callback":  # what the proxy's config.yaml names; asking for it starts the cache
        return import_module(f"{__name__}.proxy").start_callback()
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
