"""OpenAI chat completions: from JSON to stream, from stream to JSON, from stream to stream.

Nothing is invented and nothing is lost: ids, times, fingerprints, usage, log probabilities and
fields nobody has heard of yet survive, so that ``aggregate(replay(x)) == x`` for every complete
JSON answer. What cannot be made from what is there (usage that a stream never carried, vendor
lists that come in fragments) is None.
"""

from collections.abc import Iterable, Iterator

import msgspec

from routecache_middleware.core.sse import split_events
from routecache_middleware.dialects.openai_judge import DONE
from routecache_middleware.dialects.openai_merge import (
    LABELS,
    Choice,
    Object,
    as_object,
    as_objects,
    index_of,
    put,
    without,
)

__all__ = ["aggregate", "replay", "reshape"]

_EVERY_CHUNK = ("id", "created", "model", "service_tier", "system_fingerprint")
_LAST_IN_MESSAGE = {"content": 1, "refusal": 2, "function_call": 3}  # reasoning comes before them
_DOUBTS = (msgspec.MsgspecError, ValueError, RecursionError)  # the body has not the right form
_decode = msgspec.json.Decoder(Object).decode
_encode = msgspec.json.Encoder().encode


def aggregate(body: bytes) -> bytes | None:
    """Return the JSON answer that a stream adds up to.

    None when it carries no usage, which a live JSON answer always has, or cannot be added up.
    """
    try:
        chunks = _chunks(body)
        carrier = _usage_carrier(chunks)
        if carrier is None:
            return None
        whole: Object = {}
        choices: dict[int, Choice] = {}
        for chunk in chunks:
            for name, value in chunk.items():
                if name not in ("choices", "obfuscation", "usage"):
                    put(whole, name, value)
            for part in as_objects(chunk.get("choices")):
                choices.setdefault(index_of(part, 0), Choice()).add(part)
    except _DOUBTS:
        return None
    whole["object"] = "chat.completion"
    whole["choices"] = [choices[index].finished(index) for index in sorted(choices)]
    whole["usage"] = carrier["usage"]
    return _encode(whole)


def replay(body: bytes, *, with_usage: bool = False) -> bytes | None:
    """Return a stream that adds up to a JSON answer.

    Per choice a chunk with the role, one with each part of the message, and one with the finish
    reason; then the usage if asked for. All log probabilities of a choice are in one chunk.

    None when usage is asked for and not there, or the body has not the right form.
    """
    try:
        whole = _decode(body)
        usage = whole.get("usage")
        if with_usage and usage is None:
            return None
        parts = [
            part for choice in as_objects(whole.get("choices")) for part in _take_apart(choice)
        ]
    except _DOUBTS:
        return None
    head = {name: whole[name] for name in _EVERY_CHUNK if name in whole}
    head["object"] = "chat.completion.chunk"
    # What else there is at the top can be long, so only the first chunk carries it.
    first: Object = head | {n: v for n, v in whole.items() if n not in (*head, "choices", "usage")}
    chunks: list[Object] = [(head if i else first) | {"choices": [p]} for i, p in enumerate(parts)]
    return _stream(_with_usage(chunks, head, usage) if with_usage else chunks)


def reshape(body: bytes, *, with_usage: bool = False) -> bytes | None:
    """Return a stream with or without the usage that it carries, in the places OpenAI puts it.

    None when usage is asked for and not there, or the body has not the right form.
    """
    try:
        chunks = _chunks(body)
        carrier = _usage_carrier(chunks)
        if with_usage and carrier is None:
            return None
        # A chunk without choices may also carry something else, such as Azure's prompt filter.
        kept = [c for c in chunks if as_objects(c.get("choices")) or c.get("usage") is None]
    except _DOUBTS:
        return None
    bare = [without(chunk, "usage", "obfuscation") for chunk in kept]
    if not with_usage or carrier is None:
        return _stream(bare)
    return _stream(_with_usage(bare, without(carrier, "usage", "obfuscation"), carrier["usage"]))


def _take_apart(choice: Object) -> Iterator[Object]:
    """Yield what the chunks have of one choice of a JSON answer."""
    logprobs = {name: choice[name] for name in ("logprobs",) if name in choice}
    common: Object = {"index": index_of(choice, 0)} | dict.fromkeys(logprobs)
    for delta in _deltas(as_object(choice.get("message"))):
        part = common | {"delta": delta, "finish_reason": None}
        if delta.get("content"):  # all log probabilities go with the text, or else with the end
            part |= logprobs
            logprobs = {}
        yield part
    yield common | {"delta": {}} | without(choice, "index", "message", "logprobs") | logprobs


def _deltas(message: Object) -> Iterator[Object]:
    """Yield an opening with the role and all short members, then each text, then each call."""
    alone = {name: value for name, value in message.items() if _stands_alone(name, value)}
    opening = without(message, *alone)
    if "content" in alone:
        opening["content"] = ""  # as OpenAI does it
    yield opening
    calls = as_objects(alone.pop("tool_calls", None))
    for name in sorted(alone, key=lambda name: _LAST_IN_MESSAGE.get(name, 0)):
        yield {name: alone[name]}
    for index, call in enumerate(calls):
        yield {"tool_calls": [{"index": index} | call]}


def _stands_alone(name: str, value: object) -> bool:
    is_text = isinstance(value, str) and name not in LABELS
    return bool(value) and (is_text or name in ("tool_calls", "function_call"))


def _with_usage(chunks: Iterable[Object], head: Object, usage: object) -> Iterator[Object]:
    for chunk in chunks:
        yield chunk | {"usage": None}
    yield head | {"choices": [], "usage": usage}


def _stream(chunks: Iterable[Object]) -> bytes:
    frames = [b"data: " + _encode(chunk) for chunk in chunks]
    return b"\n\n".join([*frames, b"data: " + DONE, b""])


def _chunks(body: bytes) -> list[Object]:
    return [_decode(event.data) for event in split_events(body) if event.data != DONE]


def _usage_carrier(chunks: list[Object]) -> Object | None:
    """Return the last chunk that carries usage."""
    return next((chunk for chunk in reversed(chunks) if chunk.get("usage") is not None), None)
