"""``ComplexityRouter``: rules, classifiers and pins. :mod:`.` says what of it decides."""

from collections.abc import Mapping
from contextvars import ContextVar
from inspect import signature
from typing import Any

from routecache_middleware.adapters.litellm.decisions.kinds import Kind
from routecache_middleware.adapters.litellm.decisions.request import Request, metadata_of
from routecache_middleware.adapters.litellm.decisions.seam import has_plugins, router_behind
from routecache_middleware.core.choices import DecisionScope

__all__ = ["ComplexityKind", "Watch", "watched", "watching"]

_ROUTERS_OWN = frozenset(
    {
        "attempted_fallbacks",
        "attempted_retries",
        "caching_groups",
        "max_retries",
        "model_group",
        "model_group_alias",
        "model_group_size",
        "original_model_group",
        "previous_models",
        "request_retry_count",
        "trace_id",
    }
)
"""Metadata that a Router adds by itself before it asks a strategy."""


class Watch:
    """Notes what one decision leaves no trace of.

    Attributes:
        has_failed: An embedding for a keyword rule failed, and the rules were passed over.
    """

    __slots__ = ("has_failed",)

    def __init__(self) -> None:
        self.has_failed = False


watching: ContextVar[Watch | None] = ContextVar("routecache_watch", default=None)


def watched(original: Any) -> Any:
    """Wrap ``_semantic_tier_override``: its caller catches whatever it raises, and says nothing."""

    async def override(strategy: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await original(strategy, *args, **kwargs)
        except Exception:
            watch = watching.get()
            if watch is not None:
                watch.has_failed = True
            raise

    return override


class ComplexityKind(Kind):
    """The strategy, in all modes of its classifier."""

    name = "complexity"
    causes = frozenset(
        {
            "capability_classifier",
            "classifier_plugin",
            "heuristic_first_short_circuit",
            "heuristic_scorer",
            "heuristic_v2",
            "hybrid_short_circuit",
            "jev_classifier",
            "literal_keyword_match",
            "llm_classifier",
            "llm_v2_classifier",
            "reasoning_override",
            "semantic_keyword_match",
        }
    )
    turn_causes = frozenset({"modality_escalation", "plan_mode"})

    def __init__(self, *, allows_adaptive: bool) -> None:
        self._allows_adaptive = allows_adaptive

    def strategy_class(self) -> Any:
        """See the base."""
        from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter

        return ComplexityRouter

    def configuration(self, strategy: Any) -> object:
        """See the base."""
        return [strategy.model_name, strategy.config.model_dump()]

    def obstacle(self, strategy: Any, request: Request, scope: DecisionScope) -> str:
        """See the base: policies, state of sessions, chance, and turns unlike the others."""
        config = strategy.config
        if config.plugins or _may_have_signals(strategy):
            return "plugins"
        if config.cache_aware_routing:
            return "cache-aware routing"
        if config.adaptive and not self._allows_adaptive:
            return "adaptive"
        if _is_pinned(strategy, request):
            return "session"
        if scope is DecisionScope.CONVERSATION and _is_special(strategy, request):
            return "turn"
        return ""

    def context(self, strategy: Any, request: Request) -> object:
        """See the base."""
        config = strategy.config
        agents = [metadata.get("user_agent") for metadata in metadata_of(request)]
        own: dict[str, object] = {"agents": [agent for agent in agents if isinstance(agent, str)]}
        if config.context_compaction:
            own["compaction"] = _is_compacting(request)
        if config.plan_mode_min_tier is not None:
            own["plan"] = _plan_signal(strategy, request)
        if config.classifier_type == "custom":
            own["metadata"] = _callers_metadata(request)
        return own

    def messages(self, request: Request) -> Any:
        """See the base."""
        return request.messages or None

    def params(self, strategy: Any, model: str, record: Mapping[str, Any], request: Request) -> Any:
        """See the base."""
        make = strategy._litellm_params_for_model  # noqa: SLF001 - pinned by a test
        if "request_kwargs" in signature(make).parameters:  # since 1.109
            return make(record.get("tier"), model, request.kwargs)
        return make(record.get("tier"), model)

    def params_vary(self, strategy: Any) -> bool:
        """See the base: the caller's own limit may be cut to the model's."""
        return bool(strategy.config.max_tokens_from_tier_model == "clamp")

    def update(self, record: dict[str, Any], request: Request) -> None:
        """See the base."""
        from litellm.router_strategy.complexity_router import complexity_router

        if "conversation_continuing" in record:
            is_continuing = complexity_router._conversation_is_continuing(request.messages)  # noqa: SLF001 - pinned by a test
            record["conversation_continuing"] = is_continuing

    async def fits(self, strategy: Any, model: str, request: Request) -> bool:
        """See the base: turns grow, context windows do not."""
        fit = await strategy._request_context_fit(request.messages, request.kwargs)  # noqa: SLF001 - pinned by a test
        return bool(fit.accepts(model))


def _may_have_signals(strategy: Any) -> bool:
    """Whether the operator's classifier may go by what plugins of the Router make of a request."""
    return strategy.config.classifier_type == "custom" and has_plugins(router_behind(strategy))


def _is_pinned(strategy: Any, request: Request) -> bool:
    """Whether the session's state has a say, or will have."""
    if strategy._get_session_id_from_request_kwargs(request.kwargs) is None:  # noqa: SLF001 - pinned by a test
        return False
    if strategy._uses_tier_pin:  # noqa: SLF001 - as above
        return True
    pools = strategy._tier_pools().values()  # noqa: SLF001 - as above
    return strategy._uses_deployment_pin and any(len(pool) > 1 for pool in pools)  # noqa: SLF001 - as above


def _is_special(strategy: Any, request: Request) -> bool:
    """Whether something in this turn moves it away from what its conversation gets."""
    from litellm.router_strategy.complexity_router import complexity_router

    messages, config = request.messages, strategy.config
    markers = strategy._reminder_markers_for_request(request.kwargs)  # noqa: SLF001 - pinned by a test
    ask = complexity_router._newest_turn_ask(messages, markers)  # noqa: SLF001 - as above
    if ask is not None and strategy._matched_escalation_keyword(ask):  # noqa: SLF001 - as above
        return True
    if strategy._matched_housekeeping_sentinel(ask) is not None:  # noqa: SLF001 - as above
        return True
    if _plan_signal(strategy, request) is not None:
        return True
    return bool(config.stall_escalation_enabled) and complexity_router.detect_stalled_task(
        messages,
        window=config.stall_escalation_window,
        repeat_threshold=config.stall_escalation_repeat_threshold,
    )


def _plan_signal(strategy: Any, request: Request) -> str | None:
    messages = strategy._resolve_messages(request.messages, request.kwargs)  # noqa: SLF001 - pinned by a test
    signal: str | None = strategy._matched_plan_mode_signal(request.kwargs, messages)  # noqa: SLF001 - as above
    return signal


def _is_compacting(request: Request) -> bool:
    from litellm.router_strategy.complexity_router.context_compaction import compaction_pending

    return bool(compaction_pending(request.kwargs))


def _callers_metadata(request: Request) -> list[dict[str, Any]]:
    """Return the metadata that a custom classifier could go by: in the proxy, the client's."""
    found = []
    for metadata in metadata_of(request):
        own = metadata.get("requester_metadata")
        if "user_api_key" not in metadata:
            own = {
                name: value
                for name, value in metadata.items()
                if name not in _ROUTERS_OWN and not name.startswith("_")
            }
        if own:
            found.append(dict(own))
    return found
