"""What LiteLLM finds in ``litellm.cache``: a cache of its own kind, with our keys and our store.

LiteLLM does around it what only it can do: it takes answers apart, replays them as streams, marks
hits, and sets their cost to zero. Nothing here raises into it.
"""

import asyncio
import logging
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

import litellm
from litellm.caching.base_cache import BaseCache
from litellm.caching.caching import Cache

from routecache_middleware.adapters.litellm.results.apis import CALL_TYPES
from routecache_middleware.adapters.litellm.results.calls import Ask, Call, CallKey, call_of
from routecache_middleware.adapters.litellm.results.keying import Keyer
from routecache_middleware.adapters.litellm.results.lookup import Json, Lookups
from routecache_middleware.adapters.litellm.results.storing import Storing

if TYPE_CHECKING:
    from routecache_middleware.adapters.litellm.sync.door import SyncDoor

__all__ = ["Backend", "ResultCache", "new_cache"]

_LISTS = ("input_callback", "success_callback", "_async_success_callback")
_AT_ONCE = 16
"""Writes under way at a time for one call."""

_logger = logging.getLogger("routecache")


class Backend(BaseCache):
    """What LiteLLM's ``Cache`` wants to stand on; nothing is kept in it."""

    async def async_set_cache_pipeline(self, cache_list: Any, **kwargs: Any) -> None:
        """Do nothing."""

    async def disconnect(self) -> None:
        """Do nothing: whoever has opened the cache closes it."""


class ResultCache(Cache):
    """LiteLLM's cache, on our engine.

    Its own attributes are slots, so that LiteLLM does not print them with its ``vars``.
    """

    __slots__ = ("_closing", "_door", "_keyer", "_lookups", "_storing", "_told")

    def __init__(
        self,
        keyer: Keyer,
        lookups: Lookups,
        storing: Storing,
        *,
        door: "Callable[[], SyncDoor | None]",
        closing: Callable[[], Any],
    ) -> None:
        """Build it; see :func:`new_cache`.

        Args:
            keyer: Identifies calls.
            lookups: Finds answers.
            storing: Keeps them.
            door: The way in for calls that are not async.
            closing: Called, and awaited, when the proxy shuts down.
        """
        super().__init__(
            type="local",
            supported_call_types=list(CALL_TYPES),
            max_messages=None,
            _backend=Backend(),
        )
        self._keyer = keyer
        self._lookups = lookups
        self._storing = storing
        self._door = door
        self._closing = closing
        self._told: set[str] = set()

    def get_cache_key(self, **kwargs: Any) -> str:
        """Return the key of a call: empty when it has none, or it is to be found out later."""
        call = call_of(kwargs)
        if call is None or "litellm_params" in kwargs:  # those are no arguments, but a log of them
            return self._plain_key(kwargs)
        try:
            ask = self._identified(call, kwargs)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not fail the call
            self._fault(error)
            ask = None
        return CallKey("" if ask is None else ask.keys.key, call, ask)

    async def async_get_cache(self, dynamic_cache_object: Any = None, **kwargs: Any) -> Json | None:
        """Return the answer to a call, or None."""
        key = kwargs.get("cache_key")
        if not isinstance(key, CallKey):
            return None
        try:
            return await self._find(key.call, key.ask, kwargs)
        except Exception as error:  # noqa: BLE001 - as above
            self._fault(error)
            return None

    async def async_add_cache(
        self, result: Any, dynamic_cache_object: Any = None, **kwargs: Any
    ) -> None:
        """Keep the answer to a call."""
        key = kwargs.get("cache_key")
        if not isinstance(key, CallKey):
            return
        try:
            ask = key.ask or key.call.ask()
            if ask is not None:
                await self._storing.store(key.call, ask, result)
        except Exception as error:  # noqa: BLE001 - as above
            self._fault(error)

    async def async_add_cache_pipeline(
        self, result: Any, dynamic_cache_object: Any = None, **kwargs: Any
    ) -> None:
        """Keep the embeddings of a call, each for itself."""
        key = kwargs.get("cache_key")
        if not isinstance(key, CallKey):
            return
        try:
            await self._add_all(key.call, result, kwargs)
        except Exception as error:  # noqa: BLE001 - as above
            self._fault(error)
        finally:
            for ask in key.call.asks.values():
                if ask.flight is not None:
                    ask.flight.end()

    def get_cache(self, dynamic_cache_object: Any = None, **kwargs: Any) -> Any:
        """As :meth:`async_get_cache`, for a call that is not async."""
        door = self._door()
        try:
            return None if door is None else door.get(kwargs)
        except Exception as error:  # noqa: BLE001 - as above
            self._fault(error)
            return None

    def add_cache(self, result: Any, **kwargs: Any) -> None:
        """As :meth:`async_add_cache`, for a call that is not async."""
        door = self._door()
        try:
            if door is not None:
                door.put(result, kwargs)
        except Exception as error:  # noqa: BLE001 - as above
            self._fault(error)

    async def disconnect(self) -> None:
        """The proxy shuts down."""
        await self._closing()

    def _identified(self, call: Call, kwargs: Json) -> Ask | None:
        """Find out what is wanted, if that does not hold up the event loop."""
        if call.identified is None:
            size = self._keyer.size_of(kwargs)
            if self._keyer.is_large(size) and not call.api.is_per_input:
                return None
            call.identify(self._keyer, kwargs, size)
        return call.ask(kwargs.get("input") if call.api.is_per_input else None)

    async def _find(self, call: Call, ask: Ask | None, kwargs: Json) -> Json | None:
        if call.identified is None:
            await asyncio.to_thread(call.identify, self._keyer, kwargs)
        if ask is None and not call.api.is_per_input:
            ask = call.ask()
        if not self._lookups.plan(call) or ask is None:
            return None
        return await self._lookups.find(call, ask, kwargs.get("litellm_logging_obj"))

    async def _add_all(self, call: Call, result: Any, kwargs: Json) -> None:
        given = kwargs.get("input")
        items = given if isinstance(given, list) else [given]
        if len(result.data) != len(items):
            return
        writes = (self._add_one(call, result, at, item, kwargs) for at, item in enumerate(items))
        while batch := list(islice(writes, _AT_ONCE)):
            await asyncio.gather(*batch)

    async def _add_one(self, call: Call, result: Any, at: int, item: Any, kwargs: Json) -> None:
        ask = call.ask(item)
        if ask is not None:
            # LiteLLM's own form of one embedding: it has a version, and is read back by LiteLLM.
            _, data, _ = self.add_embedding_response_to_cache(result, item, dict(kwargs), at)
            await self._storing.store(call, ask, data["response"])

    def _plain_key(self, kwargs: Json) -> str:
        """The key of a call that is not async, or that LiteLLM asks about for its own logs."""
        params = kwargs.get("litellm_params")
        known = params.get("preset_cache_key") if isinstance(params, dict) else None
        if known:
            return str(known)
        door = self._door()
        try:
            return "" if door is None else door.key(kwargs)
        except Exception as error:  # noqa: BLE001 - as above
            self._fault(error)
            return ""

    def _fault(self, error: Exception) -> None:
        kind = type(error).__name__
        if kind not in self._told:  # the text may quote a prompt: its type has to do
            self._told.add(kind)
            _logger.warning("the cache raised %s inside LiteLLM; calls go on without it", kind)


def new_cache(*args: Any, **kwargs: Any) -> ResultCache:
    """Build a :class:`ResultCache` that leaves nothing behind in LiteLLM's lists of callbacks.

    LiteLLM's own would call it once more after each call, which it does not need.
    """
    before = {name: list(getattr(litellm, name)) for name in _LISTS}
    made = ResultCache(*args, **kwargs)
    for name, callbacks in before.items():
        getattr(litellm, name)[:] = callbacks  # in place: others hold on to the lists
    return made
