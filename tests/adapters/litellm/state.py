"""LiteLLM's globals, put back after a test, and what it leaves running, ended."""

import asyncio
import contextlib
import inspect
from typing import Any

import litellm
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.llms.custom_httpx.async_client_cleanup import close_litellm_async_clients
from litellm.utils import _invalidate_model_cost_lowercase_map

from routecache_middleware.adapters.litellm import hub as hubs

__all__ = ["Snapshot", "close_clients", "close_sync_clients", "settle_logging", "uninstall_cache"]

_SIMPLE = (bool, int, float, str, bytes, type(None))
_CONTAINERS = (list, dict, set)


class Snapshot:
    """The plain values, lists and mappings among LiteLLM's globals, and its cache."""

    def __init__(self) -> None:
        self._names = set(vars(litellm))
        self._values = {
            name: value
            for name, value in vars(litellm).items()
            if name == "cache" or isinstance(value, _SIMPLE + _CONTAINERS)
        }
        self._contents = {
            name: value.copy()
            for name, value in self._values.items()
            if isinstance(value, _CONTAINERS)
        }

    def restore(self) -> None:
        """Put them back: the same objects with what they had in them."""
        for name, value in self._values.items():
            if name.startswith("__"):
                continue
            if isinstance(value, list):
                value[:] = self._contents[name]
            elif isinstance(value, dict | set):
                value.clear()
                value.update(self._contents[name])
            setattr(litellm, name, value)
        _invalidate_model_cost_lowercase_map()  # prices that it keeps beside `model_cost`


def uninstall_cache() -> Any:
    """Take out the cache that a test left installed; it is returned still open, or None."""
    hub = hubs.current()
    if hub is not None:
        hubs.uninstall()
    return hub


async def settle_logging() -> None:
    """Let LiteLLM's queue of log events run out, then end its worker."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await GLOBAL_LOGGING_WORKER.flush()
    await GLOBAL_LOGGING_WORKER.stop()


def close_sync_clients() -> None:
    """Close the blocking HTTP clients that LiteLLM keeps, and forget them."""
    kept = litellm.in_memory_llm_clients_cache
    for key, client in list(kept.cache_dict.items()):
        close = getattr(client, "close", None)
        if close is not None and not inspect.iscoroutinefunction(close):
            close()
            kept.delete_cache(key)


async def close_clients() -> None:
    """Close the HTTP clients that LiteLLM keeps for this event loop, and forget them."""
    close_sync_clients()
    await close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()
