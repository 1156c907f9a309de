"""``decision_scope: conversation``: one decision for its turns, unless a turn is unlike others."""

from typing import Any

import pytest

from tests.adapters.litellm.decisions.modes import LLM, PROMPT
from tests.adapters.litellm.decisions.routers import (
    COOKING,
    chat,
    complexity,
    group,
    installed,
    router_of,
    semantic,
    user,
)
from tests.adapters.litellm.decisions.test_stamps import Recorder, recorder
from tests.adapters.litellm.provider import Provider

__all__ = ["recorder"]


def _turns(*texts: str) -> list[dict[str, Any]]:
    messages = user(texts[0])
    for text in texts[1:]:
        messages += [{"role": "assistant", "content": "fine"}, *user(text)]
    return messages


async def test_all_turns_share_one_classification(provider: Provider) -> None:
    """Each turn is a new request; the conversation is the same."""
    provider.always('{"tier": "COMPLEX"}', model="m-judge")
    async with installed(decision_scope="conversation"):
        router = router_of(provider, complexity(LLM))
        for count in range(1, 5):
            await chat(
                router, "", messages=_turns(PROMPT, "go on", "and then?", "thanks")[: 2 * count - 1]
            )
        await chat(router, "", messages=_turns("another one", "go on"))
    assert provider.count(model="m-judge") == 2
    assert provider.count(model="m-large") == 5


async def test_the_semantic_router_too(provider: Provider) -> None:
    """It would look at the last message alone."""
    async with installed(decision_scope="conversation") as at:
        router = router_of(provider, semantic())
        await chat(router, "", messages=_turns(COOKING))
        await chat(router, "", messages=_turns(COOKING, "prove the theorem by induction"))
    assert provider.count(model="m-small") == 2
    assert at.stats.hits == 1


@pytest.mark.parametrize("setting", ["conversation", "request"])
async def test_an_escalation_is_heard_and_not_kept(provider: Provider, setting: Any) -> None:
    """The keyword moves this turn up a tier, whatever the conversation got."""
    async with installed(decision_scope=setting):
        router = router_of(provider, complexity())
        await chat(router, "", messages=_turns("hi"))
        await chat(router, "", messages=_turns("hi", "LITELLM ESCALATE please"))
        await chat(router, "", messages=_turns("hi", "hm"))
    models = [call.model for call in provider.calls]
    assert models == ["m-small", "m-medium", "m-small"]


async def test_plan_mode_holds_for_its_turns(provider: Provider) -> None:
    """``plan_mode_min_tier`` raises the turns with the sentinel only."""
    config = {"plan_mode_min_tier": "COMPLEX", "plan_mode_patterns": ["PLAN NOW"]}
    async with installed(decision_scope="conversation"):
        router = router_of(provider, complexity(config))
        await chat(router, "", messages=_turns("hi"))
        await chat(router, "", messages=_turns("hi", "PLAN NOW: what next"))
        await chat(router, "", messages=_turns("hi", "ok"))
    assert [call.model for call in provider.calls] == ["m-small", "m-large", "m-small"]


async def test_a_stalled_task_moves_up(provider: Provider) -> None:
    """Repeated identical tool calls: the strategy escalates, and so it does here."""
    config = {
        "stall_escalation_enabled": True,
        "stall_escalation_window": 4,
        "stall_escalation_repeat_threshold": 2,
    }
    function = {"name": "run", "arguments": '{"cmd": "ls"}'}
    stalled = user("hi")
    for number in range(4):
        call = {"id": f"c{number}", "type": "function", "function": function}
        stalled += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{number}", "content": "error"},
        ]
    async with installed(decision_scope="conversation"):
        router = router_of(provider, complexity(config))
        await chat(router, "", messages=user("hi"))
        await chat(router, "", messages=stalled)
    assert [call.model for call in provider.calls] == ["m-small", "m-medium"]


async def test_a_conversation_that_outgrew_its_model_moves_on(provider: Provider) -> None:
    """Context windows are checked on each turn: a size class is coarser than a window."""
    small = group(provider, "small", max_input_tokens=500)
    large = group(provider, "medium", max_input_tokens=50_000)
    config = {"context_compaction": False, "enable_context_window_escalation": True}
    short, long = _turns("hi", "word " * 300), _turns("hi", "word " * 700)
    async with installed(decision_scope="conversation") as at:
        router = router_of(provider, small, large, complexity(config))
        await chat(router, "", messages=short)
        await chat(router, "", messages=long)
    assert [call.model for call in provider.calls] == ["m-small", "m-medium"]
    assert at.stats.hits == 0


async def test_the_record_says_that_the_conversation_goes_on(
    provider: Provider, recorder: Recorder
) -> None:
    """``conversation_continuing`` is a fact of the turn, not of the decision."""
    async with installed(decision_scope="conversation") as at:
        router = router_of(provider, complexity())
        await chat(router, "", messages=_turns("hi"))
        await chat(router, "", messages=_turns("hi", "go on"))
    assert at.stats.hits == 1
    said = [one["routing_decision"]["conversation_continuing"] for one in recorder.metadata]
    assert said == [False, True]


async def test_without_messages_each_request_stands_alone(provider: Provider) -> None:
    """Responses: there is no telling turns apart."""
    async with installed(decision_scope="conversation") as at:
        router = router_of(provider, complexity())
        for text in ("hi", "hi", "ho"):
            await router.aresponses(model="smart", input=text)
    assert (at.stats.misses, at.stats.hits) == (2, 1)
