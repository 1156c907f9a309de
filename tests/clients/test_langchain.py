"""LangChain's ``ChatOpenAI``: every way to run it, live, from the cache, and in the other mode."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import httpx
import pytest
from langchain_core.messages import BaseMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from tests.clients.equal import dump, live, live_and_hit, served
from tests.clients.kit import TLS, Kit
from tests.clients.scripted import Answer, in_both_modes
from tests.clients.test_agents import PERSON, Person, as_person
from tests.clients.test_answers import fixture_of, without
from tests.support.wire import names_of_pairs

NAMES = [name for name in names_of_pairs("openai.chat") if name != "two_choices_logprobs"]
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}


@contextmanager
def model(kit: Kit, **options: Any) -> Iterator[ChatOpenAI]:
    """Yield the model that a user sets up."""
    with httpx.Client(verify=TLS, trust_env=False) as client:
        yield ChatOpenAI(
            model="m",
            temperature=0,
            api_key=SecretStr(kit.key),
            base_url=f"{kit.url}/v1",
            max_retries=0,
            stream_usage=True,
            http_client=client,
            http_async_client=httpx.AsyncClient(verify=TLS, trust_env=False),
            **options,
        )


def plain(message: BaseMessage) -> Any:
    """Return a message without the id that LangChain draws for each run."""
    _, fields, told = dump(message)
    if str(fields["id"]).startswith("lc_run-"):
        fields, told = without(fields, "id"), without(told, "id")
    return [type(message).__name__, fields, told]


class Way(NamedTuple):
    """One way to run a model; ``run`` returns a message, or the chunks of one."""

    name: str
    run: Callable[[ChatOpenAI], Any]

    @property
    def is_stream(self) -> bool:
        """Whether it asks for a stream."""
        return "stream" in self.name


def _ainvoke(chat: ChatOpenAI) -> Any:
    return asyncio.run(_async(chat.ainvoke("hi"), chat))


async def _async(call: Any, chat: ChatOpenAI) -> Any:
    try:
        return await call
    finally:
        client: Any = chat.http_async_client
        await client.aclose()


async def _astream(chat: ChatOpenAI) -> list[Any]:
    return [chunk async for chunk in chat.astream("hi")]


WAYS = [
    Way("invoke", lambda chat: chat.invoke("hi")),
    Way("ainvoke", _ainvoke),
    Way("batch", lambda chat: chat.batch(["hi"])[0]),
    Way("bind_tools", lambda chat: chat.bind_tools([WEATHER]).invoke("hi")),
    Way("stream", lambda chat: list(chat.stream("hi"))),
    Way("astream", lambda chat: asyncio.run(_async(_astream(chat), chat))),
    Way("bind_tools-stream", lambda chat: list(chat.bind_tools([WEATHER]).stream("hi"))),
]
EACH = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)


def told(kit: Kit, way: Way) -> Any:
    """Run it; the message or the chunks, as plain data."""
    with model(kit) as chat:
        found = way.run(chat)
    return [plain(chunk) for chunk in found] if way.is_stream else plain(found)


def summed(kit: Kit, way: Way) -> Any:
    """Run it; the message, or the sum of its chunks, as plain data."""
    with model(kit) as chat:
        found = way.run(chat)
    return plain(reduce(add, found) if way.is_stream else found)


@pytest.mark.parametrize("name", NAMES)
@EACH
def test_langchain_cannot_tell_a_hit(kit: Kit, way: Way, name: str) -> None:
    pair = fixture_of("openai.chat", name)
    kit.script(in_both_modes(*pair))
    found, hit = live_and_hit(kit.gateway, kit.key, lambda: told(kit, way))
    assert hit.body == pair[way.is_stream]
    assert found


@pytest.mark.parametrize("name", NAMES)
@EACH
def test_langchain_cannot_tell_an_answer_of_the_other_mode(kit: Kit, way: Way, name: str) -> None:
    kit.script(in_both_modes(*fixture_of("openai.chat", name)))
    without_us = summed(kit.direct(), way)
    tools = "bind_tools" in way.name
    other = next(w for w in WAYS if w.is_stream != way.is_stream and ("bind" in w.name) == tools)
    live(kit.gateway, kit.key, lambda: told(kit, other))
    found, hit = served(kit.gateway, kit.key, lambda: summed(kit, way))
    assert hit.outcome == "HIT"
    assert found == without_us


def test_a_batch_of_questions_has_an_entry_each(kit: Kit) -> None:
    kit.script(in_both_modes(*fixture_of("openai.chat", "text")))
    with model(kit) as chat:
        with_two = [[plain(m) for m in chat.batch(["one", "two"])] for _ in range(2)]
    assert with_two[0] == with_two[1]
    assert sorted(kit.outcomes) == ["HIT", "HIT", "MISS", "MISS"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_a_structured_output_is_of_its_type_from_the_cache_too(kit: Kit, method: Any) -> None:
    pair = fixture_of("openai.chat", "text")
    kit.script(lambda call: Answer(as_person(pair[bool(call.body.get("stream"))])))
    if method == "function_calling":
        said = fixture_of("openai.chat", "tool_calls")[0].decode()
        said = said.replace('"get_weather"', '"Person"').replace(
            '"{\\"city\\":\\"Zürich\\",\\"unit\\":\\"c\\"}"', PERSON.replace('"', '\\"').join('""')
        )
        kit.script(lambda _: Answer(said.encode()))

    def run() -> Any:
        with model(kit) as chat:
            typed = chat.with_structured_output(Person, method=method, include_raw=True)
            found: Any = typed.invoke("Who?")
        assert found["parsed"] == Person(name="Ada", age=36)
        assert isinstance(found["parsed"], BaseModel)
        return [plain(found["raw"]), dump(found["parsed"]), found["parsing_error"]]

    live_and_hit(kit.gateway, kit.key, run)


@pytest.mark.parametrize("name", names_of_pairs("openai.responses"))
@pytest.mark.parametrize("is_stream", [False, True], ids=["invoke", "stream"])
def test_langchain_on_the_responses_api_cannot_tell_a_hit(
    kit: Kit,
    name: str,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    kit.script(in_both_modes(*fixture_of("openai.responses", name)))

    def run() -> Any:
        with model(kit, use_responses_api=True, store=False) as chat:
            found = list(chat.stream("hi")) if is_stream else [chat.invoke("hi")]
        return [plain(message) for message in found]

    live_and_hit(kit.gateway, kit.key, run)


def test_langchain_runs_on_a_real_model(llama: Kit) -> None:
    def run() -> Any:
        with model(llama, max_completion_tokens=4, seed=1) as chat:
            return plain(chat.invoke("The capital of France is"))

    _, hit = live_and_hit(llama.gateway, llama.key, run)
    assert hit.path == "/v1/chat/completions"
