"""What the scripted provider says: each API's JSON and events, made from one plain answer."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "Json", "ToolCall", "events", "last_text", "whole"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the model wants made; ``arguments`` is JSON text."""

    name: str
    arguments: str = "{}"
    id: str = "call_1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one call gets.

    Attributes:
        text: What the model says; None: a digest of the question and the number of the call.
        status: HTTP status; from 400 on the answer is an error.
        error: The error's body; None: one in OpenAI's form.
        delay_s: Seconds until the response begins.
        chunk_delay_s: Seconds between two events of a stream.
        hold: The response begins when this is set.
        abort_after: The connection breaks after so many events of a stream, or, when it is not a
            stream, after the headers.
        finish_reason: In OpenAI's words; the other APIs get theirs.
        tool_calls: What the model wants called; it says nothing then, unless ``text`` is given.
        usage: Input and output tokens; None: counted words.
        headers: Further response headers.
    """

    text: str | None = None
    status: int = 200
    error: Json | None = None
    delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    hold: threading.Event | None = None
    abort_after: int | None = None
    finish_reason: str = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    usage: tuple[int, int] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Filled:
    """An answer with everything decided."""

    number: int
    model: str
    text: str
    finish_reason: str
    tool_calls: tuple[ToolCall, ...]
    input_tokens: int
    output_tokens: int
    choices: int


def whole(api: str, body: Json, answer: Answer, number: int) -> Json:
    """The answer in one piece; ``api`` is the last part of the path."""
    return _WHOLE[api](_fill(body, answer, number))


def events(api: str, body: Json, answer: Answer, number: int) -> Iterator[bytes]:
    """The answer as server-sent events."""
    filled = _fill(body, answer, number)
    if api == "responses":
        yield from (_named(event) for event in _response_events(filled))
    elif api == "messages":
        yield from (_named(event) for event in _message_events(filled))
    else:
        for chunk in _CHUNKS[api](filled):
            yield _data(chunk)
        if (body.get("stream_options") or {}).get("include_usage"):
            empty = _chat_chunk(filled, []) if api == "chat" else _text_chunk(filled, [])
            yield _data({**empty, "usage": _usage(filled)})
        yield b"data: [DONE]\n\n"


def last_text(body: Json) -> str:
    """What was asked last: message, prompt or input, as text."""
    for name in ("messages", "input", "prompt"):
        asked = body.get(name)
        if isinstance(asked, list) and asked:
            asked = asked[-1]
        if isinstance(asked, dict):
            asked = asked.get("content", "")
        if asked:
            return asked if isinstance(asked, str) else json.dumps(asked)
    return ""


def _fill(body: Json, answer: Answer, number: int) -> _Filled:
    digest = hashlib.sha256(last_text(body).encode()).hexdigest()[:8]
    text = answer.text
    if text is None:
        text = "" if answer.tool_calls else f"answer {number} to {digest} of {body.get('model')}"
    asked = json.dumps(body.get("messages") or body.get("input") or body.get("prompt") or "")
    usage = answer.usage or (len(asked.split()), max(1, len(text.split())))
    return _Filled(
        number=number,
        model=str(body.get("model", "")),
        text=text,
        finish_reason="tool_calls" if answer.tool_calls else answer.finish_reason,
        tool_calls=answer.tool_calls,
        input_tokens=usage[0],
        output_tokens=usage[1],
        choices=int(body.get("n") or 1),
    )


def _pieces(text: str) -> Iterator[str]:
    """Words with their blanks, so that pieces give the text again."""
    piece = ""
    for character in text:
        piece += character
        if character == " ":
            yield piece
            piece = ""
    if piece:
        yield piece


def _data(event: Json) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def _named(event: Json) -> bytes:
    return b"event: " + str(event["type"]).encode() + b"\n" + _data(event)


def _usage(filled: _Filled) -> Json:
    return {
        "prompt_tokens": filled.input_tokens,
        "completion_tokens": filled.output_tokens,
        "total_tokens": filled.input_tokens + filled.output_tokens,
    }


# --- OpenAI: chat and text completions ---


def _choice_text(filled: _Filled, index: int) -> str:
    return filled.text if index == 0 else f"{filled.text} ({index})"


def _chat(filled: _Filled) -> Json:
    calls = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for c in filled.tool_calls
    ]
    choices = []
    for index in range(filled.choices):
        message: Json = {"role": "assistant", "content": _choice_text(filled, index) or None}
        if calls:
            message["tool_calls"] = calls
        choices.append({"index": index, "message": message, "finish_reason": filled.finish_reason})
    return {
        "id": f"chatcmpl-{filled.number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": filled.model,
        "choices": choices,
        "usage": _usage(filled),
    }


def _chat_chunk(filled: _Filled, choices: list[Json]) -> Json:
    return {
        "id": f"chatcmpl-{filled.number}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": filled.model,
        "choices": choices,
    }


def _chat_chunks(filled: _Filled) -> Iterator[Json]:
    for index in range(filled.choices):
        for delta in _deltas(filled, index):
            choice = {"index": index, "delta": delta, "finish_reason": None}
            yield _chat_chunk(filled, [choice])
        choice = {"index": index, "delta": {}, "finish_reason": filled.finish_reason}
        yield _chat_chunk(filled, [choice])


def _deltas(filled: _Filled, index: int) -> Iterator[Json]:
    yield {"role": "assistant", "content": ""}
    for piece in _pieces(_choice_text(filled, index)):
        yield {"content": piece}
    for number, call in enumerate(filled.tool_calls):
        half = len(call.arguments) // 2
        begun = {"name": call.name, "arguments": call.arguments[:half]}
        base: Json = {"index": number, "id": call.id, "type": "function"}
        yield {"tool_calls": [{**base, "function": begun}]}
        rest = {"arguments": call.arguments[half:]}
        yield {"tool_calls": [{"index": number, "function": rest}]}


def _text(filled: _Filled) -> Json:
    choices = [
        {
            "index": index,
            "text": _choice_text(filled, index),
            "finish_reason": filled.finish_reason,
            "logprobs": None,
        }
        for index in range(filled.choices)
    ]
    return {**_text_chunk(filled, choices), "usage": _usage(filled)}


def _text_chunk(filled: _Filled, choices: list[Json]) -> Json:
    return {
        "id": f"cmpl-{filled.number}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": filled.model,
        "choices": choices,
    }


def _text_chunks(filled: _Filled) -> Iterator[Json]:
    for index in range(filled.choices):
        for piece in _pieces(_choice_text(filled, index)):
            choice = {"index": index, "text": piece, "finish_reason": None, "logprobs": None}
            yield _text_chunk(filled, [choice])
        end = {"index": index, "text": "", "finish_reason": filled.finish_reason, "logprobs": None}
        yield _text_chunk(filled, [end])


# --- OpenAI: Responses ---


def _response_items(filled: _Filled) -> list[Json]:
    items: list[Json] = []
    if filled.text:
        part = {"type": "output_text", "text": filled.text, "annotations": []}
        items.append(
            {
                "id": f"msg_{filled.number}",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [part],
            }
        )
    items.extend(
        {
            "id": f"fc_{filled.number}_{call.id}",
            "type": "function_call",
            "status": "completed",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
        for call in filled.tool_calls
    )
    return items


def _response(filled: _Filled) -> Json:
    is_cut = filled.finish_reason == "length"
    return {
        "id": f"resp_{filled.number}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "incomplete" if is_cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "instructions": None,
        "metadata": {},
        "model": filled.model,
        "output": _response_items(filled),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": filled.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": filled.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": filled.input_tokens + filled.output_tokens,
        },
    }


def _response_events(filled: _Filled) -> Iterator[Json]:
    done = _response(filled)
    begun = {**done, "status": "in_progress", "output": [], "usage": None}
    sequence: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(done["output"]):
        sequence.extend(_item_events(index, item))
    ended = "incomplete" if done["status"] == "incomplete" else "completed"
    sequence.append({"type": f"response.{ended}", "response": done})
    for number, event in enumerate(sequence):
        yield {**event, "sequence_number": number}


def _item_events(index: int, item: Json) -> Iterator[Json]:
    where = {"item_id": item["id"], "output_index": index}
    if item["type"] == "message":
        empty = {**item, "status": "in_progress", "content": []}
        yield {"type": "response.output_item.added", "output_index": index, "item": empty}
        yield from _part_events(where, item["content"][0])
    else:
        empty = {**item, "status": "in_progress", "arguments": ""}
        call = "response.function_call_arguments"
        yield {"type": "response.output_item.added", "output_index": index, "item": empty}
        yield {"type": f"{call}.delta", **where, "delta": item["arguments"]}
        yield {"type": f"{call}.done", **where, "arguments": item["arguments"]}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _part_events(where: Json, part: Json) -> Iterator[Json]:
    where = {**where, "content_index": 0}
    empty = {**part, "text": ""}
    yield {"type": "response.content_part.added", **where, "part": empty}
    for piece in _pieces(part["text"]):
        delta = {"delta": piece, "logprobs": []}
        yield {"type": "response.output_text.delta", **where, **delta}
    text = {"text": part["text"], "logprobs": []}
    yield {"type": "response.output_text.done", **where, **text}
    yield {"type": "response.content_part.done", **where, "part": part}


# --- Anthropic messages ---

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def _blocks(filled: _Filled) -> list[Json]:
    blocks: list[Json] = [{"type": "text", "text": filled.text}] if filled.text else []
    blocks.extend(
        {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)}
        for call in filled.tool_calls
    )
    return blocks


def _message(filled: _Filled) -> Json:
    return {
        "id": f"msg_{filled.number}",
        "type": "message",
        "role": "assistant",
        "model": filled.model,
        "content": _blocks(filled),
        "stop_reason": _STOP_REASONS.get(filled.finish_reason, filled.finish_reason),
        "stop_sequence": None,
        "usage": {"input_tokens": filled.input_tokens, "output_tokens": filled.output_tokens},
    }


def _message_events(filled: _Filled) -> Iterator[Json]:
    done = _message(filled)
    usage = {"input_tokens": filled.input_tokens, "output_tokens": 1}
    begun = {**done, "content": [], "stop_reason": None, "usage": usage}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(done["content"]):
        yield from _block_events(index, block)
    ended = {"stop_reason": done["stop_reason"], "stop_sequence": None}
    yield {
        "type": "message_delta",
        "delta": ended,
        "usage": {"output_tokens": filled.output_tokens},
    }
    yield {"type": "message_stop"}


def _block_events(index: int, block: Json) -> Iterator[Json]:
    if block["type"] == "text":
        empty: Json = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
    else:
        empty = {**block, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
    yield {"type": "content_block_start", "index": index, "content_block": empty}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


_WHOLE = {"chat": _chat, "completions": _text, "responses": _response, "messages": _message}
_CHUNKS = {"chat": _chat_chunks, "completions": _text_chunks}
