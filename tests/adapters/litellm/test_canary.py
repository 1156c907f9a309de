"""Inside LiteLLM: what is ours of all that is said shows no prompt, answer or credential.

LiteLLM's own loggers are told to say everything only by those who want that, prompts included; ours
are heard at every level, and the proxy at the level it has by default.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import litellm
import pytest

from routecache_middleware import RouteCache
from routecache_middleware.adapters.litellm import hub as hubs
from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.adapters.litellm.options import configure
from routecache_middleware.core.keys import Layer
from routecache_middleware.errors import ConfigurationError
from tests.adapters.litellm.asking import (
    answering,
    complete,
    embed,
    message,
    respond,
)
from tests.adapters.litellm.configs import deployment, proxy_config
from tests.adapters.litellm.fastlane.gateway import Lane
from tests.adapters.litellm.fastlane.posting import post
from tests.adapters.litellm.provider import Answer, Provider, ToolCall
from tests.adapters.litellm.proxy import StartProxy
from tests.adapters.litellm.threads import Callers, tidy
from tests.canary.bodies import CREDENTIALS, chat
from tests.canary.ears import Ears, listening
from tests.canary.house import settings
from tests.canary.planted import leaks, planted, prose
from tests.support.child import wait_until
from tests.support.valkey import free_ports

CALL = ToolCall(
    name=planted("answered name"), arguments=json.dumps({"x": prose("answered arguments")})
)
TOOLS = [{"type": "function", "function": {"name": planted("tool name"), "parameters": {}}}]
KEY = f"sk-{planted('client key')}"


def notes() -> dict[str, Any]:
    """Return what clients may say besides; made anew, as LiteLLM writes into what it is given."""
    return {
        "user": planted("user"),
        "metadata": {
            planted("metadata name"): planted("metadata"),
            "user_api_key": planted("authorization"),
            "tags": [planted("tag")],
        },
    }


@pytest.fixture
def ears(capfd: pytest.CaptureFixture[str]) -> Iterator[Ears]:
    with listening(under="routecache") as ears:
        yield ears
        said = capfd.readouterr()
        ears.hear("standard output", said.out)
        ears.hear("standard error", said.err)
        assert ears.leaks() == []


async def test_calls_of_every_api(provider: Provider, ears: Ears) -> None:
    provider.always(Answer(text=prose("completion"), tool_calls=(CALL,)))
    cache = RouteCache(url="memory://", settings=settings(), observers=ears.observers())
    text = prose("prompt")
    talk = [{"role": "system", "content": prose("system prompt")}, *chat()["messages"]]
    async with answering(provider, cache=cache) as asking:
        for _ in range(2):
            await asking.chat(text, tools=TOOLS, temperature=0, **notes())
            await asking.stream(messages=talk, temperature=0, **notes())
            await embed(asking, text, prose("document"), user=planted("user"))
            provider.always(Answer(text=prose("completion")))
            await asking.chat(text, **notes())
            await complete(asking, prompt=text, user=planted("user"))
            await respond(asking, input=text, instructions=prose("system prompt"))
            await message(asking, messages=[{"role": "user", "content": text}])
            await asyncio.sleep(0.2)
        provider.always(Answer(status=500, text=prose("error text")))
        with pytest.raises(litellm.InternalServerError):  # its text is LiteLLM's own
            await asking.chat(prose("second prompt"))
        assert cache.stats().layer(Layer.RESULT).hits
        await ears.hear_of(cache)
    assert ears.spans
    assert [row for where, row in ears.heard if where == "/metrics" and "routecache_lookups" in row]


async def test_a_cache_that_fails_inside_litellm(
    provider: Provider, ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is raised quotes the call; it is said that something was, once, and no more."""

    def fail(*args: object, **kwargs: object) -> Any:
        raise RuntimeError(repr(args), repr(kwargs), prose("raised"))

    cache = RouteCache(url="memory://", settings=settings(), observers=ears.observers())
    async with answering(provider, cache=cache) as asking:
        with monkeypatch.context() as patched:
            patched.setattr(cache.engine, "lookup", fail)
            patched.setattr(cache.engine, "put", fail)
            for _ in range(2):
                await asking.chat(prose("prompt"), **notes())
                await asyncio.sleep(0.1)
        asking.part.cache._told.clear()
    assert [record for record in ears.records if record.levelname == "WARNING"]


@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)
def test_calls_that_are_not_async(
    provider: Provider, ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "_PARTS", ("sync", "results"))
    with tidy():
        callers = Callers(
            provider, hubs.install(url="memory://", secret=planted("secret").encode())
        )
        provider.always(Answer(text=prose("completion")))
        for _ in range(2):
            callers.chat(prose("prompt"), **notes())
            callers.stored(1)
        callers.stream(prose("prompt"), **notes())
        assert callers.count == 1
        provider.always(Answer(status=500, text=prose("error text")))
        with pytest.raises(litellm.InternalServerError):
            callers.chat(prose("second prompt"))
        for one in (callers.cache, callers.cache.stats(), callers.hub, callers.hub.options):
            ears.hear("repr", one)


async def test_the_fast_lane(ears: Ears) -> None:
    lane = Lane(secret=planted("secret").encode())
    lane.gateway.keys[KEY] = {"user_id": planted("identity"), "team_id": planted("tenant")}
    fields = {name: value for name, value in chat().items() if name not in {"model", "messages"}}
    try:
        for key in (KEY, planted("wrong token")):
            for _ in range(3):
                got = await lane.ask(prose("prompt"), key=key, headers=CREDENTIALS[1:], **fields)
                ours = [pair for pair in got.headers if b"cache" in pair[0]]
                ears.hear("our response header", ours)
        lane.gateway.on_accepted = lambda data: (_ for _ in ()).throw(ValueError(repr(data)))
        with pytest.raises(ValueError, match="model"):
            await lane.ask(prose("second prompt"), key=KEY)
        await ears.hear_of(lane.cache)
        for one in (lane.part, lane.hub, lane.hub.options):
            ears.hear("repr", one)
    finally:
        lane.gateway.on_accepted = lambda data: None
        await lane.aclose()


@pytest.mark.parametrize("command", ["litellm", "routecache"])
def test_the_proxy(command: str, provider: Provider, start_proxy: StartProxy) -> None:
    """Its whole output, and what it answers: with a store that is not there, too."""
    url = f"redis://{planted('url user')}:{planted('url password')}@127.0.0.1:{free_ports(1)[0]}"
    config = proxy_config(
        deployment("chat", provider, api_key=planted("upstream key")),
        callbacks=("routecache_middleware.adapters.litellm.callback",),
        cache={"fast_lane": True},
    )
    environ = {"ROUTECACHE_URL": url, "ROUTECACHE_SECRET": planted("secret")}
    provider.always(Answer(text=prose("completion")))
    proxy = start_proxy(config, env=environ, command=command)
    proxy.set_keys({KEY: {"user_id": planted("identity")}})
    body = {"model": "chat", "messages": [{"role": "user", "content": prose("prompt")}]}
    for _ in range(3):
        got = post(proxy, "/v1/chat/completions", body | notes(), key=KEY)
        assert got.status == 200
        named = {n: v for n, v in got.headers.items() if "cache" in n}
        assert leaks(json.dumps(named)) == []
    wait_until(lambda: "coordinator redis (" in proxy.log, "the outage is logged")
    assert leaks(proxy.log) == []


@pytest.mark.parametrize(
    "given",
    [
        {"url": f"redis://{planted('url user')}:{planted('url password')}@host:port"},
        {"secret": planted("secret")[:13]},
        {"secret": [planted("secret")]},
        {"secrets": planted("secret")},
        {"url": [planted("url password")]},
        {"policy": {"secret": planted("secret")}},
        {"policy": planted("secret")},
    ],
    ids=lambda given: next(iter(given)),
)
def test_a_proxy_that_is_configured_wrongly(given: dict[str, Any], ears: Ears) -> None:
    with pytest.raises(ConfigurationError) as said:
        Hub(configure(given), is_proxy=False)
    ears.hear("an error", said.value)
