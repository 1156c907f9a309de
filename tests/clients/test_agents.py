"""What agents do: tools and their results, thoughts that go back signed, typed answers."""

import json
from typing import Any

import pytest
from anthropic import beta_tool
from pydantic import BaseModel

from tests.clients.equal import dump, live_and_hit
from tests.clients.kit import Kit
from tests.clients.scripted import Answer, Call, Script
from tests.clients.test_answers import fixture_of
from tests.support.wire import FIXTURES

IS_STREAM = pytest.mark.parametrize("is_stream", [False, True], ids=["json", "stream"])
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}


class Person(BaseModel):
    name: str
    age: int


def in_turns(dialect: str, first: str, second: str, *, items: str = "messages") -> Script:
    """Answer with one fixture, and with another once the conversation has a tool's result in it."""

    def answer(call: Call) -> Answer:
        has_result = "tool_result" in json.dumps(call.body[items]) or any(
            item.get("role") == "tool" or item.get("type") == "function_call_output"
            for item in call.body[items]
        )
        pair = fixture_of(dialect, second if has_result else first)
        return Answer(pair[bool(call.body.get("stream"))])

    return answer


def chat_agent(kit: Kit, *, is_stream: bool) -> list[Any]:
    """Ask, call the tools, tell their results; both turns as they were parsed."""
    said: list[Any] = []
    functions = [
        {"type": "function", "function": {"name": name, "parameters": TOOL}}
        for name in ("get_weather", "get_time")
    ]
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Zürich?"}]
    ask: dict[str, Any] = {"model": "m", "temperature": 0, "tools": functions}
    with kit.openai() as client:
        while True:
            if is_stream:
                with client.chat.completions.stream(**ask, messages=messages) as events:
                    said.append([dump(event) for event in events])
                    message = events.get_final_completion().choices[0].message
            else:
                answer = client.chat.completions.create(**ask, messages=messages)
                said.append(dump(answer))
                message = answer.choices[0].message
            if not message.tool_calls:
                return [*said, message.content]
            calls = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.function.name,
                        "arguments": call.function.arguments,
                    },
                }
                for call in message.tool_calls
            ]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            messages += [
                {"role": "tool", "tool_call_id": call.id, "content": f"{call.function.name}: 7"}
                for call in message.tool_calls
            ]


@IS_STREAM
def test_an_agent_s_two_turns_are_kept_each_by_itself(
    kit: Kit,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    kit.script(in_turns("openai.chat", "tool_calls", "text"))
    live = chat_agent(kit, is_stream=is_stream)
    said = json.loads(fixture_of("openai.chat", "text")[0])
    assert live[-1] == said["choices"][0]["message"]["content"]
    assert chat_agent(kit, is_stream=is_stream) == live
    assert kit.outcomes == ["MISS", "MISS", "HIT", "HIT"]
    assert len(kit.calls) == 2


def test_an_agent_that_streams_goes_on_from_one_that_did_not(kit: Kit) -> None:
    """The arguments of a tool call are the same text, so the second turn has the same key."""
    kit.script(in_turns("openai.chat", "tool_calls", "text"))
    live = chat_agent(kit, is_stream=False)
    assert chat_agent(kit, is_stream=True)[-1] == live[-1]
    assert kit.outcomes == ["MISS", "MISS", "HIT", "HIT"]


def test_another_result_of_a_tool_is_another_turn(kit: Kit) -> None:
    kit.script(in_turns("openai.chat", "tool_calls", "text"))
    chat_agent(kit, is_stream=False)
    second = kit.calls[1].body["messages"]
    for content in ("get_weather: 7", "get_weather: 8"):
        changed = [*second[:2], second[2] | {"content": content}, *second[3:]]
        with kit.openai() as client:
            client.chat.completions.create(**kit.calls[1].body | {"messages": changed})
    assert kit.outcomes == ["MISS", "MISS", "HIT", "MISS"]


def claude_agent(kit: Kit, *, is_stream: bool) -> list[Any]:
    """As :func:`chat_agent`; an assistant's content goes back as it came, signatures included."""
    said: list[Any] = []
    tools = [{"name": name, "input_schema": TOOL} for name in ("get_weather", "now")]
    messages: list[Any] = [{"role": "user", "content": "What is the weather?"}]
    ask: dict[str, Any] = {"model": "m", "max_tokens": 99, "tools": tools}
    ask["extra_body"] = {"temperature": 0}
    with kit.anthropic() as client:
        while True:
            if is_stream:
                with client.messages.stream(**ask, messages=messages) as events:
                    said.append([dump(event) for event in events])
                    message = events.get_final_message()
            else:
                message = client.messages.create(**ask, messages=messages)
                said.append(dump(message))
            if message.stop_reason != "tool_use":
                return [*said, dump(message.content)]
            messages.append({"role": "assistant", "content": message.content})
            results = [
                {"type": "tool_result", "tool_use_id": block.id, "content": "7"}
                for block in message.content
                if block.type == "tool_use"
            ]
            messages.append({"role": "user", "content": results})


@IS_STREAM
def test_claude_s_two_turns_are_kept_and_its_signatures_are_what_they_were(
    kit: Kit,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    kit.script(in_turns("anthropic.messages", "tools", "thinking"))
    live = claude_agent(kit, is_stream=is_stream)
    assert claude_agent(kit, is_stream=is_stream) == live
    assert "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds" in json.dumps(live[-1])
    assert kit.outcomes == ["MISS", "MISS", "HIT", "HIT"]


@pytest.mark.parametrize("has_thread", [False, True], ids=["own-history", "server-s-thread"])
def test_anthropic_s_own_tool_runner_runs_from_the_cache(
    kit: Kit,
    has_thread: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    """Unless the server holds the conversation, which is what the runner asks for by itself."""
    ran: list[str] = []

    @beta_tool
    def get_weather(location: str, unit: str = "", days: Any = None, exact: float = 0) -> str:
        """Tell the weather."""
        ran.append(location)
        return "7"

    @beta_tool
    def now() -> str:
        """Tell the time."""
        return "noon"

    kit.script(in_turns("anthropic.messages", "tools", "text"))

    thread: dict[str, Any] = {} if has_thread else {"thread": False}

    def run() -> list[Any]:
        with kit.anthropic() as client:
            runner = client.beta.messages.tool_runner(
                model="m",
                max_tokens=99,
                tools=[get_weather, now],
                messages=[{"role": "user", "content": "What is the weather?"}],
                extra_body={"temperature": 0},
                **thread,
            )
            return [dump(message) for message in runner]

    live = run()
    assert len(live) == 2
    assert run() == live
    kept = ["MISS", "MISS", "HIT", "HIT"]
    assert kit.outcomes == (["BYPASS"] * 4 if has_thread else kept)
    assert ran == ["San Francisco, CA"] * 2  # a hit proposes a call; who runs it is the client


@IS_STREAM
def test_the_function_calls_of_a_response_are_answered_in_a_second_turn(
    kit: Kit,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    kit.script(in_turns("openai.responses", "tools", "text", items="input"))

    def run() -> list[Any]:
        said: list[Any] = []
        items: list[Any] = [{"role": "user", "content": "What is the weather?"}]
        tool = {"type": "function", "name": "get_current_weather", "parameters": TOOL}
        ask: dict[str, Any] = {"model": "m", "temperature": 0, "store": False, "tools": [tool]}
        with kit.openai() as client:
            while True:
                if is_stream:
                    with client.responses.stream(**ask, input=items) as events:
                        said.append([dump(event) for event in events])
                        answer: Any = events.get_final_response()
                else:
                    answer = client.responses.create(**ask, input=items)
                    said.append(dump(answer))
                calls = [item for item in answer.output if item.type == "function_call"]
                if not calls:
                    return said
                items += [item.model_dump(exclude_unset=True) for item in answer.output]
                items += [
                    {"type": "function_call_output", "call_id": call.call_id, "output": "7"}
                    for call in calls
                ]

    live = run()
    assert len(live) == 2
    assert run() == live
    assert kit.outcomes == ["MISS", "MISS", "HIT", "HIT"]


# Structured outputs.

PERSON = '{"name":"Ada","age":36}'


def as_person(body: bytes) -> bytes:
    """Return a chat answer that says a person, in either form."""
    if body.startswith(b"{"):
        answer = json.loads(body)
        answer["choices"][0]["message"]["content"] = PERSON
        return json.dumps(answer).encode()
    told = iter(['{"name":', '"Ada","a', 'ge":36}', "", ""])
    lines = []
    for line in body.decode().splitlines(keepends=True):
        if '"content":"' in line and '"role"' not in line:
            event = json.loads(line.removeprefix("data: "))
            event["choices"][0]["delta"]["content"] = next(told)
            line = f"data: {json.dumps(event)}\n"  # noqa: PLW2901 - the changed line
        lines.append(line)
    return "".join(lines).encode()


def chat_parse(kit: Kit) -> Any:
    with kit.openai() as client:
        answer = client.chat.completions.parse(
            model="m",
            messages=[{"role": "user", "content": "Who?"}],
            temperature=0,
            response_format=Person,
        )
        assert answer.choices[0].message.parsed == Person(name="Ada", age=36)
        return dump(answer)


def chat_parse_beta(kit: Kit) -> Any:
    with kit.openai() as client:
        answer = client.beta.chat.completions.parse(
            model="m",
            messages=[{"role": "user", "content": "Who?"}],
            temperature=0,
            response_format=Person,
        )
        return dump(answer)


def chat_parse_stream(kit: Kit) -> Any:
    with (
        kit.openai() as client,
        client.chat.completions.stream(
            model="m",
            messages=[{"role": "user", "content": "Who?"}],
            temperature=0,
            response_format=Person,
            stream_options={"include_usage": True},
        ) as events,
    ):
        said = [dump(event) for event in events]
        final = events.get_final_completion()
        assert final.choices[0].message.parsed == Person(name="Ada", age=36)
        return [said, dump(final)]


CHAT_PARSERS = [chat_parse, chat_parse_beta, chat_parse_stream]


@pytest.mark.parametrize("parse", CHAT_PARSERS, ids=lambda parse: parse.__name__)
def test_a_typed_answer_is_of_its_type_from_the_cache_too(kit: Kit, parse: Any) -> None:
    pair = fixture_of("openai.chat", "text")
    kit.script(lambda call: Answer(as_person(pair[bool(call.body.get("stream"))])))
    live_and_hit(kit.gateway, kit.key, lambda: parse(kit))


def test_a_typed_answer_serves_the_other_mode(kit: Kit) -> None:
    pair = fixture_of("openai.chat", "text")
    kit.script(lambda call: Answer(as_person(pair[bool(call.body.get("stream"))])))
    _, streamed = chat_parse_stream(kit.direct())
    chat_parse(kit)
    assert chat_parse_stream(kit)[1] == streamed
    assert kit.outcomes == ["MISS", "HIT"]


@IS_STREAM
def test_claude_s_typed_answer_is_of_its_type_from_the_cache_too(
    kit: Kit,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    pair = fixture_of("anthropic.messages", "structured")
    kit.script(lambda call: Answer(pair[bool(call.body.get("stream"))]))
    ask: dict[str, Any] = {
        "model": "m",
        "max_tokens": 99,
        "messages": [{"role": "user", "content": "Who?"}],
        "extra_body": {"temperature": 0},
        "output_format": Person,
    }

    def run() -> Any:
        with kit.anthropic() as client:
            if not is_stream:
                message = client.messages.parse(**ask)
                assert message.parsed_output == Person(name="Ada", age=36)
                return dump(message)
            with client.messages.stream(**ask) as events:
                said = [dump(event) for event in events]
                return [said, dump(events.get_final_message())]

    live_and_hit(kit.gateway, kit.key, run)


@IS_STREAM
def test_a_typed_response_is_of_its_type_from_the_cache_too(
    kit: Kit,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    answer, stream = fixture_of("openai.responses", "text")
    text = json.loads(answer)["output"][0]["content"][0]["text"]
    json_text = json.dumps({"text": text})
    changed = json.loads(answer)
    changed["output"][0]["content"][0]["text"] = json_text
    lines = [_typed_line(line, text, json_text) for line in stream.decode().splitlines()]
    bodies = json.dumps(changed).encode(), ("\n".join(lines) + "\n").encode()
    kit.script(lambda call: Answer(bodies[bool(call.body.get("stream"))]))

    class Told(BaseModel):
        text: str

    ask: dict[str, Any] = {"model": "m", "input": "hi", "temperature": 0, "store": False}

    def run() -> Any:
        with kit.openai() as client:
            if not is_stream:
                response = client.responses.parse(**ask, text_format=Told)
                assert response.output_parsed == Told(text=text)
                return dump(response)
            with client.responses.stream(**ask, text_format=Told) as events:
                said = [dump(event) for event in events]
                final = events.get_final_response()
                assert final.output_parsed == Told(text=text)
                return [said, dump(final)]

    live_and_hit(kit.gateway, kit.key, run)


def _typed_line(line: str, text: str, json_text: str) -> str:
    """Return a line of a stream with the whole text made a JSON text, and its first delta too."""
    if not line.startswith("data: {"):
        return line
    event = json.loads(line.removeprefix("data: "))
    if event["type"] == "response.output_text.delta":
        is_first, is_last = text.startswith(event["delta"]), text.endswith(event["delta"])
        begun = json.dumps(event["delta"])[1:-1]
        event["delta"] = '{"text": "' * is_first + begun + '"}' * is_last
    whole = json.dumps(event)
    return "data: " + whole.replace(json.dumps(text), json.dumps(json_text))


def test_a_refusal_reaches_everybody_and_is_never_kept(kit: Kit) -> None:
    """A refusal is an answer of its own kind: ``parsed`` is None, ``refusal`` says why."""
    folder = FIXTURES / "openai.chat" / "discarded"
    pair = [(folder / f"finish-reason.refusal.{kind}").read_bytes() for kind in ("json", "sse")]
    kit.script(lambda call: Answer(pair[bool(call.body.get("stream"))]))
    found = []
    for asking in (kit.direct(), kit, kit):
        with asking.openai() as client:
            ask: dict[str, Any] = {"model": "m", "messages": [], "temperature": 0}
            ask["messages"] = [{"role": "user", "content": "Who?"}]
            message = client.chat.completions.parse(**ask, response_format=Person)
            assert message.choices[0].message.refusal
            with client.chat.completions.stream(**ask) as events:
                found.append([dump(message), [dump(event) for event in events]])
    assert found[0] == found[1] == found[2]
    assert kit.outcomes == ["MISS"] * 4
