"""Some parts of the cache at work, in a process in which not all of them are installed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib import import_module
from typing import Any, TypeVar

import litellm

from routecache_middleware import RouteCache
from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.adapters.litellm.options import configure, for_cache

T = TypeVar("T")

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


@contextlib.asynccontextmanager
async def at_work(
    *names: str,
    url: str = "memory://",
    cache: RouteCache | None = None,
    is_proxy: bool = False,
    **settings: Any,
) -> AsyncIterator[Hub]:
    """Put the parts in place that live in modules of these names; later ones see events later."""
    configured = configure(url=url, **settings) if cache is None else for_cache(cache, **settings)
    hub = Hub(configured, cache=cache, is_proxy=is_proxy)
    with _in_place(hub, names):
        try:
            yield hub
        finally:
            for part in hub.parts:
                await part.aclose()
    if cache is None:
        await hub.cache.aclose()


@contextlib.contextmanager
def _in_place(hub: Hub, names: tuple[str, ...]) -> Iterator[None]:
    made = [import_module(f"routecache_middleware.adapters.litellm.{n}").create(hub) for n in names]
    hub.parts = tuple(part for part in made if part is not None)
    for part in hub.parts:
        part.install()
    hub.callback.set_parts(hub.parts)
    litellm.callbacks.append(hub.callback)
    try:
        yield
        assert hub.callback.faults == 0, "a part raised"
    finally:
        hub.uninstall()


def deployment(url: str, group: str, name: str, **params: Any) -> dict[str, Any]:
    """Return an entry of ``model_list``: deployment ``name`` calls model ``openai/<name>``."""
    settings = {"model": f"openai/{name}", "api_base": url, "api_key": "none", **params}
    return {"model_name": group, "litellm_params": settings, "model_info": {"id": name}}


async def until(check: Callable[[], Awaitable[T]], *, timeout_s: float = 10.0) -> T:
    """Return what ``check`` returns once that is something, or fail."""
    async with asyncio.timeout(timeout_s):
        while not (found := await check()):  # noqa: ASYNC110 - another process has to come round
            await asyncio.sleep(0.02)
    return found
