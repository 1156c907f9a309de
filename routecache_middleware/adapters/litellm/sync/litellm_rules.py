"""The rules that async calls follow, for calls that are not async."""

from typing import TYPE_CHECKING, Any

import msgspec

from routecache_middleware.adapters.litellm.part import Kwargs
from routecache_middleware.adapters.litellm.results.controls import read_controls
from routecache_middleware.adapters.litellm.results.heeding import Heeding
from routecache_middleware.adapters.litellm.results.keying import Identified, Keyer, is_routed
from routecache_middleware.adapters.litellm.results.lookup import readable
from routecache_middleware.adapters.litellm.results.storing import (
    Made,
    body_of,
    entry_of,
    judged,
)
from routecache_middleware.adapters.litellm.sync.key import SyncKey
from routecache_middleware.adapters.litellm.sync.query import Query
from routecache_middleware.adapters.litellm.sync.rules import Asked
from routecache_middleware.adapters.litellm.sync.whole_embeddings import sync_api_of
from routecache_middleware.core.body_directives import BodyDirectives
from routecache_middleware.core.models import BypassReason, DiscardReason, Entry, Position
from routecache_middleware.core.overrides import RequestPolicy
from routecache_middleware.core.plan import Bypass
from routecache_middleware.core.records import scopes_of

if TYPE_CHECKING:
    from routecache_middleware.adapters.litellm.hub import Hub

__all__ = ["LiteLLMRules"]


class _Request(msgspec.Struct, frozen=True):
    found: Identified
    controls: BodyDirectives
    held: RequestPolicy


class LiteLLMRules:
    """A :class:`.rules.Rules`: what counts in a key, what may be stored, what LiteLLM reads."""

    def __init__(self, hub: "Hub") -> None:
        self._engine = hub.engine
        self._heeding = Heeding(hub.engine, hub.warn)
        self._keyer = Keyer(
            hub.engine.settings, hub.engine.policy, hub.options, is_proxy=hub.is_proxy
        )

    def ask(self, kwargs: Kwargs, call_type: str) -> Asked | BypassReason | None:
        """Understand a request."""
        api, heeding = sync_api_of(call_type), self._heeding
        if api is None:
            return None
        metadata = kwargs.get("metadata")
        namespace = metadata.get("redis_namespace") if isinstance(metadata, dict) else None
        controls = read_controls(kwargs.get("cache"), namespace)
        own_key = kwargs.get("cache_key")
        own_key = None if isinstance(own_key, SyncKey) else own_key
        identified = self._keyer.identify(api, kwargs, controls, own_key)
        if isinstance(identified, BypassReason):
            return identified
        held = heeding.held(identified, controls)
        plan = heeding.plan(identified, controls, held)
        if isinstance(plan, Bypass):
            return plan.reason
        keys = identified.keys()
        tenant = identified.tenant.name
        return Asked(
            query=Query(
                key=keys.key,
                former=keys.former,
                tenant=tenant,
                model=identified.model,
                verb=api.verb,
                asked=controls.directives,
            ),
            form=identified.parsed.shape,
            scopes=scopes_of(tenant, identified.models),
            may_look_up=plan.may_look_up,
            may_serve=plan.may_serve,
            may_store=plan.may_store,
            may_share=plan.may_share,
            is_routed=is_routed(api, kwargs),
            request=_Request(identified, controls, held),
        )

    def verb(self, call_type: str) -> str:
        """Return what telemetry calls such a call; empty for one that is not cached."""
        api = sync_api_of(call_type)
        return "" if api is None else api.verb

    def keep(
        self, asked: Asked, result: object, position: Position, duration_ms: float
    ) -> Entry | DiscardReason:
        """Make an entry of an answer, or say why not."""
        request: _Request = asked.request
        settings = self._engine.settings
        ttl_s = self._heeding.lifetime_s(request.held, request.controls)
        if ttl_s <= 0:
            return DiscardReason.NO_STORE
        body = body_of(result)
        if len(body) > settings.max_result_bytes:
            return DiscardReason.TOO_LARGE
        reason, judgement = judged(request.found, body, request.held.policy)
        if reason is not None:
            return reason
        made = Made(self._engine.clock.now_s(), ttl_s, position, round(duration_ms, 3))
        return entry_of(request.found, body, judgement, made)

    def answer(self, asked: Asked, entry: Entry) -> Any:
        """Return what LiteLLM reads back, made for one caller; None: it will not do."""
        request: _Request = asked.request
        return readable(entry, request.found)
