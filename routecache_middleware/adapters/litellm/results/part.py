"""The part that keeps answers: each call is taken up in a hook, and met again in LiteLLM's cache.

No argument of a call is changed but those that LiteLLM itself reads and sends to nobody:
``cache_key`` carries the call, ``caching`` overrules the Router's default, and from ``cache`` a
``no-cache`` is taken out: LiteLLM would not ask at all then, and forget to bring the key along when
it writes.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from routecache_middleware.adapters.litellm.part import Kwargs, Part
from routecache_middleware.adapters.litellm.results.apis import Api, api_of
from routecache_middleware.adapters.litellm.results.board import Board
from routecache_middleware.adapters.litellm.results.cache import new_cache
from routecache_middleware.adapters.litellm.results.calls import Call, CallKey, begun_call
from routecache_middleware.adapters.litellm.results.controls import read_controls
from routecache_middleware.adapters.litellm.results.counting import Counting
from routecache_middleware.adapters.litellm.results.headers import fields_of
from routecache_middleware.adapters.litellm.results.heeding import Heeding
from routecache_middleware.adapters.litellm.results.keying import Keyer, is_routed
from routecache_middleware.adapters.litellm.results.lookup import Lookups
from routecache_middleware.adapters.litellm.results.place import Place
from routecache_middleware.adapters.litellm.results.storing import Storing
from routecache_middleware.adapters.litellm.results.stream_ends import StreamEnds
from routecache_middleware.core.body_directives import BodyDirectives
from routecache_middleware.core.models import BypassReason

if TYPE_CHECKING:
    from routecache_middleware.adapters.litellm.hub import Hub

__all__ = ["Results", "create"]

_NO_CACHE = "no-cache"


class Results(Part):
    """Answers of async calls.

    Attributes:
        cache: What stands in ``litellm.cache``.
        keyer: Identifies calls; usable from any thread.
        board: What is under way.
    """

    def __init__(self, hub: "Hub") -> None:
        engine = hub.engine
        self._hub = hub
        self._engine = engine
        self._counting = Counting(engine)
        heeding = Heeding(engine, hub.warn)
        self.board = Board(engine, hub.options.flight_timeout_s)
        self.keyer = Keyer(engine.settings, engine.policy, hub.options, is_proxy=hub.is_proxy)
        self.cache = new_cache(
            self.keyer,
            Lookups(engine, self.board, self._counting, heeding, has_lane=hub.options.fast_lane),
            Storing(engine, heeding),
            door=lambda: hub.door,
            closing=self._close,
        )
        self._place = Place(self.cache, hub.options.rival, logs_sync_hits=not hub.is_proxy)
        self._stream_ends = StreamEnds()

    @property
    def is_in_place(self) -> bool:
        """Whether ``litellm.cache`` is ours."""
        return self._place.is_mine()

    def install(self) -> None:
        """Get into ``litellm.cache``."""
        self._place.take()
        self._stream_ends.install()

    def uninstall(self) -> None:
        """Get out of it again."""
        self._place.leave()
        self._stream_ends.uninstall()

    async def aclose(self) -> None:
        """Let everybody go who waits."""
        self.board.clear()

    async def before_call(self, kwargs: Kwargs, call_type: str) -> None:
        """Take a call up."""
        begun_call.set(None)
        if not isinstance(kwargs.get("cache", {}), Mapping):
            # LiteLLM asks it for its words wherever there is a cache, and fails the call.
            del kwargs["cache"]
        api = api_of(call_type)
        if api is None:
            return
        before = kwargs.get("cache_key")
        call = self._begin(api, kwargs, before.call if isinstance(before, CallKey) else None)
        if not self._place.is_mine() or self._is_refused(api, kwargs):
            self._counting.bypassed(call, BypassReason.DISABLED)
            return
        if api.prompt and api.prompt not in kwargs:
            # It is a positional argument, and the first one: on a hit LiteLLM takes that for the
            # model, and fails the call.
            kwargs["caching"] = False
            self._counting.bypassed(call, BypassReason.DISABLED)
            return
        if api.is_per_input:
            call.inputs = kwargs.get("input")
        kwargs["cache_key"] = CallKey("", call)
        kwargs["caching"] = True
        asked = kwargs.get("cache")
        if isinstance(asked, Mapping) and _NO_CACHE in asked:
            kwargs["cache"] = {name: value for name, value in asked.items() if name != _NO_CACHE}
        begun_call.set(call)

    def after_failure(self, kwargs: Kwargs, error: BaseException) -> None:
        """The provider has failed: somebody who waits may try."""
        key = kwargs.get("cache_key")
        for ask in key.call.asks.values() if isinstance(key, CallKey) else ():
            if ask.flight is not None:
                ask.flight.fail()

    def headers(self, data: Kwargs, response: object) -> Mapping[str, str]:
        """Say what the cache did."""
        record = self._hub.outcomes.peek(data.get("litellm_call_id"))
        if record is None or not self._engine.settings.response_headers:
            return {}
        return fields_of(record, self._engine.coordinator.name)

    def _begin(self, api: Api, kwargs: Kwargs, before: Call | None) -> Call:
        """Begin a call, or another attempt of one: LiteLLM hands on what it was given by us."""
        if before is None:
            own_key: object = kwargs.get("cache_key")
            controls = _controls(kwargs)
        else:
            own_key, controls = before.own_key, before.controls
        call_id = kwargs.get("litellm_call_id")
        return Call(
            api,
            call_id if isinstance(call_id, str) else "",
            controls,
            own_key,
            self._hub.outcomes.of(call_id),
            position=self._engine.table.position,
            began_s=self._engine.clock.monotonic_s(),
        )

    def _is_refused(self, api: Api, kwargs: Kwargs) -> bool:
        """Whether the caller wants no caching. A Router says so too, unless it is told not to."""
        if kwargs.get("caching") is not False:
            return False
        return self._hub.door is not None or not is_routed(api, kwargs)

    async def _close(self) -> None:
        if self._hub.is_proxy:  # nobody else there tells us that it is over
            await self._hub.aclose()


def _controls(kwargs: Mapping[str, Any]) -> BodyDirectives:
    metadata = kwargs.get("metadata")
    namespace = metadata.get("redis_namespace") if isinstance(metadata, Mapping) else None
    return read_controls(kwargs.get("cache"), namespace)


def create(hub: "Hub") -> Results:
    """Build the part."""
    return Results(hub)
