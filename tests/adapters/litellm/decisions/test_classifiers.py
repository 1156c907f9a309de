"""The complexity router in all modes of its classifier: one classification for a prompt."""

import asyncio

import pytest

from tests.adapters.litellm.decisions.modes import (
    LLM,
    MODES,
    PROMPT,
    Classifier,
    FailingClassifier,
    Oracle,
)
from tests.adapters.litellm.decisions.routers import (
    chat,
    complexity,
    installed,
    router_of,
    strategy_of,
)
from tests.adapters.litellm.provider import Answer, Provider


@pytest.mark.parametrize("mode", list(MODES))
async def test_a_repeated_prompt_makes_no_classifier_call(provider: Provider, mode: str) -> None:
    """Issue 4: 0 classifier calls within the TTL."""
    config, verdict = MODES[mode]
    provider.always(verdict, model="m-judge")
    async with installed() as at:
        router = router_of(provider, complexity(config))
        first = await chat(router, PROMPT)
        asked = provider.count(model="m-judge")
        second = await chat(router, PROMPT)
    assert asked == (1 if verdict else 0)
    assert provider.count(model="m-judge") == asked
    assert first.model == second.model
    assert (at.stats.misses, at.stats.hits) == (1, 1)


async def test_an_operators_classifier_is_asked_once(provider: Provider) -> None:
    """``classifier_type: custom``."""
    config = {"classifier_type": "custom", "classifier_plugin": Classifier()}
    async with installed() as at:
        router = router_of(provider, complexity(config))
        classifier = strategy_of(router, "complexity").config.classifier_plugin
        for _ in range(3):
            await chat(router, "hi")
    assert classifier.calls == 1
    assert provider.count(model="m-large") == 3
    assert at.stats.hits == 2


async def test_an_open_source_classifier_is_asked_once(provider: Provider) -> None:
    """``classifier_type: oss_classifier``."""
    oracle = Oracle()
    config = {"classifier_type": "oss_classifier", "opensource_classifier_config": {"api_key": "k"}}
    async with installed() as at:
        router = router_of(provider, complexity(config))
        strategy_of(router, "complexity")._jev_client = oracle  # it has no other door
        for _ in range(3):
            await chat(router, "hi")
    assert oracle.calls == 1
    assert provider.count(model="m-large") == 3
    assert at.stats.hits == 2


async def test_fifty_identical_calls_make_one_classifier_call(provider: Provider) -> None:
    """Issue 4: one decision for all who want it at the same time."""
    provider.always(Answer(text='{"tier": "COMPLEX"}', delay_s=0.2), model="m-judge")
    async with installed():
        router = router_of(provider, complexity(LLM))
        await asyncio.gather(*(chat(router, PROMPT) for _ in range(50)))
    assert provider.count(model="m-judge") == 1
    assert provider.count(model="m-large") == 50


@pytest.mark.parametrize(
    "answer",
    [Answer(status=500), Answer(text="no idea"), Answer(text='{"tier": "NONE"}')],
    ids=["error", "prose", "unknown tier"],
)
async def test_a_failed_classifier_is_asked_again(provider: Provider, answer: Answer) -> None:
    """It falls back to the scorer, whose cause looks like any other; the reason gives it away."""
    provider.always(answer, model="m-judge")
    async with installed() as at:
        router = router_of(provider, complexity(LLM))
        await chat(router, PROMPT)
        first = provider.count(model="m-judge")
        await chat(router, PROMPT)
        assert provider.count(model="m-judge") > first
        provider.always('{"tier": "SIMPLE"}', model="m-judge")
        answered = await chat(router, PROMPT)
    assert answered.model == "m-small"
    assert at.stats.hits == 0


async def test_a_failed_classifier_of_the_operator_is_not_kept(provider: Provider) -> None:
    """As above, for ``custom``; and for ``default_model``."""
    plugin = {"classifier_type": "custom", "classifier_plugin": FailingClassifier()}
    async with installed() as at:
        for fallback in ("heuristic", "default_model"):
            router = router_of(provider, complexity({**plugin, "classifier_fallback": fallback}))
            await chat(router, PROMPT)
            await chat(router, PROMPT)
    assert (at.stats.hits, at.stats.writes) == (0, 0)


async def test_fifty_calls_with_a_failing_classifier_fail_together(provider: Provider) -> None:
    """Who waited for a classifier that timed out does not wait for it again."""
    slow = {"model": "judge", "timeout_ms": 300}
    provider.always(Answer(text='{"tier": "COMPLEX"}', delay_s=2), model="m-judge")
    async with installed() as at:
        config = {"classifier_type": "llm", "classifier_llm_config": slow}
        router = router_of(provider, complexity(config))
        began_s = asyncio.get_running_loop().time()
        await asyncio.gather(*(chat(router, PROMPT) for _ in range(10)))
        took_s = asyncio.get_running_loop().time() - began_s
    assert provider.count(model="m-judge") == 1
    assert took_s < 1.8
    assert at.stats.writes == 0
