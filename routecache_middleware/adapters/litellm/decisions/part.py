"""The part: wraps the strategies' hooks, and answers for them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial, wraps
from typing import Any

from routecache_middleware.adapters.litellm.decisions.access import has_direct_access
from routecache_middleware.adapters.litellm.decisions.complexity import ComplexityKind, watched
from routecache_middleware.adapters.litellm.decisions.kinds import (
    AdaptiveKind,
    Kind,
    QualityKind,
    SemanticKind,
)
from routecache_middleware.adapters.litellm.decisions.known import Known, KnownRouters
from routecache_middleware.adapters.litellm.decisions.near import NearEngine, is_networked
from routecache_middleware.adapters.litellm.decisions.patches import Patches
from routecache_middleware.adapters.litellm.decisions.replay import Replay
from routecache_middleware.adapters.litellm.decisions.request import (
    Request,
    conversation_payload,
    request_payload,
    size_of,
)
from routecache_middleware.adapters.litellm.decisions.seam import can_serve, router_behind
from routecache_middleware.adapters.litellm.decisions.seeking import Case, Routed, Seeking
from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.adapters.litellm.part import Part
from routecache_middleware.adapters.litellm.tenancy import Tenancy
from routecache_middleware.core.budget import open_budget
from routecache_middleware.core.canonical import DoubtfulJSONError, encode, normalise
from routecache_middleware.core.choices import DecisionScope, Mode
from routecache_middleware.core.fingerprint import Domain, new_hash
from routecache_middleware.core.keys import Layer, route_key
from routecache_middleware.core.models import Outcome
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.get_or_compute import get_or_compute
from routecache_middleware.engine.single_flight import SingleFlight

__all__ = ["Decisions", "create"]

_logger = logging.getLogger("routecache")

_HOOK = "async_pre_routing_hook"
_LONG = ("tools", "system", "instructions")  # what may be, besides messages
_ATTEMPTS = 2  # a stored decision that will not do is looked past once

Ask = Callable[[], Awaitable[Any]]


def create(hub: Hub) -> "Decisions | None":
    """Return the part; None when decisions are not to be cached."""
    return Decisions(hub) if hub.options.decisions else None


class _Lane:
    """An engine and the decisions that are being made through it."""

    __slots__ = ("engine", "flights")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.flights: SingleFlight[Routed] = SingleFlight(engine.clock)


class Decisions(Part):
    """Decisions of auto-routers, looked up before the strategy is asked."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._engine = hub.engine
        self._known = KnownRouters(hub.engine.settings.secret)
        self._tenancy = Tenancy(hub.engine.settings, hub.options.isolation, is_proxy=hub.is_proxy)
        self._patches = Patches()
        self._is_on = False
        self._main = _Lane(hub.engine)
        self._near: _Lane | None = None
        self._told: set[str] = set()

    def install(self) -> None:
        """Wrap the hook of every strategy that can be loaded."""
        self._is_on = True
        for kind in self._kinds():
            try:
                owner = kind.strategy_class()
            except ImportError:  # semantic-router is an extra of LiteLLM
                continue
            self._wrap(owner, _HOOK, partial(self._hooked, kind))
            if isinstance(kind, ComplexityKind):
                self._wrap(owner, "_semantic_tier_override", watched)

    def uninstall(self) -> None:
        """Put the hooks back."""
        self._is_on = False
        self._patches.undo()

    async def aclose(self) -> None:
        """Drop what is kept in this process alone."""
        if self._near is not None:
            await self._near.engine.aclose()
            self._near = None

    async def decide(self, kind: Kind, strategy: Any, request: Request, ask: Ask) -> Any:
        """Return what the strategy's hook would return; ``ask`` runs it.

        Raises:
            Exception: Whatever the strategy raised for this very request.
        """
        if not self._is_on or self._engine.mode is Mode.OFF:
            return await ask()
        case = None
        try:
            case = await self._case(kind, strategy, request)
        except DoubtfulJSONError:
            pass  # a request that has no hash
        except Exception as error:  # noqa: BLE001 - a fault of ours must not fail the request
            self._fault(error)
        if case is None:
            self._note(request, Outcome.BYPASS)
            self._engine.recorder.layers[Layer.ROUTING].count(Outcome.BYPASS)
            return await ask()
        return await self._look_up(case, ask)

    def _kinds(self) -> list[Kind]:
        allows_adaptive = self._hub.options.adaptive_decisions
        kinds = [SemanticKind(), ComplexityKind(allows_adaptive=allows_adaptive), QualityKind()]
        return [*kinds, AdaptiveKind()] if allows_adaptive else kinds

    def _wrap(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        try:
            self._patches.wrap(owner, name, make)
        except AttributeError as error:
            _logger.warning("decisions of this release's routers are not cached: %s", error)

    def _hooked(self, kind: Kind, original: Any) -> Any:
        @wraps(original)
        async def hook(strategy: Any, *args: Any, **kwargs: Any) -> Any:
            ask = partial(original, strategy, *args, **kwargs)
            try:
                request = Request(*args, **_renamed(kwargs))
            except TypeError:  # a release that asks something else
                return await ask()
            return await self.decide(kind, strategy, request, ask)

        return hook

    async def _case(self, kind: Kind, strategy: Any, request: Request) -> Case | None:
        """Make out what a decision depends on; None when it is not to be looked up or kept."""
        settings = self._engine.settings
        parts = [request.messages, request.input, *map(request.kwargs.get, _LONG)]
        size = size_of(parts, settings.max_request_bytes)
        if request.specific_deployment or size > settings.max_request_bytes:
            return None
        tenant = self._tenancy.of(request.kwargs)
        if tenant is None:
            return None
        if size > settings.hash_in_thread_bytes:
            return await asyncio.to_thread(self._identify, kind, strategy, request, tenant.name)
        return self._identify(kind, strategy, request, tenant.name)

    def _identify(self, kind: Kind, strategy: Any, request: Request, tenant: str) -> Case | None:
        settings = self._engine.settings
        scope, payload = settings.decision_scope, None
        if scope is DecisionScope.CONVERSATION:
            payload = conversation_payload(request)
        if payload is None:
            scope, payload = DecisionScope.REQUEST, request_payload(request)
        if kind.obstacle(strategy, request, scope):
            return None
        known = self._known.of(kind, strategy)
        counts = [
            request.model,
            settings.router_version,
            scope.value,
            "litellm_metadata" in request.kwargs,
            _tags(request),
            kind.context(strategy, request),
        ]
        state = new_hash(Domain.LITELLM_ROUTE, settings.secret)
        state.update(known.fingerprint + encode(normalise(counts)) + encode(payload))
        return Case(
            kind=kind,
            strategy=strategy,
            router=router_behind(strategy) or self._hub.router,
            known=known,
            request=request,
            scope=scope,
            key=route_key(state.hexdigest(), tenant),
            tenant=tenant,
            router_version=settings.router_version,
        )

    async def _look_up(self, case: Case, ask: Ask) -> Any:
        seeking = Seeking(case, ask)
        lane = self._lane(case.known)
        for _ in range(_ATTEMPTS):
            routed = await self._seek(lane, seeking)
            if seeking.has_made:
                self._note(case.request, Outcome.MISS)
                return seeking.response
            if routed is None or routed.replay is None:  # what another request made of it
                break
            response, is_usable = await self._replayed(case, routed.replay)
            if is_usable:
                self._note(case.request, routed.outcome)
                return response
            if routed.outcome is Outcome.HIT:  # it was none
                lane.engine.recorder.layers[Layer.ROUTING].hits -= 1
            seeking.refuse(routed)
        self._note(case.request, Outcome.MISS)
        return await ask()

    async def _seek(self, lane: _Lane, seeking: Seeking) -> Routed | None:
        """Get or make a decision; None when that failed, through no fault of the strategy."""
        engine = lane.engine
        budget_s = engine.settings.coordinator_timeout_s if engine.coordinator.is_shared else None
        try:
            with open_budget(budget_s):
                return await get_or_compute(engine, lane.flights, seeking)
        except Exception as error:
            if error is seeking.error:
                raise
            self._fault(error)
            return None

    async def _replayed(self, case: Case, replay: Replay) -> tuple[Any, bool]:
        """Return the response for this request, and whether the decision will do for it."""
        request = case.request
        try:
            if replay.model is None:
                replay.stamp(request)
                return None, True
            if not await self._may_use(case, replay.model, is_direct=replay.is_direct):
                return None, False
            record = dict(replay.record)
            if "classifier_cost" in record:
                record["classifier_cost"] = 0.0
            if case.scope is DecisionScope.CONVERSATION:
                case.kind.update(record, request)
            response = _response(
                model=replay.model,
                messages=case.kind.messages(request),
                routing_decision=record or None,
                session_affinity_ttl_seconds=replay.affinity_ttl_s,
                litellm_params=_params(case, replay.model, record),
            )
            replay.stamp(request)
        except Exception as error:  # noqa: BLE001 - as in decide
            self._fault(error)
            return None, False
        return response, True

    async def _may_use(self, case: Case, model: str, *, is_direct: bool) -> bool:
        request = case.request
        if is_direct and not has_direct_access(request, model, case.router):
            return False
        if case.scope is DecisionScope.CONVERSATION and not await case.kind.fits(
            case.strategy, model, request
        ):
            return False
        return case.router is None or await can_serve(case.router, model, request)

    def _lane(self, known: Known) -> _Lane:
        """Say where a router's decisions are kept."""
        limit_ms = self._hub.options.cheap_router_ms
        if known.decide_ms is None or known.decide_ms >= limit_ms:
            return self._main
        if not is_networked(self._engine.coordinator):
            return self._main
        if self._near is None:
            self._near = _Lane(NearEngine(self._engine))
        self._near.engine.mode = self._engine.mode
        return self._near

    def _note(self, request: Request, outcome: Outcome) -> None:
        call = self._hub.outcomes.of(request.kwargs.get("litellm_call_id"))
        call.decision = outcome

    def _fault(self, error: Exception) -> None:
        name = type(error).__name__  # the text may quote a prompt: its type has to do
        if name not in self._told:
            self._told.add(name)
            _logger.warning(
                "looking up a decision raised %s; its router was asked instead; logged only once",
                name,
            )


def _renamed(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the hook's keyword arguments under the names of :class:`.request.Request`."""
    return {("kwargs" if name == "request_kwargs" else name): kwargs[name] for name in kwargs}


def _params(case: Case, model: str, record: Mapping[str, Any]) -> Any:
    kind, strategy = case.kind, case.strategy
    make = partial(kind.params, strategy, model, record, case.request)
    if kind.params_vary(strategy):
        return make()
    return case.known.params(record.get("tier"), model, make)


def _response(**values: Any) -> Any:
    from litellm.types.router import PreRoutingHookResponse

    return PreRoutingHookResponse(**values)


def _tags(request: Request) -> list[str]:
    from litellm.router_strategy.tag_based_routing import get_tags_from_request_kwargs

    return [str(tag) for tag in get_tags_from_request_kwargs(request.kwargs) or ()]
