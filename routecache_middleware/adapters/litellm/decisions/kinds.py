"""What differs between LiteLLM's strategies, as far as keeping their decisions goes."""

from collections.abc import Mapping
from typing import Any, ClassVar

from routecache_middleware.adapters.litellm.decisions.request import Request
from routecache_middleware.core.choices import DecisionScope

__all__ = ["AdaptiveKind", "Kind", "QualityKind", "SemanticKind"]


class Kind:
    """One strategy; the base keeps nothing."""

    name: ClassVar[str] = ""
    causes: ClassVar[frozenset[str]] = frozenset()
    """Causes of decisions that are kept. Failures and fallbacks are not among them."""
    turn_causes: ClassVar[frozenset[str]] = frozenset()
    """Causes that hold for one turn: not kept for a conversation."""

    def strategy_class(self) -> Any:
        """Return the class; raises ImportError when a package that it needs is missing."""
        raise NotImplementedError

    def configuration(self, strategy: Any) -> object:
        """Return what the strategy decides by: anything ``json`` can be made to write."""
        raise NotImplementedError

    def obstacle(self, strategy: Any, request: Request, scope: DecisionScope) -> str:
        """Say why a decision can neither be looked up nor kept; empty when it can."""
        return ""

    def context(self, strategy: Any, request: Request) -> object:
        """Return what else of a request counts, beside what every router could look at."""
        return None

    def messages(self, request: Request) -> Any:
        """Return the messages that the strategy would hand back."""
        return request.messages

    def params(self, strategy: Any, model: str, record: Mapping[str, Any], request: Request) -> Any:
        """Return the ``litellm_params`` that the strategy would send along; they may be secret."""
        return None

    def params_vary(self, strategy: Any) -> bool:
        """Whether those of one model differ between requests."""
        return False

    def update(self, record: dict[str, Any], request: Request) -> None:
        """Bring what a record says of the turn up to date: it was made in another one."""

    async def fits(self, strategy: Any, model: str, request: Request) -> bool:
        """Whether another turn of a conversation may still go to the same model."""
        return True

    def is_kept(self, record: Mapping[str, Any], scope: DecisionScope) -> bool:
        """Whether a decision is one to keep."""
        failures = ("classifier_failure_reason", "classifier_error_type")
        if any(record.get(name) is not None for name in failures):
            return False
        cause = record.get("cause")
        if scope is DecisionScope.REQUEST:
            return cause in self.causes or cause in self.turn_causes
        moved = any(record.get(name) for name in ("escalated", "context_escalated"))
        return cause in self.causes and not moved


class SemanticKind(Kind):
    """``AutoRouter``: routes by the embedding of the last user message."""

    name = "semantic"
    causes = frozenset({"semantic_match", "semantic_no_match"})

    def strategy_class(self) -> Any:
        """See the base.

        Loads no ``semantic_router``, whose import takes two seconds and turns on INFO for the root
        logger: LiteLLM does it when it makes such a router.
        """
        from litellm.router_strategy.auto_router.auto_router import AutoRouter

        return AutoRouter

    def configuration(self, strategy: Any) -> object:
        """See the base. The routes as loaded: they may stand in a file."""
        routes = [
            (route.name, route.utterances, route.score_threshold, route.description)
            for route in strategy.loaded_routes
        ]
        return [
            strategy.model_name,
            routes,
            strategy.embedding_model,
            strategy.default_model,
            strategy.max_input_chars,
        ]


class QualityKind(Kind):
    """``QualityRouter``: keywords, else complexity mapped to tiers of quality."""

    name = "quality"
    causes = frozenset({"keyword", "quality_tier"})

    def strategy_class(self) -> Any:
        """See the base."""
        from litellm.router_strategy.quality_router.quality_router import QualityRouter

        return QualityRouter

    def configuration(self, strategy: Any) -> object:
        """See the base. The index is made of other deployments' ``model_info``, once."""
        return [
            strategy.model_name,
            strategy.config.model_dump(),
            strategy._scorer.config.model_dump(),  # noqa: SLF001 - pinned by a test
            strategy._tier_to_models,  # noqa: SLF001 - as above; makes the index
            strategy._model_keywords,  # noqa: SLF001 - as above
            strategy._model_cost,  # noqa: SLF001 - as above
            strategy._model_order,  # noqa: SLF001 - as above
        ]


class AdaptiveKind(Kind):
    """``AdaptiveRouter``: a bandit, which learns from each pick."""

    name = "adaptive"
    causes = frozenset({"bandit"})

    def strategy_class(self) -> Any:
        """See the base."""
        from litellm.router_strategy.adaptive_router.adaptive_router import AdaptiveRouter

        return AdaptiveRouter

    def configuration(self, strategy: Any) -> object:
        """See the base. Not what it has learnt: that changes with every call."""
        preferences = {name: one.model_dump() for name, one in strategy.model_to_prefs.items()}
        config = strategy.config.model_dump()
        return [strategy.router_name, config, preferences, strategy.model_to_cost]

    def context(self, strategy: Any, request: Request) -> object:
        """See the base: the least quality that the caller asks for."""
        return strategy._extract_min_quality_tier(request.kwargs)  # noqa: SLF001 - pinned by a test
