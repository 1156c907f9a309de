"""The ASGI application that ``routecache litellm`` serves."""

from routecache_middleware.adapters.litellm.fastlane.place import Doorway

__all__ = ["create_app"]


def create_app() -> Doorway:
    """Return LiteLLM's proxy with room for the fast lane; a factory for ASGI servers.

    ``CONFIG_FILE_PATH`` in the environment names the proxy's configuration.
    """
    from litellm.proxy.proxy_server import app

    return Doorway(app, on_started=_start_cache, on_stopped=_stop_cache)


async def _start_cache() -> None:
    """Put the cache in place where the configuration did not name it: this command is about it."""
    import litellm

    from routecache_middleware.adapters.litellm.proxy import start_callback

    callback = start_callback()
    if callback not in litellm.callbacks:
        litellm.logging_callback_manager.add_litellm_callback(callback)


async def _stop_cache() -> None:
    """Finish what is under way."""
    from routecache_middleware.adapters.litellm.hub import current

    hub = current()
    if hub is not None:
        await hub.aclose()
