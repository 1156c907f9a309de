"""Anthropic messages: from JSON to stream and from stream to JSON.

Nothing is invented and nothing is lost: ids, signatures, citations, usage and members nobody has
heard of yet survive, so that ``aggregate(replay(x)) == x`` for every complete JSON answer made of
text, thinking and tool calls. What a stream would have for a block of another type is not known, so
such an answer is None: a miss.

Only one number has no original: how many output tokens the first event of a stream counts. It is 1,
as in Anthropic's documentation, and the last event has the total, as always.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from routecache_middleware.core.sse import split_events
from routecache_middleware.dialects.anthropic_judge import DONE
from routecache_middleware.dialects.openai_merge import Object, as_object, as_objects, without

__all__ = ["aggregate", "replay"]

_AT_THE_END = ("stop_reason", "stop_sequence", "stop_details", "container")
_TOTALS = (  # cumulative, so the last event has them ...
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
)
_LATE_TOTALS = (  # ... and these are not known before it
    "output_tokens_details",
    "server_tool_use",
    "iterations",
    "fallback_credit",
)
_PIECES = {
    ("text", "text_delta"): "text",
    ("text", "citations_delta"): "citation",
    ("thinking", "thinking_delta"): "thinking",
    ("thinking", "signature_delta"): "signature",
    ("tool_use", "input_json_delta"): "partial_json",
}
"""Types of a block and of its delta, and the member of the delta that adds to the block."""

_MEMBERS = {
    "message_start": {"type", "message"},
    "content_block_start": {"type", "index", "content_block"},
    "content_block_delta": {"type", "index", "delta"},
    "content_block_stop": {"type", "index"},
    "message_delta": {
        "type",
        "delta",
        "usage",
        "context_management",
        "input_transformations",
    },
    "message_stop": {"type"},
    "ping": {"type"},
}
"""What is known of events: where anything else belongs in a JSON answer nobody can say."""

_DOUBTS = (msgspec.MsgspecError, ValueError, RecursionError)  # the body has not the right form
_decode = msgspec.json.Decoder(Object).decode
_encode = msgspec.json.Encoder().encode


def aggregate(body: bytes) -> bytes | None:
    """Return the JSON answer that a stream adds up to; None when it cannot be added up."""
    whole = _Whole()
    try:
        for sent in split_events(body):
            if sent.event != "ping" and sent.data != DONE:
                whole.add(_decode(sent.data))
        return _encode(whole.finished())
    except _DOUBTS:
        return None


def replay(body: bytes) -> bytes | None:
    """Return a stream that adds up to a JSON answer; None when that cannot be made.

    A block is opened empty, gets each of its texts in one delta, and is closed.
    """
    try:
        events = list(_take_apart(_decode(body)))
        return b"".join(
            b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), _encode(event))
            for event in events
        )
    except _DOUBTS:
        return None


class _Block:
    """One block of a JSON answer, growing delta by delta."""

    __slots__ = ("fields", "pieces")

    def __init__(self, fields: Object) -> None:
        self.fields = fields
        self.pieces: dict[str, list[object]] = {}

    def add(self, delta: Object) -> None:
        """Merge a delta.

        Raises:
            ValueError: Nobody knows how.
        """
        member = _PIECES.get((str(self.fields.get("type")), str(delta.get("type"))))
        if member is None or delta.keys() != {"type", member}:
            raise ValueError("a delta of an unknown form")
        self.pieces.setdefault(member, []).append(delta[member])

    def finished(self) -> Object:
        """Return the block as a JSON answer has it.

        Raises:
            ValueError: The pieces do not fit together.
        """
        for member, pieces in self.pieces.items():
            if member == "citation":
                have = self.fields.get("citations")
                self.fields["citations"] = [*have, *pieces] if isinstance(have, list) else pieces
            elif member == "partial_json":
                text = _joined("", pieces)
                self.fields["input"] = _decode(text) if text else self.fields.get("input")
            elif member == "signature" and (self.fields.get(member) or len(pieces) > 1):
                raise ValueError("a signature in pieces")  # the SDKs take the last for the whole
            else:
                self.fields[member] = _joined(self.fields.get(member), pieces)
        return self.fields


class _Whole:
    """A JSON answer, growing event by event."""

    __slots__ = ("blocks", "has_total", "is_ended", "message")

    def __init__(self) -> None:
        self.message: Object = {}
        self.has_total = False  # the start counts only what there was by then
        self.blocks: list[_Block] = []
        self.is_ended = False

    def add(self, event: Object) -> None:
        """Merge an event.

        Raises:
            ValueError: Nobody knows how, or it is out of place.
        """
        kind = str(event.get("type"))
        members = _MEMBERS.get(kind)
        if members is None or not event.keys() <= members:
            raise ValueError("an event of an unknown form")
        if kind == "ping":
            return
        if self.is_ended or bool(self.message) is (kind == "message_start"):
            raise ValueError("an event before the start, after the end, or a second start")
        _ADD[kind](self, event)

    def start(self, event: Object) -> None:
        self.message = as_object(event.get("message"))

    def start_block(self, event: Object) -> None:
        if event.get("index") != len(self.blocks):
            raise ValueError("a block out of order")
        self.blocks.append(_Block(as_object(event.get("content_block"))))

    def add_to_block(self, event: Object) -> None:
        index = event.get("index")
        if not isinstance(index, int) or not 0 <= index < len(self.blocks):
            raise ValueError("a delta of no block")
        self.blocks[index].add(as_object(event.get("delta")))

    def change(self, event: Object) -> None:
        total = as_object(event.get("usage"))
        self.has_total |= total.get("output_tokens") is not None
        usage = self.message["usage"] = as_object(self.message.get("usage"))
        _overlay(usage, total)
        _overlay(self.message, as_object(event.get("delta")))
        _overlay(self.message, without(event, "type", "delta", "usage"))

    def stop(self, _: Object) -> None:
        self.is_ended = True

    def finished(self) -> Object:
        """Return the answer.

        Raises:
            ValueError: It has not come to its end, or nothing tells what it cost.
        """
        if not (self.is_ended and self.has_total):
            raise ValueError("the stream is not complete")
        return self.message | {"content": [block.finished() for block in self.blocks]}


_ADD: dict[str, Callable[[_Whole, Object], None]] = {
    "message_start": _Whole.start,
    "content_block_start": _Whole.start_block,
    "content_block_delta": _Whole.add_to_block,
    "content_block_stop": lambda _, __: None,
    "message_delta": _Whole.change,
    "message_stop": _Whole.stop,
}


def _overlay(target: Object, source: Object) -> None:
    """Set members; null replaces nothing."""
    for name, value in source.items():
        if value is not None or name not in target:
            target[name] = value


def _joined(start: object, pieces: Iterable[object]) -> str:
    texts = [start or "", *pieces]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a text is none")
    return "".join(map(str, texts))


def _take_apart(whole: Object) -> Iterator[Object]:
    """Yield the events of a JSON answer.

    Raises:
        ValueError: It has not the right form, or a block of a type that nobody knows.
    """
    usage = as_object(whole.get("usage"))
    total = usage.get("output_tokens")
    if not isinstance(total, int):
        raise ValueError("an answer without usage")  # noqa: TRY004 - of the body, not of an argument
    late = {n: v for n, v in usage.items() if n in _LATE_TOTALS and v is not None}
    early = without(usage, *late) | {"output_tokens": min(1, total)}
    # Clients find null at the start where they find a value at the end.
    ending = [name for name in (*_AT_THE_END, "context_management") if name in whole]
    opening = whole | dict.fromkeys(ending) | {"content": [], "usage": early}
    yield {"type": "message_start", "message": opening}
    for index, block in enumerate(as_objects(whole.get("content"))):
        yield from _block_events(index, block)
    last: Object = {"type": "message_delta", "delta": {}}
    last["delta"] = {n: whole[n] for n in ending if n != "context_management"}
    last["usage"] = {n: usage[n] for n in _TOTALS if usage.get(n) is not None} | late
    if whole.get("context_management") is not None:
        last["context_management"] = whole["context_management"]
    yield last
    yield {"type": "message_stop"}


def _block_events(index: int, block: Object) -> Iterator[Object]:
    opening, deltas = _opened(block)
    yield {"type": "content_block_start", "index": index, "content_block": opening}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _opened(block: Object) -> tuple[Object, list[Object]]:
    """Return a block as it is opened, and what then adds to it."""
    match block:
        case {"type": "text", "text": str(text)}:
            opening: Object = block | {"text": ""}
            deltas: list[Object] = [{"type": "text_delta", "text": text}] if text else []
            citations = block.get("citations")
            if isinstance(citations, list) and citations:
                opening["citations"] = []
                deltas += [{"type": "citations_delta", "citation": one} for one in citations]
            return opening, deltas
        case {"type": "thinking", "thinking": str(text)}:
            deltas = [{"type": "thinking_delta", "thinking": text}] if text else []
            opening = block | {"thinking": ""}
            if isinstance(block.get("signature"), str):
                opening["signature"] = ""
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            return opening, deltas
        case {"type": "tool_use", "input": dict(arguments)}:
            # An empty fragment comes first, and without parameters nothing else.
            texts = ["", _encode(arguments).decode()] if arguments else [""]
            deltas = [{"type": "input_json_delta", "partial_json": text} for text in texts]
            return block | {"input": {}}, deltas
        case {"type": "redacted_thinking"}:
            return block, []
        case _:
            raise ValueError("a block of an unknown type")
