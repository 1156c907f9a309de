"""Configurations of the complexity router, one for each mode of its classifier."""

import json
from typing import Any

from litellm.router_strategy.complexity_router.jev_classifier import JevSystemOneResponse

__all__ = ["LLM", "MODES", "PROMPT", "Classifier", "FailingClassifier", "Oracle"]

PROMPT = "Design a distributed consensus protocol in Python, step by step, and prove it correct."

_JUDGE = {"model": "judge", "timeout_ms": 5000}
_TIER = '{"tier": "COMPLEX"}'

LLM: dict[str, Any] = {"classifier_type": "llm", "classifier_llm_config": _JUDGE}

_CAPABILITY = {
    "crux": "consensus",
    "primary_rule": "SUP-1",
    "capability_boundary": "supported",
    "p_solve": 0.95,
}
_FORECAST = {"likely_failure": "none", "p_solve": 0.9}
_V2 = {
    "crux": "consensus",
    "demands": {"reasoning": "multistep", "scope": "coupled", "specification": "clear"},
    "verification": "relevant",
    "forecasts": {"efficient": _FORECAST, "capable": _FORECAST},
}

MODES: dict[str, tuple[dict[str, Any], str]] = {
    "heuristic": ({}, ""),
    "heuristic_v2": ({"classifier_type": "heuristic_v2"}, ""),
    "llm": (LLM, _TIER),
    "heuristic_first": (
        {**LLM, "classifier_type": "heuristic_first", "heuristic_first_max_tier": "SIMPLE"},
        _TIER,
    ),
    "hybrid": ({**LLM, "classifier_type": "hybrid", "hybrid_boundary_margin": 0.49}, _TIER),
    "capability": (
        {
            **LLM,
            "classifier_type": "capability",
            "capability_classifier_config": {
                "efficient_tier": "SIMPLE",
                "capable_tier": "COMPLEX",
                "base_threshold": 0.5,
            },
        },
        json.dumps(_CAPABILITY),
    ),
    "llm_v2": (
        {
            **LLM,
            "classifier_type": "llm_v2",
            "tiers": {"SIMPLE": "small", "COMPLEX": "large"},
            "llm_v2_config": {
                "efficient_tier": "SIMPLE",
                "capable_tier": "COMPLEX",
                "efficient_profile": "a small model",
                "capable_profile": "a large model",
                "harness": "a chat",
                "max_quality_gap": 0.1,
            },
        },
        json.dumps(_V2),
    ),
}
"""Mode: configuration, and what the judge says; empty where nobody is asked."""


class Classifier:
    """An operator's own, for ``classifier_type: custom``."""

    def __init__(self) -> None:
        self.calls = 0

    async def classify(self, context: Any) -> str:
        """See LiteLLM's protocol."""
        self.calls += 1
        return "COMPLEX"


class FailingClassifier:
    """One that does not work."""

    async def classify(self, context: Any) -> str:
        """See LiteLLM's protocol."""
        raise RuntimeError("out of order")


class Oracle:
    """In place of the service that ``oss_classifier`` asks."""

    def __init__(self) -> None:
        self.calls = 0

    async def evaluate(self, request: Any, timeout_s: float, request_kwargs: Any = None) -> Any:
        """See LiteLLM's protocol."""
        self.calls += 1
        tiers = {"SIMPLE": 0.1, "MEDIUM": 0.1, "COMPLEX": 0.7, "REASONING": 0.1}
        answer = {
            "type": "choice",
            "choice": "COMPLEX",
            "probabilities": tiers,
            "confidence": 0.7,
        }
        return JevSystemOneResponse.model_validate({"model": "oracle", "answers": {"tier": answer}})
