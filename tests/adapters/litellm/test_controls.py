"""Callers' ``cache`` argument, when it is something else, or has more in it than is known."""

import asyncio
from collections.abc import Callable
from typing import Any

import litellm
import pytest
from litellm.types.utils import CallTypes

from tests.adapters.litellm.asking import (
    answering,
    complete,
    embed,
    is_hit,
    message,
    passes,
    respond,
)
from tests.adapters.litellm.provider import Provider

Json = dict[str, Any]

ASK: dict[str, Callable[..., Any]] = {
    "chat": lambda asking, **more: asking.chat(**more),
    "stream": lambda asking, **more: asking.stream(**more),
    "text": complete,
    "embedding": lambda asking, **more: embed(asking, "a", "b", **more),
    "response": respond,
    "message": message,
}


@pytest.mark.parametrize("cache", [None, "no-store", [], 1, True], ids=repr)
@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
async def test_what_is_no_object_fails_no_call_that_would_not_fail_without_us(
    provider: Provider, ask: Callable[..., Any], cache: object
) -> None:
    """LiteLLM asks whatever it is for its words as soon as there is a cache."""
    async with answering(provider) as asking:
        await ask(asking, cache=cache)
        litellm.callbacks.remove(asking.hub.callback)
        asking.hub.uninstall()
        await ask(asking, cache=cache)
        litellm.callbacks.append(asking.hub.callback)
    ours, bare = provider.calls
    assert ours.body == bare.body


async def test_nor_one_of_an_api_that_is_not_cached(provider: Provider) -> None:
    async with answering(provider) as asking:
        for call_type in (CallTypes.arerank, CallTypes.aimage_generation):
            given = {"model": "m", "cache": None}
            hook = asking.hub.callback.async_pre_call_deployment_hook
            assert await hook(given, call_type) == {"model": "m"}


async def test_behind_a_router_as_well_and_it_is_passed_over(provider: Provider) -> None:
    async with answering(provider) as asking:
        router = asking.router({"group": "g", "model": "openai/gpt-4o"})
        messages = asking.arguments()["messages"]
        await router.acompletion(model="g", messages=messages, cache=None)
        await asking.kept(1)
        assert is_hit(await router.acompletion(model="g", messages=messages, cache="no-store"))


@pytest.mark.parametrize("word", ["no-store", "no-cache"])
@pytest.mark.parametrize(
    "beside",
    [{"unheard-of": 1}, {"ttl": "soon"}, {"ttl": None}, {"namespace": 7}, {"use-cache": "yes"}],
    ids=repr,
)
async def test_what_is_forbidden_stays_so_whatever_stands_beside_it(
    provider: Provider, word: str, beside: Json
) -> None:
    async with answering(provider) as asking:
        assert not await passes(asking, cache={word: True, **beside})


@pytest.mark.parametrize("cache", [{}, {"unheard-of": True}, {"no-store": None}], ids=repr)
async def test_an_object_that_says_nothing_is_as_good_as_none(
    provider: Provider, cache: Json
) -> None:
    async with answering(provider) as asking:
        assert await asking.is_kept(cache=cache)


@pytest.mark.parametrize(("one", "other"), [(7, 8), (7, ""), (["a"], ["b"]), (True, None)])
async def test_namespaces_that_are_no_text_are_kept_apart(
    provider: Provider, one: object, other: object
) -> None:
    """As in LiteLLM (it puts whatever it is before the key), and as in front of other gateways."""
    async with answering(provider) as asking:
        await asking.chat(cache={"namespace": one})
        await asyncio.sleep(0.05)
        assert not is_hit(await asking.chat(cache={"namespace": other} if other else {}))


async def test_a_text_that_says_use_cache_false_is_heeded(provider: Provider) -> None:
    async with answering(provider) as asking:
        assert not await passes(asking, cache={"use-cache": "false"})
