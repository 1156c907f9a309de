"""The complexity router beside its classifier: rules, pins, policies, and groups that are down."""

from typing import Any

from tests.adapters.litellm.decisions.modes import LLM, PROMPT
from tests.adapters.litellm.decisions.routers import (
    TIERS,
    chat,
    complexity,
    cool_down,
    delete,
    group,
    installed,
    router_of,
)
from tests.adapters.litellm.provider import Answer, Provider


def _keyword_rules(**more: Any) -> dict[str, Any]:
    rules = [{"keywords": ["distributed consensus protocol"], "tier": "SIMPLE"}]
    return {"keyword_tier_rules": rules, **more}


async def test_a_keyword_rule_is_a_decision_like_others(provider: Provider) -> None:
    """``literal_keyword_match``."""
    async with installed() as at:
        router = router_of(provider, complexity(_keyword_rules()))
        await chat(router, PROMPT)
        await chat(router, PROMPT)
    assert provider.count(model="m-small") == 2
    assert at.stats.hits == 1


async def test_an_embedding_that_failed_for_a_keyword_rule_is_tried_again(
    provider: Provider,
) -> None:
    """LiteLLM passes the rules over and says nothing of it in its record."""
    config = _keyword_rules(semantic_keyword_matching=True, embedding_model="embed")
    async with installed() as at:
        router = router_of(provider, complexity(config))
        await chat(router, "tell me about the weather in spring, please")
        assert at.stats.writes == 1
        provider.always(Answer(status=500), model="m-embed")
        await chat(router, PROMPT)
        assert at.stats.writes == 1
        provider.always(Answer(), model="m-embed")
        before = provider.count("/embeddings")
        await chat(router, PROMPT)
        assert provider.count("/embeddings") == before + 1
        await chat(router, PROMPT)
        assert provider.count("/embeddings") == before + 1
    assert at.stats.hits == 1


async def test_sessions_are_left_to_litellm(provider: Provider) -> None:
    """Its pins are state that each turn reads and writes."""
    provider.always('{"tier": "COMPLEX"}', model="m-judge")
    config = {**LLM, "session_affinity": True}
    async with installed() as at:
        router = router_of(provider, complexity(config))
        for text in ("hi", "and now?"):
            await chat(router, text, metadata={"session_id": "s1"})
        assert provider.count(model="m-judge") == 1  # pinned by LiteLLM
        await chat(router, "hi")
        await chat(router, "hi")
    assert (at.stats.bypasses, at.stats.hits) == (2, 1)


async def test_a_session_that_can_be_pinned_to_one_of_several_is_left_alone(
    provider: Provider,
) -> None:
    """``deployment_affinity`` is on by default: a tier of several models has a pin."""
    several = {"tiers": {**TIERS, "SIMPLE": ["small", "medium"]}}
    async with installed() as at:
        one, many = router_of(provider, complexity()), router_of(provider, complexity(several))
        for router in (one, one, many, many):
            await chat(router, "hi", metadata={"session_id": "s1"})
    assert (at.stats.bypasses, at.stats.hits) == (2, 1)


async def test_policies_and_chance_are_left_to_litellm(provider: Provider) -> None:
    """Plugins, provider caches and the bandit decide each time, by intent."""

    class Plugin:
        async def run(self, context: Any) -> Any:
            return context

    configs: list[dict[str, Any]] = [
        {"plugins": [Plugin()]},
        {"cache_aware_routing": True},
        {"adaptive": True},
    ]
    async with installed() as at:
        for config in configs:
            router = router_of(provider, complexity(config))
            await chat(router, "hi")
            await chat(router, "hi")
    assert (at.stats.bypasses, at.stats.hits) == (6, 0)


async def test_a_group_in_cooldown_is_not_chosen_again(provider: Provider) -> None:
    """LiteLLM moves to a peer of the tier; that holds for now, and is not kept."""
    several = {"tiers": {**TIERS, "SIMPLE": ["small", "other"]}}
    async with installed() as at:
        routers = (complexity(several), group(provider, "other"))
        router = router_of(provider, *routers, cooldown_time=30, allowed_fails=0)
        chosen = (await chat(router, "hi")).model
        rest = {"m-small", "m-other"} - {chosen}
        cool_down(router, f"id-{chosen.removeprefix('m-')}")
        for _ in range(2):
            assert {(await chat(router, "hi")).model} == rest
    assert at.stats.errors == 0


async def test_a_group_that_is_gone_is_not_chosen_again(provider: Provider) -> None:
    """A kept decision for it is looked past, and replaced."""
    async with installed() as at:
        several = {"tiers": {**TIERS, "SIMPLE": ["small", "other"]}}
        router = router_of(provider, complexity(several), group(provider, "other"))
        chosen = (await chat(router, "hi")).model.removeprefix("m-")
        delete(router, f"id-{chosen}")
        answered = {(await chat(router, "hi")).model for _ in range(3)}
    assert answered == {"m-small", "m-other"} - {f"m-{chosen}"}
    assert at.stats.errors == 0
