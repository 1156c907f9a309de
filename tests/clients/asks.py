"""How people ask: every way of the two official libraries, as a table.

A row runs for every fixture of its API, so a new fixture, or a new row, is tested by itself.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from openai import LengthFinishReasonError

from tests.clients.equal import dump
from tests.clients.folding import fold_anthropic, fold_openai, fold_responses
from tests.clients.kit import Kit

__all__ = ["ASKS", "FIELDS", "Ask", "Streamed", "asks_of"]

_MESSAGES = [{"role": "user", "content": "hi"}]
FIELDS: dict[str, dict[str, Any]] = {
    "openai.chat": {"model": "m", "messages": _MESSAGES, "temperature": 0},
    "openai.completions": {"model": "m", "prompt": "hi", "temperature": 0},
    "openai.responses": {"model": "m", "input": "hi", "temperature": 0, "store": False},
    "anthropic.messages": {"model": "m", "messages": _MESSAGES, "max_tokens": 9}
    | {"extra_body": {"temperature": 0}},  # not every signature has it
}
"""What is asked, by dialect; deterministic, so that tool calls are kept."""

_USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
_BETA: dict[str, Any] = {"betas": ["context-management-2025-06-27"]}


class Streamed(NamedTuple):
    """What a stream was parsed to.

    Attributes:
        events: Every chunk or event.
        final: What the library itself made of them in the end; where it makes nothing, what they
            say however they were cut.
    """

    events: list[Any]
    final: Any


class Ask(NamedTuple):
    """One way to ask.

    Attributes:
        name: Its name in the tests' names.
        dialect: The API.
        is_stream: Whether the answer is a stream; then ``run`` returns :class:`Streamed`.
        run: Ask with some clients for some fields, and return all that was parsed.
        is_raw: It returns bytes as they came, so those of the two modes are not comparable.
    """

    name: str
    dialect: str
    is_stream: bool
    run: Callable[[Kit, dict[str, Any]], Any]
    is_raw: bool = False


ASKS: list[Ask] = []


def asks_of(dialect: str) -> list[Ask]:
    """Return the ways to ask in one API."""
    return [ask for ask in ASKS if ask.dialect == dialect]


def _ask(dialect: str, *, stream: bool = False, raw: bool = False) -> Callable[[Any], Any]:
    def add(run: Callable[[Kit, dict[str, Any]], Any]) -> Callable[[Kit, dict[str, Any]], Any]:
        ASKS.append(Ask(run.__name__, dialect, stream, run, raw))
        return run

    return add


def _folded(events: list[Any], fold: Callable[[list[dict[str, Any]]], Any]) -> Streamed:
    said = [event.model_dump(exclude_unset=True, warnings=False) for event in events]
    return Streamed([dump(event) for event in events], fold(said))


# OpenAI chat completions.


@_ask("openai.chat")
def chat(kit: Kit, fields: dict[str, Any]) -> Any:
    with kit.openai() as client:
        return dump(client.chat.completions.create(**fields))


@_ask("openai.chat", raw=True)
def chat_raw(kit: Kit, fields: dict[str, Any]) -> Any:
    with kit.openai() as client:
        raw = client.chat.completions.with_raw_response.create(**fields)
        return [raw.status_code, raw.content, dump(raw.parse())]


@_ask("openai.chat")
def chat_async(kit: Kit, fields: dict[str, Any]) -> Any:
    async def run() -> Any:
        async with kit.async_openai() as client:
            return dump(await client.chat.completions.create(**fields))

    return asyncio.run(run())


@_ask("openai.chat", raw=True)
def chat_with_raw_body(kit: Kit, fields: dict[str, Any]) -> Any:
    with kit.openai() as client:
        found = client.chat.completions.with_streaming_response.create(**fields)
        with found as raw:
            return b"".join(raw.iter_bytes())


@_ask("openai.chat", stream=True)
def chat_chunks(kit: Kit, fields: dict[str, Any]) -> Streamed:
    with kit.openai() as client:
        chunks = client.chat.completions.create(**fields, **_USAGE, stream=True)
        return _folded(list(chunks), fold_openai)


@_ask("openai.chat", stream=True)
def chat_chunks_without_usage(kit: Kit, fields: dict[str, Any]) -> Streamed:
    with kit.openai() as client:
        found = _folded(list(client.chat.completions.create(**fields, stream=True)), fold_openai)
        # The fixtures tell it to everybody. Who did not ask is not told by us.
        return found._replace(final={n: v for n, v in found.final.items() if n != "usage"})


@_ask("openai.chat", stream=True)
def chat_chunks_async(kit: Kit, fields: dict[str, Any]) -> Streamed:
    async def run() -> Streamed:
        async with kit.async_openai() as client:
            chunks = await client.chat.completions.create(**fields, **_USAGE, stream=True)
            return _folded([chunk async for chunk in chunks], fold_openai)

    return asyncio.run(run())


@_ask("openai.chat", stream=True)
def chat_helper(kit: Kit, fields: dict[str, Any]) -> Streamed:
    with kit.openai() as client, client.chat.completions.stream(**fields, **_USAGE) as stream:
        events = [dump(event) for event in stream]
        final = dump(stream.current_completion_snapshot)
        try:  # what came to the limit of tokens has no final completion
            return Streamed([*events, dump(stream.get_final_completion())], final)
        except LengthFinishReasonError as error:
            return Streamed([*events, str(error)], final)


@_ask("openai.chat", stream=True)
def chat_helper_async(kit: Kit, fields: dict[str, Any]) -> Streamed:
    async def run() -> Streamed:
        async with (
            kit.async_openai() as client,
            client.chat.completions.stream(**fields, **_USAGE) as stream,
        ):
            events = [dump(event) async for event in stream]
            return Streamed(events, dump(stream.current_completion_snapshot))

    return asyncio.run(run())


# OpenAI legacy completions.


@_ask("openai.completions")
def completion(kit: Kit, fields: dict[str, Any]) -> Any:
    with kit.openai() as client:
        return dump(client.completions.create(**fields))


@_ask("openai.completions")
def completion_async(kit: Kit, fields: dict[str, Any]) -> Any:
    async def run() -> Any:
        async with kit.async_openai() as client:
            return dump(await client.completions.create(**fields))

    return asyncio.run(run())


@_ask("openai.completions", stream=True)
def completion_chunks(kit: Kit, fields: dict[str, Any]) -> Streamed:
    with kit.openai() as client:
        chunks = client.completions.create(**fields, **_USAGE, stream=True)
        return _folded(list(chunks), fold_openai)


@_ask("openai.completions", stream=True)
def completion_chunks_async(kit: Kit, fields: dict[str, Any]) -> Streamed:
    async def run() -> Streamed:
        async with kit.async_openai() as client:
            chunks = await client.completions.create(**fields, **_USAGE, stream=True)
            return _folded([chunk async for chunk in chunks], fold_openai)

    return asyncio.run(run())


# OpenAI responses.


@_ask("openai.responses")
def response(kit: Kit, fields: dict[str, Any]) -> Any:
    with kit.openai() as client:
        return dump(client.responses.create(**fields))


@_ask("openai.responses")
def response_async(kit: Kit, fields: dict[str, Any]) -> Any:
    async def run() -> Any:
        async with kit.async_openai() as client:
            return dump(await client.responses.create(**fields))

    return asyncio.run(run())


@_ask("openai.responses", stream=True)
def response_events(kit: Kit, fields: dict[str, Any]) -> Streamed:
    with kit.openai() as client:
        events = client.responses.create(**fields, stream=True)
        return _folded(list(events), fold_responses)


@_ask("openai.responses", stream=True)
def response_events_async(kit: Kit, fields: dict[str, Any]) -> Streamed:
    async def run() -> Streamed:
        async with kit.async_openai() as client:
            events = await client.responses.create(**fields, stream=True)
            return _folded([event async for event in events], fold_responses)

    return asyncio.run(run())


@_ask("openai.responses", stream=True)
def response_helper(kit: Kit, fields: dict[str, Any]) -> Streamed:
    with kit.openai() as client, client.responses.stream(**fields) as stream:
        return Streamed([dump(event) for event in stream], dump(stream.get_final_response()))


@_ask("openai.responses", stream=True)
def response_helper_async(kit: Kit, fields: dict[str, Any]) -> Streamed:
    async def run() -> Streamed:
        async with kit.async_openai() as client, client.responses.stream(**fields) as stream:
            events = [dump(event) async for event in stream]
            return Streamed(events, dump(await stream.get_final_response()))

    return asyncio.run(run())


# Anthropic messages.


@_ask("anthropic.messages")
def message(kit: Kit, fields: dict[str, Any]) -> Any:
    with kit.anthropic() as client:
        return dump(client.messages.create(**fields))


@_ask("anthropic.messages")
def message_async(kit: Kit, fields: dict[str, Any]) -> Any:
    async def run() -> Any:
        async with kit.async_anthropic() as client:
            return dump(await client.messages.create(**fields))

    return asyncio.run(run())


@_ask("anthropic.messages")
def message_beta(kit: Kit, fields: dict[str, Any]) -> Any:
    with kit.anthropic() as client:
        return dump(client.beta.messages.create(**fields, **_BETA))


@_ask("anthropic.messages", stream=True)
def message_events(kit: Kit, fields: dict[str, Any]) -> Streamed:
    with kit.anthropic() as client:
        events = client.messages.create(**fields, stream=True)
        return _folded(list(events), fold_anthropic)


@_ask("anthropic.messages", stream=True)
def message_helper(kit: Kit, fields: dict[str, Any]) -> Streamed:
    with kit.anthropic() as client, client.messages.stream(**fields) as stream:
        return Streamed([dump(event) for event in stream], dump(stream.get_final_message()))


@_ask("anthropic.messages", stream=True)
def message_text_stream(kit: Kit, fields: dict[str, Any]) -> Streamed:
    with kit.anthropic() as client, client.messages.stream(**fields) as stream:
        return Streamed(list(stream.text_stream), dump(stream.get_final_message()))


@_ask("anthropic.messages", stream=True)
def message_helper_async(kit: Kit, fields: dict[str, Any]) -> Streamed:
    async def run() -> Streamed:
        async with (
            kit.async_anthropic() as client,
            client.messages.stream(**fields) as stream,
        ):
            events = [dump(event) async for event in stream]
            return Streamed(events, dump(await stream.get_final_message()))

    return asyncio.run(run())


@_ask("anthropic.messages", stream=True)
def message_beta_helper(kit: Kit, fields: dict[str, Any]) -> Streamed:
    with kit.anthropic() as client, client.beta.messages.stream(**fields, **_BETA) as stream:
        return Streamed([dump(event) for event in stream], dump(stream.get_final_message()))
