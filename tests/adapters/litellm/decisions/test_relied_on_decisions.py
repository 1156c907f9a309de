"""What the part relies on in LiteLLM beyond what is documented; a release that changes it fails.

Each test says what would go wrong.
"""

import inspect
import typing
from typing import Any

import pytest
from litellm.router_strategy.adaptive_router.adaptive_router import AdaptiveRouter
from litellm.router_strategy.adaptive_router.config import ADAPTIVE_ROUTER_CHOSEN_MODEL_KEY
from litellm.router_strategy.auto_router.auto_router import AutoRouter
from litellm.router_strategy.complexity_router import complexity_router, context_compaction
from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter
from litellm.router_strategy.complexity_router.config import ComplexityRouterConfig
from litellm.router_strategy.quality_router.quality_router import QualityRouter
from litellm.types.router import PreRoutingHookResponse, TaggedPreRoutingStrategy
from litellm.types.utils import (
    RoutingDecisionCause,
    StandardLoggingRoutingDecision,
    is_litellm_owned_kwarg,
)

from routecache_middleware.adapters.litellm.decisions.complexity import ComplexityKind
from routecache_middleware.adapters.litellm.decisions.kinds import (
    AdaptiveKind,
    QualityKind,
    SemanticKind,
)
from routecache_middleware.adapters.litellm.decisions.request import Request
from routecache_middleware.adapters.litellm.decisions.seam import (
    can_serve,
    has_plugins,
    registered,
    router_behind,
)
from tests.adapters.litellm.decisions.routers import (
    complexity,
    quality_group,
    router_of,
    semantic,
    strategies_of,
    strategy_of,
    user,
)
from tests.adapters.litellm.provider import Provider

_CLASSES: tuple[Any, ...] = (AutoRouter, ComplexityRouter, QualityRouter, AdaptiveRouter)


@pytest.mark.parametrize("owner", _CLASSES)
def test_the_hook_stands_in_the_class_and_takes_these_arguments(owner: Any) -> None:
    """It is wrapped there; with other arguments nothing would be cached."""
    hook = vars(owner)["async_pre_routing_hook"]
    names = ["self", "model", "request_kwargs", "messages", "input", "specific_deployment"]
    assert list(inspect.signature(hook).parameters) == names


def test_a_response_has_these_fields() -> None:
    """A further one would be lost on hits."""
    fields = set(PreRoutingHookResponse.model_fields)
    known = {"model", "messages", "routing_decision", "session_affinity_ttl_seconds"}
    assert fields == {*known, "litellm_params"}, "see decisions/replay.py"


def test_causes_that_are_kept_exist_and_others_were_looked_at() -> None:
    """A new cause is not kept until somebody has read what it means."""
    kinds = (SemanticKind(), ComplexityKind(allows_adaptive=True), QualityKind(), AdaptiveKind())
    kept = frozenset().union(*(kind.causes | kind.turn_causes for kind in kinds))
    not_kept = {
        "capability_classifier_fallback",
        "classifier_fallback",
        "default_fallback",
        "default_model_fallback",
        "health_default_fallback",
        "health_failover",
        "housekeeping",
        "llm_v2_fallback",
        "modality_pin_override",
        "prompt_cache_cost",
        "semantic_error",
        "session_affinity_escalation",
        "session_affinity_pin",
        "user_turn_continuation",
    }
    causes = set(typing.get_args(RoutingDecisionCause))
    assert causes == kept | not_kept, "a cause came or went: see decisions/complexity.py"


def test_a_record_says_that_its_classifier_failed() -> None:
    """Without these two the scorer's fallback looks like a decision."""
    names = set(StandardLoggingRoutingDecision.__annotations__)
    assert {"cause", "classifier_failure_reason", "classifier_error_type", "tier"} <= names
    assert {"escalated", "context_escalated", "conversation_continuing"} <= names


@pytest.mark.parametrize(
    "name",
    [
        "_get_session_id_from_request_kwargs",
        "_litellm_params_for_model",
        "_matched_escalation_keyword",
        "_matched_housekeeping_sentinel",
        "_matched_plan_mode_signal",
        "_reminder_markers_for_request",
        "_request_context_fit",
        "_resolve_messages",
        "_semantic_tier_override",
        "_tier_pools",
        "_uses_deployment_pin",
        "_uses_tier_pin",
    ],
)
def test_the_complexity_router_has(name: str) -> None:
    """Without it every decision of that router goes uncached, with one warning."""
    assert name in vars(ComplexityRouter)


def test_its_module_has() -> None:
    """For the conversation scope, and requests under compaction."""
    for name in ("_conversation_is_continuing", "_newest_turn_ask", "detect_stalled_task"):
        assert callable(getattr(complexity_router, name))
    assert callable(context_compaction.compaction_pending)


def test_its_configuration_has() -> None:
    """Each is a reason not to cache, or counts."""
    assert set(ComplexityRouterConfig.model_fields) >= {
        "adaptive",
        "cache_aware_routing",
        "classifier_type",
        "context_compaction",
        "max_tokens_from_tier_model",
        "plan_mode_min_tier",
        "plugins",
        "stall_escalation_enabled",
        "stall_escalation_repeat_threshold",
        "stall_escalation_window",
    }


def test_the_tier_of_a_model_may_be_named_by_its_word(provider: Provider) -> None:
    """``litellm_params`` are made anew from the word in the record."""
    config = {
        "tier_model_configs": {
            "SIMPLE": ({"model_name": "small", "litellm_params": {"max_tokens": 7}},)
        }
    }
    strategy: Any = strategy_of(router_of(provider, complexity(config)), "complexity")
    kind, request = ComplexityKind(allows_adaptive=False), Request("smart", {})
    assert dict(kind.params(strategy, "small", {"tier": "SIMPLE"}, request)) == {"max_tokens": 7}


def test_a_semantic_router_has(provider: Provider) -> None:
    """They are its fingerprint; a file that its routes come from is none."""
    strategy: Any = strategy_of(router_of(provider, semantic()), "auto")
    assert [route.name for route in strategy.loaded_routes] == ["large", "small"]
    assert strategy.loaded_routes[0].utterances
    assert strategy.embedding_model == "embed"
    assert strategy.default_model == "medium"
    assert strategy.max_input_chars > 0
    assert router_behind(strategy) is not None


def test_a_quality_router_has(provider: Provider) -> None:
    """Its index is made of other groups."""
    marker = {
        "model_name": "smart",
        "litellm_params": {
            "model": "auto_router/quality_router",
            "quality_router_config": {"available_models": ["small"], "default_model": "small"},
        },
    }
    router = router_of(provider, quality_group(provider, "small", 1, "boil"), marker)
    strategy: Any = strategy_of(router, "quality")
    assert strategy._tier_to_models == {1: ["small"]}
    assert strategy._model_keywords == {"small": ["boil"]}
    assert strategy._model_cost == {"small": None}
    assert strategy._model_order == {"small": None}
    assert strategy._scorer.config is not None


def test_an_adaptive_router_has() -> None:
    """For its fingerprint, and the least quality asked for."""
    assert "_extract_min_quality_tier" in vars(AdaptiveRouter)
    source = inspect.getsource(AdaptiveRouter.__init__)
    for name in ("router_name", "config", "model_to_prefs", "model_to_cost"):
        assert f"self.{name} = " in source


def test_strategies_write_these_names_into_the_metadata() -> None:
    """A further one makes decisions go uncached: what it is for has to be looked at."""
    from litellm.constants import RETURN_RAW_MODEL_NAME_METADATA_KEY  # noqa: PLC0415 - private

    assert RETURN_RAW_MODEL_NAME_METADATA_KEY == "_complexity_router_return_raw_model_name"
    assert ADAPTIVE_ROUTER_CHOSEN_MODEL_KEY == "adaptive_router_chosen_model"
    assert '"quality_router_decision"' in inspect.getsource(QualityRouter._stash_decision)
    assert '"adaptive_router_decision"' in inspect.getsource(ComplexityRouter._soft_floor_pick)


def test_a_router_keeps_its_strategies_with_a_fingerprint(provider: Provider) -> None:
    """``router_config_fingerprint`` is part of the key."""
    fields = set(TaggedPreRoutingStrategy.__dataclass_fields__)
    assert {"strategy", "tags", "definition_fingerprint"} <= fields
    router = router_of(provider, complexity())
    strategy = strategy_of(router, "complexity")
    for kind in ("auto", "adaptive", "quality"):
        assert strategies_of(router, kind) == {}
    ((kind, fingerprint, tags),) = registered(router_behind(strategy), strategy)
    assert (kind, tags) == ("complexity", [])
    assert fingerprint


async def test_a_router_can_be_asked_whether_a_group_can_serve(provider: Provider) -> None:
    """As the complexity router asks it; were it to fail, every decision would be made anew."""
    probe = inspect.getsource(ComplexityRouter._model_group_can_serve)
    assert "health_check_probe=True" in probe
    strategy = strategy_of(router_of(provider, complexity()), "complexity")
    request = Request("smart", {"metadata": {}}, user("hi"))
    assert await can_serve(router_behind(strategy), "small", request)
    assert not await can_serve(router_behind(strategy), "nowhere", request)


def test_a_router_says_whether_it_has_plugins(provider: Provider) -> None:
    """With them a custom classifier's decisions are not kept."""
    strategy = strategy_of(router_of(provider, complexity()), "complexity")
    assert not has_plugins(router_behind(strategy))


def test_access_can_be_checked() -> None:
    """Where it cannot, LiteLLM decides anew."""
    from litellm.proxy.auth import auth_checks  # noqa: PLC0415 - pydantic warns on its import

    parameters = inspect.signature(auth_checks.can_object_call_model).parameters
    names = {"model", "llm_router", "models", "team_model_aliases", "team_id", "object_type"}
    assert names <= set(parameters)
    assert callable(auth_checks._resolve_key_models_for_auth_check)


def test_litellm_knows_its_own_arguments() -> None:
    """What is not its own counts; a name of its own that changes would keep requests apart."""
    own = ("metadata", "litellm_metadata", "litellm_call_id", "litellm_trace_id")
    more = ("proxy_server_request", "litellm_logging_obj", "secret_fields")
    assert all(map(is_litellm_owned_kwarg, own + more))
