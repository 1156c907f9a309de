"""The semantic auto-router: one embedding for a prompt, however often it is asked."""

import asyncio

from tests.adapters.litellm.decisions.routers import (
    COOKING,
    chat,
    installed,
    router_of,
    semantic,
    strategy_of,
)
from tests.adapters.litellm.provider import Answer, Provider

_EMBED = "/embeddings"


async def test_a_repeated_prompt_makes_no_embedding_call(provider: Provider) -> None:
    """Issue 4: 0 embedding calls within the TTL."""
    async with installed() as at:
        router = router_of(provider, semantic())
        first = await chat(router, COOKING)
        before = provider.count(_EMBED)
        second = await chat(router, COOKING)
    assert before >= 1
    assert provider.count(_EMBED) == before
    assert [call.model for call in provider.of("/chat/completions")] == ["m-small"] * 2
    assert first.model == second.model
    assert (at.stats.misses, at.stats.hits) == (1, 1)


async def test_without_the_part_it_does(provider: Provider) -> None:
    """The measure of the test above."""
    router = router_of(provider, semantic())
    await chat(router, COOKING)
    before = provider.count(_EMBED)
    await chat(router, COOKING)
    assert provider.count(_EMBED) == before + 1


async def test_fifty_identical_calls_make_one_embedding_call(provider: Provider) -> None:
    """Issue 4: one decision for all who want it at the same time."""
    async with installed() as at:
        router = router_of(provider, semantic())
        await chat(router, "prove the theorem by induction")  # the routes are embedded once
        before = provider.count(_EMBED)
        await asyncio.gather(*(chat(router, COOKING) for _ in range(50)))
    assert provider.count(_EMBED) == before + 1
    assert at.stats.coalesced + at.stats.hits == 49


async def test_no_route_matched_is_a_decision_as_well(provider: Provider) -> None:
    """``semantic_no_match``: the default model, and no second embedding."""
    async with installed():
        router = router_of(provider, semantic())
        await chat(router, "zzzz qqqq xxxx")
        before = provider.count(_EMBED)
        await chat(router, "zzzz qqqq xxxx")
    assert provider.count(_EMBED) == before
    assert [call.model for call in provider.of("/chat/completions")] == ["m-medium"] * 2


async def test_a_failed_embedding_is_not_kept(provider: Provider) -> None:
    """``semantic_error`` routes to the default model; the next call tries again."""
    async with installed() as at:
        router = router_of(provider, semantic())
        await chat(router, "prove the theorem by induction")
        provider.always(Answer(status=500), model="m-embed")
        await chat(router, COOKING)
        provider.always(Answer(), model="m-embed")
        await chat(router, COOKING)
    models = [call.model for call in provider.of("/chat/completions")]
    assert models == ["m-large", "m-medium", "m-small"]
    assert at.stats.hits == 0


async def test_sampling_and_the_wire_form_make_no_difference(provider: Provider) -> None:
    """A router does not look at them."""
    async with installed() as at:
        router = router_of(provider, semantic())
        await chat(router, COOKING, temperature=0.1, user="ann")
        await chat(router, COOKING, temperature=0.9, seed=3, user="bob")
        stream = await chat(router, COOKING, stream=True)
        assert [chunk async for chunk in stream]
    assert (at.stats.misses, at.stats.hits) == (1, 2)


async def test_neither_does_order_nor_the_way_of_writing_a_number(provider: Provider) -> None:
    """Of arguments, of keys at any depth; 1 and 1.0."""
    async with installed() as at:
        router = router_of(provider, semantic())
        turn = [{"role": "user", "content": COOKING}]
        nested = {"a": {"x": 1, "y": 2}, "b": 3.0}
        await router.acompletion(model="smart", messages=turn, novel_field=nested, max_tokens=9)
        await router.acompletion(
            max_tokens=9.0,
            novel_field={"b": 3, "a": {"y": 2.0, "x": 1}},
            messages=[{"content": COOKING, "role": "user"}],
            model="smart",
        )
    assert (at.stats.misses, at.stats.hits) == (1, 1)


async def test_what_a_router_could_look_at_makes_a_difference(provider: Provider) -> None:
    """Tools, response format, a field that nobody knows, and every message."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    async with installed() as at:
        router = router_of(provider, semantic())
        await chat(router, COOKING)
        await chat(router, COOKING, tools=tools)
        await chat(router, COOKING, response_format={"type": "json_object"})
        await chat(router, COOKING, novel_field={"a": 1})
        turn = [{"role": "system", "content": "be brief"}, {"role": "user", "content": COOKING}]
        await chat(router, "", messages=turn)
    assert (at.stats.misses, at.stats.hits) == (5, 0)


async def test_a_changed_configuration_decides_anew(provider: Provider) -> None:
    """The fingerprint of the configuration is in the key."""
    async with installed() as at:
        await chat(router_of(provider, semantic()), COOKING)
        await chat(router_of(provider, semantic()), COOKING)
        changed = semantic(auto_router_default_model="large")
        await chat(router_of(provider, changed), COOKING)
    assert (at.stats.misses, at.stats.hits) == (2, 1)


async def test_the_routes_stand_in_a_file(provider: Provider, tmp_path: object) -> None:
    """LiteLLM's own fingerprint names the file alone; what was loaded from it counts here."""
    router = router_of(provider, semantic())
    strategy = strategy_of(router, "auto")
    async with installed() as at:
        await chat(router, COOKING)
        again = router_of(provider, semantic())
        strategy_of(again, "auto").loaded_routes[0].utterances.append("tell a joke")
        await chat(again, COOKING)
    assert strategy is not strategy_of(again, "auto")
    assert (at.stats.misses, at.stats.hits) == (2, 0)


async def test_an_invalidated_model_is_decided_anew(provider: Provider) -> None:
    """``invalidate_model`` drops the decisions that selected it."""
    async with installed() as at:
        router = router_of(provider, semantic())
        await chat(router, COOKING)
        await at.hub.cache.invalidate_model("large")
        await chat(router, COOKING)
        await at.hub.cache.invalidate_model("small")
        await chat(router, COOKING)
    assert (at.stats.misses, at.stats.hits) == (2, 1)


async def test_other_apis_are_routed_from_the_cache_too(provider: Provider) -> None:
    """Responses have no messages: their input is what counts."""
    async with installed() as at:
        router = router_of(provider, semantic())
        for _ in range(2):
            answer = await router.aresponses(model="smart", input=COOKING)
            assert answer.output
    assert (at.stats.misses, at.stats.hits) == (1, 1)
    assert {call.model for call in provider.of("/responses")} == {"m-small"}
