"""Nothing downstream can tell a hit from a miss: what LiteLLM writes down is the same."""

import asyncio
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger

from tests.adapters.litellm.decisions.modes import MODES, PROMPT
from tests.adapters.litellm.decisions.routers import (
    COOKING,
    chat,
    complexity,
    installed,
    quality_group,
    router_of,
    semantic,
)
from tests.adapters.litellm.provider import Provider

_OF_THE_CALL = {"litellm_call_id", "litellm_trace_id", "trace_id"}


class Recorder(CustomLogger):
    """Keeps the metadata of calls that reach a provider, and their records for spend logs."""

    def __init__(self) -> None:
        super().__init__()
        self.metadata: list[dict[str, Any]] = []
        self.logged: list[dict[str, Any]] = []

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
        """Before each call."""
        metadata = kwargs.get("metadata") or {}
        if "routing_decision" in metadata:
            self.metadata.append(dict(metadata))

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """After each call."""
        logged = kwargs["standard_logging_object"]
        if logged["model_group"] not in {"judge", "embed"}:
            self.logged.append(logged)

    async def all_logged(self, count: int) -> None:
        """Wait for LiteLLM's queue."""
        for _ in range(400):
            if len(self.logged) >= count:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{len(self.logged)} records instead of {count}")


@pytest.fixture
def recorder() -> Recorder:
    """Registered with LiteLLM until the test is over."""
    recorder = Recorder()
    litellm.callbacks.append(recorder)
    return recorder


def _quality(provider: Provider) -> list[Any]:
    config = {
        "available_models": ["small", "medium", "large"],
        "default_model": "medium",
    }
    return [
        quality_group(provider, "small", 1, "boil"),
        quality_group(provider, "medium", 2),
        quality_group(provider, "large", 3),
        {
            "model_name": "smart",
            "litellm_params": {
                "model": "auto_router/quality_router",
                "quality_router_config": config,
            },
        },
    ]


def _strategies(provider: Provider, name: str) -> list[Any]:
    if name == "semantic":
        return [semantic()]
    if name.startswith("quality"):
        return _quality(provider)
    config, verdict = MODES[name.removesuffix(", raw name")]
    if verdict:
        provider.always(verdict, model="m-judge")
    params = {"SIMPLE": ({"model_name": "small", "litellm_params": {"max_tokens": 77}},)}
    more = {"return_raw_model_name": True} if name.endswith("raw name") else {}
    return [complexity({**config, "tier_model_configs": params, **more})]


_NAMES = [*MODES, "heuristic, raw name", "semantic", "quality", "quality by keyword"]


@pytest.mark.parametrize("name", _NAMES)
async def test_a_hit_leaves_the_same_marks_as_a_miss(
    provider: Provider, recorder: Recorder, name: str
) -> None:
    """Metadata and record field by field, and what the provider is sent."""
    prompt = COOKING if name in {"semantic", "quality by keyword"} else PROMPT
    async with installed() as at:
        router = router_of(provider, *_strategies(provider, name))
        for _ in range(2):
            await chat(router, prompt, metadata={"mine": 1})
        await recorder.all_logged(2)
        stats = at.stats
    assert (stats.misses, stats.hits) == (1, 1)
    miss, hit = map(_comparable, recorder.metadata)
    assert hit == miss
    assert miss["routing_decision"]["routed_model"] in {"small", "medium", "large"}
    first, second = (one["metadata"].get("routing_decision") for one in recorder.logged)
    assert _without_cost(first) == _without_cost(second)
    assert recorder.logged[0]["model_group"] == recorder.logged[1]["model_group"]
    sent = [call.body for call in provider.of("/chat/completions") if call.model != "m-judge"]
    assert sent[0] == sent[1]


def _comparable(metadata: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in metadata.items() if name not in _OF_THE_CALL}
    return {**kept, "routing_decision": _without_cost(kept["routing_decision"])}


def _without_cost(record: Any) -> Any:
    """The classifier was not paid again: that is the one difference."""
    return {name: value for name, value in (record or {}).items() if name != "classifier_cost"}


async def test_a_hit_pays_for_no_classifier(provider: Provider, recorder: Recorder) -> None:
    """``classifier_cost`` is what this request has cost."""
    model = litellm.model_cost["gpt-4o-mini"]
    litellm.register_model({"openai/m-judge": {**model, "max_tokens": 100}})
    async with installed():
        router = router_of(provider, *_strategies(provider, "llm"))
        for _ in range(2):
            await chat(router, PROMPT)
    costs = [one["routing_decision"].get("classifier_cost") for one in recorder.metadata]
    assert costs[0] > 0
    assert costs[1] == 0


async def test_messages_are_those_of_the_request(provider: Provider) -> None:
    """With the conversation scope the stored decision is of another turn."""
    turns = [
        {"role": "user", "content": PROMPT},
        {"role": "assistant", "content": "done"},
        {"role": "user", "content": "thanks"},
    ]
    async with installed(decision_scope="conversation") as at:
        router = router_of(provider, complexity())
        await chat(router, "", messages=turns[:1])
        await chat(router, "", messages=turns)
    assert at.stats.hits == 1
    assert [call.body["messages"] for call in provider.calls] == [turns[:1], turns]
