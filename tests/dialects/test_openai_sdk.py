"""OpenAI's own client library as the judge: it must not tell a converted answer from a live one."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from routecache_middleware.core.dialect import Dialect, ParsedRequest
from routecache_middleware.core.models import ResponseMode
from routecache_middleware.dialects.table import load
from tests.support.wire import FIXTURES, files, hashes, mode_of, mutations, names_of_pairs

JSON, STREAM = ResponseMode.JSON, ResponseMode.STREAM
CHAT, LEGACY = load("openai.chat"), load("openai.completions")
PAIRS = [(d, name) for d in (CHAT, LEGACY) for name in names_of_pairs(d.name)]
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def answer(dialect: Dialect, name: str, suffix: str) -> bytes:
    return (FIXTURES / dialect.name / "answers" / (name + suffix)).read_bytes()


def converted(dialect: Dialect, name: str, to: ResponseMode) -> bytes:
    """Return an answer made of the other form."""
    body = answer(dialect, name, ".sse" if to is JSON else ".json")
    shape = "json" if to is JSON else "stream+usage"
    rendered = dialect.render(
        body, STREAM if to is JSON else JSON, ParsedRequest(model="m", mode=to, shape=shape)
    )
    assert rendered is not None
    return rendered


def transport(body: bytes, status: int = 200) -> httpx.MockTransport:
    kind = "application/json" if body.startswith(b"{") else "text/event-stream"

    def respond(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={"content-type": kind}, content=body)

    return httpx.MockTransport(respond)


@pytest.fixture(name="client")
def _client() -> Iterator[Any]:
    clients: list[OpenAI] = []

    def make(body: bytes, status: int = 200) -> OpenAI:
        http = httpx.Client(transport=transport(body, status))
        clients.append(OpenAI(api_key="k", http_client=http, max_retries=0))
        return clients[-1]

    yield make
    for made in clients:
        made.close()


@pytest.fixture(name="aclient")
async def _aclient() -> AsyncIterator[Any]:
    clients: list[AsyncOpenAI] = []

    def make(body: bytes) -> AsyncOpenAI:
        http = httpx.AsyncClient(transport=transport(body))
        clients.append(AsyncOpenAI(api_key="k", http_client=http, max_retries=0))
        return clients[-1]

    yield make
    for made in clients:
        await made.close()


def parsed(made: OpenAI, dialect: Dialect) -> Any:
    if dialect is CHAT:
        return made.chat.completions.create(**ASKED).model_dump()
    return made.completions.create(model="m", prompt="hi").model_dump()


def streamed(made: OpenAI, dialect: Dialect) -> list[dict[str, Any]]:
    if dialect is CHAT:
        return [c.model_dump() for c in made.chat.completions.create(**ASKED, stream=True)]
    return [c.model_dump() for c in made.completions.create(model="m", prompt="hi", stream=True)]


@pytest.mark.parametrize(("dialect", "name"), PAIRS)
def test_converted_json_parses_as_the_live_one(client: Any, dialect: Dialect, name: str) -> None:
    live = parsed(client(answer(dialect, name, ".json")), dialect)
    assert parsed(client(converted(dialect, name, JSON)), dialect) == live


def summed(found: list[dict[str, Any]]) -> dict[int, tuple[str, str]]:
    """Return the text of every choice, and how it ended."""
    choices: dict[int, tuple[str, str]] = {}
    for choice in (choice for chunk in found for choice in chunk["choices"]):
        text, finish = choices.get(choice["index"], ("", ""))
        more = choice.get("text") or choice.get("delta", {}).get("content") or ""
        choices[choice["index"]] = (text + more, choice["finish_reason"] or finish)
    return choices


@pytest.mark.parametrize(("dialect", "name"), PAIRS)
def test_a_converted_stream_adds_up_to_the_live_one(
    client: Any, dialect: Dialect, name: str
) -> None:
    live = streamed(client(answer(dialect, name, ".sse")), dialect)
    made = streamed(client(converted(dialect, name, STREAM)), dialect)
    assert summed(made) == summed(live)
    same = ("id", "created", "model", "object", "system_fingerprint")
    for chunk in made:
        assert [chunk.get(n) for n in same] == [live[0].get(n) for n in same]
    assert [c for c in made if not c["choices"]] == [
        {n: v for n, v in c.items() if n != "obfuscation"} for c in live if not c["choices"]
    ]


RECORDED = [(d, path) for d in (CHAT, LEGACY) for path in files(d.name, "recorded")]


@pytest.mark.parametrize(
    ("dialect", "path"), RECORDED, ids=lambda value: getattr(value, "name", "")
)
def test_what_servers_really_send_is_read_and_converted(
    client: Any, dialect: Dialect, path: Path
) -> None:
    body, mode = path.read_bytes(), mode_of(path)
    judged = dialect.judge(body, mode, ParsedRequest("m", mode, mode.value))
    assert judged.discard is None
    for shape in ("json", "stream", "stream+usage"):
        wanted = JSON if shape == "json" else STREAM
        made = dialect.render(body, mode, ParsedRequest("m", wanted, shape))
        if made is None:
            assert not judged.has_usage
        elif wanted is JSON:
            assert parsed(client(made), dialect)["choices"]
        else:
            assert summed(streamed(client(made), dialect)).keys() == {0}


@pytest.mark.parametrize("name", names_of_pairs("openai.chat"))
def test_the_streaming_helper_ends_up_with_the_live_completion(client: Any, name: str) -> None:
    found = []
    for body in (answer(CHAT, name, ".sse"), converted(CHAT, name, STREAM)):
        with client(body).chat.completions.stream(**ASKED) as events:
            kinds = {event.type for event in events}
            final = events.current_completion_snapshot.model_dump()
        final.pop("obfuscation", None)
        found.append((kinds, final))
    assert found[1] == found[0]
    live = parsed(client(answer(CHAT, name, ".json")), CHAT)
    for choice in live["choices"]:
        of_stream = found[1][1]["choices"][choice["index"]]
        assert of_stream["message"]["content"] == choice["message"]["content"]
        assert of_stream["finish_reason"] == choice["finish_reason"]
        assert of_stream["logprobs"] == choice["logprobs"]


@pytest.mark.parametrize("name", names_of_pairs("openai.chat"))
async def test_the_async_client_reads_what_the_other_reads(
    client: Any, aclient: Any, name: str
) -> None:
    body = converted(CHAT, name, JSON)
    answered = await aclient(body).chat.completions.create(**ASKED)
    assert answered.model_dump() == parsed(client(body), CHAT)
    body = converted(CHAT, name, STREAM)
    events = await aclient(body).chat.completions.create(**ASKED, stream=True)
    assert [chunk.model_dump() async for chunk in events] == streamed(client(body), CHAT)


@pytest.mark.parametrize("dialect", [CHAT, LEGACY])
def test_the_client_takes_our_error_for_one_of_the_api(client: Any, dialect: Dialect) -> None:
    body = dialect.error_body("nothing stored", kind="cache_miss", code="only_if_cached")
    with pytest.raises(openai.InternalServerError) as caught:
        parsed(client(body, 504), dialect)
    assert (caught.value.code, caught.value.type) == ("only_if_cached", "cache_miss")


def test_the_chat_table_knows_every_field_of_the_sdk() -> None:
    known = set(CompletionCreateParamsBase.__annotations__) | {"stream"}
    assert known <= set(CHAT.fields)


@pytest.mark.parametrize("path", files("openai.chat", "requests"), ids=lambda path: path.stem)
def test_any_change_of_a_chat_request_changes_the_key_unless_the_table_says_otherwise(
    path: Path,
) -> None:
    payload = json.loads(path.read_bytes())
    assert CHAT.parse(payload) is not None
    before = hashes(CHAT, payload)
    for where, changed in mutations(payload):
        after = hashes(CHAT, changed)
        is_ignored = where[0] in CHAT.ignored_fields or "prompt_cache_breakpoint" in where
        assert (after.result == before.result) is is_ignored, where
        is_kept = is_ignored or where[0] in CHAT.sampling_fields
        assert (after.decision == before.decision) is is_kept, where
