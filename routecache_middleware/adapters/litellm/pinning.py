"""Pinning: the same query of the same tenant goes to the deployment that answered it before.

Off by default (``pin_deployments``). It keeps a provider's prompt cache warm and answers alike; the
price is that it defeats load balancing: whatever is asked often goes to one deployment, whatever
the strategy and the weights. So a pin yields wherever something else has a say:

* a deployment that LiteLLM would not use: in cooldown, unhealthy, of a later ``order``, without
  weight among others that have one, gone;
* a retry or fallback within a request, and for a minute after the deployment failed for this query;
* a deployment with many more calls under way than the others of its group.

Pinned is what LiteLLM's filters are shown: chat and Anthropic messages, not embeddings. Tags are
part of the query. What a routing plugin has narrowed down, and whatever continues a stored
response, is left alone; so are requests too large to be hashed at once.

Pins are kept in the routing layer, so all processes share them. Nothing waits for one: what is not
at hand is fetched meanwhile, for the next time.
"""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec
from cachetools import FIFOCache, TTLCache

from routecache_middleware.adapters.litellm.decisions.request import (
    Request,
    conversation_payload,
    request_payload,
    size_of,
)
from routecache_middleware.adapters.litellm.least_loaded import with_weight
from routecache_middleware.adapters.litellm.part import Deployment, Kwargs, Part
from routecache_middleware.adapters.litellm.tenancy import Tenancy
from routecache_middleware.core.canonical import DoubtfulJSONError, encode, normalise
from routecache_middleware.core.choices import DecisionScope
from routecache_middleware.core.fingerprint import Domain, new_hash
from routecache_middleware.core.keys import Layer, route_key
from routecache_middleware.core.models import Entry, Position
from routecache_middleware.core.plan import Serve
from routecache_middleware.core.records import read_decision
from routecache_middleware.errors import CorruptEntryError

if TYPE_CHECKING:
    from routecache_middleware.adapters.litellm.hub import Hub

__all__ = ["Pinning", "create"]

_STRATEGY = "pin"
_MAX_CALLS = 16_384
_MAX_RECENT = 4096
_RECENT_S = 5.0
_FAILED_S = 60.0
_HOT = 10  # calls under way
_HOTTER = 2  # times those of the least busy one
# Arguments of a request that is past its first try, or that continues something.
_DECIDED = (
    "_excluded_deployment_ids",
    "_retry_skipped_deployment_ids",
    "_target_order",
    "previous_response_id",
)
_PLACES = ("metadata", "litellm_metadata")
_CANDIDATES = "_routing_plugin_candidate_models"


class _Query(msgspec.Struct, frozen=True):
    """What is pinned."""

    hash: str
    tenant: str


class _Asked(msgspec.Struct, frozen=True):
    """What was found when a Router asked.

    Attributes:
        query: What for.
        position: How far the invalidation log was known.
        replaces: A deployment that had the pin and could not be used.
        ids: Those that could.
    """

    query: _Query
    position: Position
    replaces: str
    ids: frozenset[str]


class _Called(msgspec.Struct, frozen=True):
    asked: _Asked
    deployment: str


# From the Router's question to the call that comes of it: the same task, or one that it starts.
_asked: ContextVar[_Asked | None] = ContextVar("routecache_pin", default=None)


class Pinning(Part):
    """Pins queries to deployments."""

    def __init__(self, hub: "Hub") -> None:
        """Build it for a process."""
        self._hub = hub
        self._engine = hub.engine
        self._tenancy = Tenancy(hub.engine.settings, hub.options.isolation, is_proxy=hub.is_proxy)
        self._called: FIFOCache[str, _Called] = FIFOCache(_MAX_CALLS)
        clock = hub.engine.clock.monotonic_s
        self._recent: TTLCache[_Query, str] = TTLCache(_MAX_RECENT, _RECENT_S, timer=clock)
        self._failed: TTLCache[tuple[_Query, str], bool] = TTLCache(
            _MAX_RECENT, _FAILED_S, timer=clock
        )

    def filter_deployments(
        self, group: str, healthy: Sequence[Deployment], request_kwargs: Kwargs
    ) -> Sequence[Deployment]:
        """Leave the pinned deployment alone, if there is one and it may be used."""
        _asked.set(None)
        engine = self._engine
        if len(healthy) < 2 or not _is_open(request_kwargs) or not engine.is_open():  # noqa: PLR2004
            return healthy
        query = self._query(group, request_kwargs)
        if query is None:
            return healthy
        pinned = self._pinned(query) if engine.may_read(Layer.ROUTING) else ""
        usable = {_id(one): one for one in with_weight(_of_lowest_order(healthy))}
        found = usable.get(pinned)
        is_usable = found is not None and (query, pinned) not in self._failed
        replaces = "" if is_usable else pinned
        _asked.set(_Asked(query, engine.table.position, replaces, frozenset(map(_id, healthy))))
        if found is None or not is_usable or self._is_hot(pinned, usable):
            return healthy
        return [found]

    async def before_call(self, kwargs: Kwargs, call_type: str) -> None:
        """Note which deployment was picked."""
        asked, call_id = _asked.get(), kwargs.get("litellm_call_id")
        if asked is None or not isinstance(call_id, str):
            return
        _asked.set(None)
        deployment = _id(kwargs)
        if deployment in asked.ids:
            self._called[call_id] = _Called(asked, deployment)

    def after_failure(self, kwargs: Kwargs, error: BaseException) -> None:
        """Do not come back to a deployment that has just failed."""
        called = self._called.pop(str(kwargs.get("litellm_call_id")), None)
        if called is not None:
            self._failed[called.asked.query, called.deployment] = True

    async def succeeded(self, kwargs: Kwargs, response: object, duration_s: float) -> None:
        """Pin the query to the deployment that has answered it."""
        called = self._called.pop(str(kwargs.get("litellm_call_id")), None)
        params = kwargs.get("litellm_params")
        if called is None or kwargs.get("cache_hit") or not isinstance(params, dict):
            return
        if _id(params) == called.deployment and self._engine.may_write(Layer.ROUTING):
            self._engine.background.run(self._keep(called))

    async def _keep(self, called: _Called) -> None:
        """Store a pin, unless another process was first: then all go where that one went."""
        query, engine = called.asked.query, self._engine
        (entry,) = await engine.peek([route_key(query.hash, query.tenant)])
        kept = _deployment(entry)
        if kept and kept != called.asked.replaces:
            self._recent[query] = kept
            return
        self._recent[query] = called.deployment
        await self._hub.cache.cache_routing_decision(
            query.hash,
            called.deployment,
            tenant=query.tenant,
            strategy=_STRATEGY,
            captured=called.asked.position,
        )

    def _pinned(self, query: _Query) -> str:
        """Return the id of the pinned deployment as far as it is at hand; empty when not."""
        engine, key = self._engine, route_key(query.hash, query.tenant)
        lookup = engine.lookup_now(Layer.ROUTING, key)
        if lookup is not None:
            return _deployment(lookup.plan.entry) if isinstance(lookup.plan, Serve) else ""
        known = self._recent.get(query)
        if known is None:
            engine.background.run(self._fetch(query))
        return known or ""

    async def _fetch(self, query: _Query) -> None:
        (entry,) = await self._engine.peek([route_key(query.hash, query.tenant)])
        self._recent.setdefault(query, _deployment(entry))

    def _query(self, group: str, kwargs: Kwargs) -> _Query | None:
        """Return what a request asks; None when that cannot be told."""
        settings = self._engine.settings
        request = Request(group, kwargs, kwargs.get("messages"), kwargs.get("input"))
        asked = [request.messages, request.input]
        limit = min(settings.hash_in_thread_bytes, settings.max_request_bytes)
        if asked == [None, None] or size_of(asked, limit) > limit:
            return None
        tenant = self._tenancy.of(kwargs)
        if tenant is None:
            return None
        try:
            payload = None
            if settings.decision_scope is DecisionScope.CONVERSATION:
                payload = conversation_payload(request)
            if payload is None:
                payload = request_payload(request)
            state = new_hash(Domain.LITELLM_PIN, settings.secret)
            state.update(encode(normalise([group, _tags(kwargs)])) + encode(payload))
        except DoubtfulJSONError:
            return None
        return _Query(state.hexdigest(), tenant.name)

    def _is_hot(self, deployment: str, usable: Mapping[str, Deployment]) -> bool:
        load = self._engine.load.known()
        counts = {name: one.in_flight for name in usable if (one := load.get(name)) is not None}
        own = counts.get(deployment, 0)
        least = min(counts.get(name, 0) for name in usable)
        return own >= _HOT and own > _HOTTER * least


def create(hub: "Hub") -> Pinning | None:
    """Return the part, if it is turned on."""
    return Pinning(hub) if hub.options.pin_deployments else None


def _is_open(kwargs: Kwargs) -> bool:
    """Whether nothing in a request has decided already where it goes."""
    if any(kwargs.get(name) for name in _DECIDED):
        return False
    return not any(_CANDIDATES in metadata for metadata in _metadata(kwargs))


def _metadata(kwargs: Kwargs) -> list[Mapping[str, Any]]:
    found = (kwargs.get(place) for place in _PLACES)
    return [metadata for metadata in found if isinstance(metadata, Mapping)]


def _tags(kwargs: Kwargs) -> list[str]:
    several = [kwargs.get("tags"), *(metadata.get("tags") for metadata in _metadata(kwargs))]
    return sorted({str(tag) for tags in several if isinstance(tags, list) for tag in tags})


def _of_lowest_order(deployments: Sequence[Deployment]) -> Sequence[Deployment]:
    """Return those that LiteLLM takes first."""
    orders = [(one.get("litellm_params") or {}).get("order") for one in deployments]
    given = [order for order in orders if isinstance(order, int)]
    if not given:
        return deployments
    return [one for one, order in zip(deployments, orders, strict=True) if order == min(given)]


def _deployment(entry: Entry | None) -> str:
    """Return the id that a pin names; empty without one."""
    if entry is None:
        return ""
    try:
        return read_decision(entry, 0.0).selected_model
    except CorruptEntryError:
        return ""


def _id(place: Mapping[str, Any]) -> str:
    return str((place.get("model_info") or {}).get("id") or "")
