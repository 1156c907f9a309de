"""Calls from threads without an event loop."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import litellm
import openai
from litellm.llms.custom_httpx.http_handler import HTTPHandler

from routecache_middleware import RouteCache
from routecache_middleware.adapters.litellm import hub as hubs
from tests.adapters.litellm.provider import Provider

__all__ = ["Callers", "apart", "at_once", "in_thread", "tidy"]

T = TypeVar("T")

_JOIN_TIMEOUT_S = 60.0
_CLOSED_AT_ONCE = (openai.OpenAI, HTTPHandler)


class Callers:
    """Makes calls that are not async.

    Attributes:
        provider: Who answers them.
        cache: What is installed.
    """

    def __init__(self, provider: Provider, cache: RouteCache) -> None:
        self.provider = provider
        self.cache = cache

    @property
    def hub(self) -> hubs.Hub:
        """What is installed."""
        hub = hubs.current()
        assert hub is not None
        return hub

    @property
    def count(self) -> int:
        """How many calls the provider has got."""
        return self.provider.count()

    def arguments(self, **arguments: Any) -> dict[str, Any]:
        """Whom to ask."""
        return {
            "model": "openai/gpt-4o",
            "api_base": self.provider.url,
            "api_key": "none",
            "max_retries": 0,
            **arguments,
        }

    def chat(self, text: str = "hello", **arguments: Any) -> Any:
        """Ask ``text``; any argument may be replaced."""
        messages = [{"role": "user", "content": text}]
        return litellm.completion(**self.arguments(**{"messages": messages, **arguments}))

    def stream(self, text: str = "hello", **arguments: Any) -> list[Any]:
        """Ask ``text`` and read the answer's chunks."""
        return list(self.chat(text, stream=True, **arguments))

    def say(self, text: str = "hello", **arguments: Any) -> str:
        """Ask ``text`` and return what the model says."""
        return str(self.chat(text, **arguments).choices[0].message.content)

    def router(self, *groups: str, **settings: Any) -> Any:
        """Return a Router with one deployment per group."""
        models = [
            {"model_name": group, "litellm_params": self.arguments(model=f"openai/{group}-model")}
            for group in groups
        ]
        return litellm.Router(model_list=models, **{"num_retries": 0, **settings})

    def stored(self, count: int) -> None:
        """Wait until so many answers were kept."""
        deadline_s = time.monotonic() + 10
        while self.cache.stats().result.writes < count:
            assert time.monotonic() < deadline_s, f"only {self.cache.stats().result.writes} kept"
            time.sleep(0.005)


def in_thread(call: Callable[[], T]) -> Callable[[], T]:
    """Begin a call in a thread of its own; what is returned waits for its result, or its error."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait() -> T:
        thread.join(_JOIN_TIMEOUT_S)
        assert not thread.is_alive(), "the call does not end"
        if errors:
            raise errors[0]
        return results[0]

    return wait


@contextlib.contextmanager
def tidy() -> Iterator[None]:
    """Clear away what LiteLLM leaves of calls that are not async.

    Its HTTP clients are dropped without being closed; and its Router, like ``asyncio.run``, ends
    with ``set_event_loop(None)``: the test run's own loop would be lost, unclosed.
    """
    policy: Any = asyncio.get_event_loop_policy()
    loop = policy._local._loop
    yield
    made = policy._local._loop  # by ``asyncio.get_event_loop``, which LiteLLM calls anywhere
    if made is not None and made is not loop and not made.is_running():
        made.close()
    asyncio.set_event_loop(loop)
    clients = litellm.in_memory_llm_clients_cache.cache_dict
    for name, client in list(clients.items()):
        close = getattr(client, "close", None)
        if isinstance(client, _CLOSED_AT_ONCE) and close is not None:
            close()
            del clients[name]


def apart(function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Call something in a thread of its own, and return what it returns."""
    return in_thread(lambda: function(*arguments, **options))()


def at_once(count: int, call: Callable[[], T]) -> list[T | BaseException]:
    """Make a call in so many threads; their results and errors."""
    waits = [in_thread(call) for _ in range(count)]
    found: list[T | BaseException] = []
    for wait in waits:
        try:
            found.append(wait())
        except BaseException as error:  # noqa: BLE001 - it is part of the result
            found.append(error)
    return found
