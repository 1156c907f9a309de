"""Calls through LiteLLM with only the part at work that keeps answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import litellm
import openai

from routecache_middleware import RouteCache
from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.adapters.litellm.options import configure, for_cache
from routecache_middleware.adapters.litellm.results.part import Results, create
from routecache_middleware.coordinators.guarded import GuardedCoordinator
from routecache_middleware.core.settings import Settings
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.litellm.provider import Provider
from tests.support.faulty import FaultyCoordinator

__all__ = [
    "Asking",
    "answering",
    "complete",
    "embed",
    "is_hit",
    "message",
    "networked",
    "passes",
    "respond",
    "said",
    "text_of",
    "until",
]

Json = dict[str, Any]


@contextlib.asynccontextmanager
async def networked(**settings: Any) -> AsyncIterator[tuple[FaultyCoordinator, RouteCache]]:
    """A cache on a coordinator that is asked over a network, guarded as such are."""
    clock = FakeClock()
    faulty = FaultyCoordinator(clock)
    guard = GuardedCoordinator(faulty, clock=clock, timeout_s=0.05, write_timeout_s=0.05)
    # What is counted is what calls do, not the metrics that processes share.
    chosen = Settings(coordinator_timeout_s=0.05, share_metrics=False, **settings)
    cache = RouteCache(coordinator=guard, settings=chosen, clock=clock, observers=[])
    cache.engine._fetch_now = None  # what its base class could do
    try:
        yield faulty, cache
    finally:
        faulty.heal()
        await cache.aclose()
        await guard.aclose()


@contextlib.asynccontextmanager
async def answering(
    provider: Provider,
    *,
    url: str = "memory://",
    cache: RouteCache | None = None,
    is_proxy: bool = False,
    **settings: Any,
) -> AsyncIterator["Asking"]:
    """Put the part in place, and take it out again."""
    configured = configure(url=url, **settings) if cache is None else for_cache(cache, **settings)
    hub = Hub(configured, cache=cache, is_proxy=is_proxy)
    part = create(hub)
    part.install()
    hub.parts = (part,)
    hub.callback.set_parts(hub.parts)
    litellm.callbacks.append(hub.callback)
    try:
        yield Asking(provider, hub, part)
        assert hub.callback.faults == 0, "a part raised"
        assert part.cache._told == set(), "the cache raised"
    finally:
        hub.uninstall()
        await hub.aclose()


class Asking:
    """Makes calls.

    Attributes:
        provider: Who answers them.
        hub: The cache.
        part: What keeps answers.
    """

    def __init__(self, provider: Provider, hub: Hub, part: Results) -> None:
        self.provider = provider
        self.hub = hub
        self.part = part

    async def chat(self, text: str = "hello", **arguments: Any) -> Any:
        """Ask ``text``; any argument may be replaced."""
        return await litellm.acompletion(**self.arguments(text, **arguments))

    async def stream(self, text: str = "hello", **arguments: Any) -> list[Any]:
        """Ask ``text`` and read the answer's chunks."""
        return [chunk async for chunk in await self.chat(text, stream=True, **arguments)]

    def arguments(self, text: str = "hello", **arguments: Any) -> Json:
        """Arguments of a call."""
        return {
            "model": "openai/gpt-4o",
            "messages": [{"role": "user", "content": text}],
            "api_base": self.provider.url,
            "api_key": "none",
            **arguments,
        }

    async def is_kept(self, text: str = "hello", **arguments: Any) -> bool:
        """Whether the second of two equal calls does not reach the provider."""
        stored, asked = self.stored, self.provider.count()
        await self.chat(text, **arguments)
        await until(lambda: self.stored > stored)
        await self.chat(text, **arguments)
        return self.provider.count() == asked + 1

    async def kept(self, count: int) -> None:
        """Wait until so many answers have come to the cache in all, kept or not."""
        await until(lambda: self.stored >= count)

    @property
    def stored(self) -> int:
        """How many answers have come to the cache, kept or not."""
        counters = self.hub.engine.recorder.result
        return counters.writes + counters.discards + counters.write_errors

    def router(self, *deployments: Json, **settings: Any) -> Any:
        """Return a Router; a deployment is what its ``litellm_params`` say, and its group."""
        models = [
            {
                "model_name": one.pop("group"),
                "litellm_params": {
                    "api_base": self.provider.url,
                    "api_key": "none",
                    **one,
                },
            }
            for one in map(dict, deployments)
        ]
        return litellm.Router(model_list=models, **{"num_retries": 0, **settings})


def is_hit(response: Any) -> bool:
    """Whether LiteLLM says that its cache has answered."""
    return response._hidden_params.get("cache_hit") is True


def text_of(response: Any) -> str:
    """What the model said."""
    return str(response.choices[0].message.content)


async def until(check: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    """Wait until something is so, or fail."""
    async with asyncio.timeout(timeout_s):
        while not check():  # noqa: ASYNC110 - other tasks have to come round
            await asyncio.sleep(0.005)


async def complete(asking: Asking, **more: Any) -> Any:
    # A client of the test's own: LiteLLM leaves those that it makes for this API open.
    async with openai.AsyncOpenAI(base_url=asking.provider.url, api_key="none") as client:
        model, given = "text-completion-openai/m", {"prompt": "hello", "client": client, **more}
        answer = await litellm.atext_completion(model=model, api_base=asking.provider.url, **given)
        return [chunk async for chunk in answer] if more.get("stream") else answer


async def embed(asking: Asking, *texts: str, **more: Any) -> Any:
    given = {"api_base": asking.provider.url, "api_key": "none", **more}
    return await litellm.aembedding(model="openai/e", input=list(texts), **given)


async def respond(asking: Asking, **more: Any) -> Any:
    given = {"input": "hello", "api_base": asking.provider.url, "api_key": "none", **more}
    given = {"store": False, **given}  # those that the provider keeps are not for the cache
    return await litellm.aresponses(model="openai/m", **given)


async def message(asking: Asking, **more: Any) -> Any:
    given = {
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 9,
        "api_base": asking.provider.origin,
        "api_key": "none",
        **more,
    }
    return await litellm.anthropic_messages(model="anthropic/claude-sonnet-4-5", **given)


async def passes(asking: Asking, **arguments: Any) -> bool:
    """Whether the second of two equal calls is answered from the cache."""
    await asking.chat(**arguments)
    await asyncio.sleep(0.05)
    return is_hit(await asking.chat(**arguments))


def said(chunk: Any) -> str:
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""
