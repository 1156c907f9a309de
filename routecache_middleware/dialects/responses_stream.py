"""OpenAI responses: from JSON to stream and from stream to JSON.

A stream ends with the whole answer, so the JSON answer is that end, byte for byte. The other way
every item is added empty, gets each of its texts in one delta and is done; numbers, ids and members
nobody has heard of yet stay as they are, so that ``aggregate(replay(x)) == x``.

What a stream would have is known for messages, reasoning, and calls of functions and custom tools.
An answer with other items, or with log probabilities, which deltas have in another form, is None: a
miss.
"""

from collections.abc import Callable, Iterator

import msgspec

from routecache_middleware.core.sse import split_events
from routecache_middleware.dialects.openai_merge import Object, as_objects
from routecache_middleware.dialects.responses_judge import COMPLETED, DONE

__all__ = ["aggregate", "replay"]

_UNKNOWN_AT_FIRST = ("completed_at", "moderation", "usage")
_TEXTS = {
    "output_text": ("text", "response.output_text"),
    "refusal": ("refusal", "response.refusal"),
    "reasoning_text": ("text", "response.reasoning_text"),
}
"""Type of a content part, where its text is, and what its events are called."""

_CALLS = {
    "function_call": ("arguments", "response.function_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
}
"""Type of a call, where its text is, and what its events are called."""

_DOUBTS = (msgspec.MsgspecError, ValueError, RecursionError)  # the body has not the right form
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Object).decode


_NOTHING = msgspec.Raw()


class _Event(msgspec.Struct, gc=False):
    type: str
    model: str | None = None  # no part of this API: how LiteLLM names the model to the client
    response: msgspec.Raw = _NOTHING


class _Named(msgspec.Struct, gc=False):
    model: str | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_name = msgspec.json.Decoder(_Named).decode


def aggregate(body: bytes) -> bytes | None:
    """Return the JSON answer that a stream ends with.

    None when there is none, or a JSON answer would name another model.
    """
    try:
        events = [_decode_event(sent.data) for sent in split_events(body) if sent.data != DONE]
        if not events or events[-1].type != COMPLETED:
            return None
        last = events[-1]
        is_renamed = last.model not in (None, _decode_name(last.response).model)
    except _DOUBTS:
        return None
    return None if is_renamed else bytes(last.response)


def replay(body: bytes) -> bytes | None:
    """Return a stream that ends with a JSON answer; None when what comes before is not known."""
    try:
        events = list(_take_apart(_decode(body)))
        end = msgspec.json.format(body, indent=-1)  # on one line, its numbers as they are written
    except _DOUBTS:
        return None
    frames = [
        _frame(str(event["type"]), _encode(event | {"sequence_number": number}))
        for number, event in enumerate(events)
    ]
    last = b'{"type":"%b","response":%b,"sequence_number":%d}'
    frames.append(_frame(COMPLETED, last % (COMPLETED.encode(), end, len(events))))
    return b"".join(frames)


def _frame(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def _take_apart(whole: Object) -> Iterator[Object]:
    """Yield all events of an answer but the last.

    Raises:
        ValueError: It has not the right form, or a part that nobody knows.
    """
    begun = whole | {"status": "in_progress", "output": []}
    begun |= {name: None for name in _UNKNOWN_AT_FIRST if name in whole}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(as_objects(whole.get("output"))):
        events = _ITEMS.get(str(item.get("type")))
        if events is None or not isinstance(item.get("id"), str):
            raise ValueError("an item of an unknown form")
        yield from events(item, {"output_index": index}, {"item_id": item["id"]})


def _message_events(item: Object, place: Object, name: Object) -> Iterator[Object]:
    yield _added(item, place, content=[])
    yield from _content_events(item, place | name)
    yield _done(item, place)


def _reasoning_events(item: Object, place: Object, name: Object) -> Iterator[Object]:
    empty: Object = {n: [] for n in ("summary", "content") if isinstance(item.get(n), list)}
    if item.get("encrypted_content") is not None:
        empty["encrypted_content"] = None  # of all that was thought, so it comes with the end
    yield _added(item, place, **empty)
    kind = "response.reasoning_summary"
    for index, part in enumerate(as_objects(item.get("summary"))):
        if part.get("type") != "summary_text":
            raise ValueError("a summary of an unknown form")
        at = place | name | {"summary_index": index}
        yield {"type": f"{kind}_part.added", "part": part | {"text": ""}} | at
        yield from _text_events(f"{kind}_text", "text", part.get("text"), at)
        yield {"type": f"{kind}_part.done", "part": part} | at
    yield from _content_events(item, place | name)
    yield _done(item, place)


def _call_events(item: Object, place: Object, name: Object) -> Iterator[Object]:
    member, kind = _CALLS[str(item["type"])]
    yield _added(item, place, **{member: ""})
    for event in _text_events(kind, member, item.get(member), place | name):
        is_named = event["type"] == "response.function_call_arguments.done"
        yield event | {"name": item.get("name")} if is_named else event
    yield _done(item, place)


_ITEMS: dict[str, Callable[[Object, Object, Object], Iterator[Object]]] = {
    "message": _message_events,
    "reasoning": _reasoning_events,
    "function_call": _call_events,
    "custom_tool_call": _call_events,
}


def _added(item: Object, place: Object, **empty: object) -> Object:
    begun = item | empty
    if item.get("status") is not None:
        begun["status"] = "in_progress"
    return {"type": "response.output_item.added", "item": begun} | place


def _done(item: Object, place: Object) -> Object:
    return {"type": "response.output_item.done", "item": item} | place


def _content_events(item: Object, place: Object) -> Iterator[Object]:
    for index, part in enumerate(as_objects(item.get("content"))):
        member, kind = _TEXTS.get(str(part.get("type")), ("", ""))
        if not kind or part.get("logprobs"):
            raise ValueError("a content part of an unknown form")
        at = place | {"content_index": index}
        empty: Object = {n: [] for n in ("annotations",) if part.get(n)} | {member: ""}
        also: Object = {"logprobs": []} if kind == "response.output_text" else {}
        yield {"type": "response.content_part.added", "part": part | empty} | at
        text = list(_text_events(kind, member, part.get(member), at | also))
        yield from text[:-1]
        for number, one in enumerate(as_objects(part.get("annotations"))):
            added = {"type": f"{kind}.annotation.added", "annotation": one}
            yield added | at | {"annotation_index": number}
        yield text[-1]
        yield {"type": "response.content_part.done", "part": part} | at


def _text_events(kind: str, member: str, text: object, place: Object) -> Iterator[Object]:
    if not isinstance(text, str):
        raise ValueError("a text is none")  # noqa: TRY004 - of the body, not of an argument
    if text:
        yield {"type": f"{kind}.delta", "delta": text} | place
    yield {"type": f"{kind}.done", member: text} | place
