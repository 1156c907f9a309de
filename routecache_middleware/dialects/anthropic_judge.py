"""Whether an Anthropic message, JSON or stream, is complete and worth keeping.

Typed decoding does most of the work: what does not have the API's form is not complete, and what is
not looked at (thinking, citations, vendor extras) is stepped over without being built.
"""

from collections.abc import Callable

import msgspec

from routecache_middleware.core.dialect import Judgement
from routecache_middleware.core.models import DiscardReason
from routecache_middleware.core.sse import EventSplitter, ServerSentEvent

__all__ = ["DONE", "judge_json", "judge_stream"]

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",  # the prompt decides of it, as with max_tokens
    "tool_use": "tool_calls",
}
"""Anthropic's stop reasons in the words of ``CachePolicy.finish_reasons``; others keep theirs."""

_NEVER = ("refusal", "pause_turn")
_THOUGHTS = ("thinking", "redacted_thinking")
DONE = b"[DONE]"
"""No part of this API: gateways in front of OpenAI's may keep it, and Anthropic's SDKs skip it."""


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | float | None = None
    cache_creation_input_tokens: int | float | None = None
    cache_read_input_tokens: int | float | None = None
    output_tokens: int | float | None = None


class _Block(msgspec.Struct, gc=False):
    type: str
    text: str | None = None
    input: dict[str, msgspec.Raw] | None = None


class _Message(msgspec.Struct, gc=False):
    type: str | None = None
    model: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    container: object = None
    usage: _Usage | None = None
    error: object = None


class _Delta(msgspec.Struct, gc=False):
    """The delta of a block or of the message."""

    type: str | None = None
    text: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    container: object = None


class _Event(msgspec.Struct, gc=False):
    type: str
    index: int | None = None
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: object = None


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_check_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_DOUBTS = (msgspec.MsgspecError, ValueError, RecursionError)


class _Answer:
    """What has been seen of an answer."""

    __slots__ = ("has_output", "has_server_tools", "has_tool_calls", "model", "reason", "usages")

    def __init__(self) -> None:
        self.model = ""
        self.reason = ""
        self.usages: list[_Usage] = []  # the later ones count, member by member
        self.has_output = False
        self.has_tool_calls = False
        self.has_server_tools = False

    def add_message(self, message: _Message) -> None:
        self.model = message.model or ""
        self.has_server_tools |= message.container is not None
        if message.usage is not None:
            self.usages.append(message.usage)

    def add_block(self, block: _Block) -> None:
        if block.type == "text":
            self.has_output |= bool(block.text)
        elif block.type == "tool_use":
            if block.input is None:
                raise ValueError("a tool call without input")
            self.has_tool_calls = True
        elif block.type.endswith(("tool_use", "tool_result")):  # the server's own, or MCP's
            self.has_server_tools = True
        elif block.type not in _THOUGHTS:
            self.has_output = True

    def judgement(self, discard: DiscardReason | None, *, has_usage: bool) -> Judgement:
        return Judgement(
            discard=discard or self._problem(),
            model=self.model,
            has_usage=has_usage,
            has_tool_calls=self.has_tool_calls,
            finish_reasons=(_FINISH.get(self.reason, self.reason),),
            input_tokens=self._tokens("input_tokens")
            + self._tokens("cache_creation_input_tokens")
            + self._tokens("cache_read_input_tokens"),
            output_tokens=self._tokens("output_tokens"),
        )

    def _problem(self) -> DiscardReason | None:
        if not self.reason:
            return DiscardReason.INCOMPLETE
        if self.reason in _NEVER:
            return DiscardReason.FINISH_REASON
        if self.has_server_tools:
            return DiscardReason.TOOL_CALLS
        if not (self.has_output or self.has_tool_calls):
            return DiscardReason.EMPTY
        return None

    def _tokens(self, name: str) -> int:
        counts = [getattr(usage, name) for usage in self.usages]
        return int(next((count for count in reversed(counts) if count is not None), 0))


class _Stream:
    """Follows the events of one stream.

    A message is opened once, then come its blocks, each opened and closed, then the reason why it
    stopped, then its end, and nothing else after that. Events of other types, which Anthropic may
    add at any time, are passed over.
    """

    __slots__ = ("answer", "inputs", "is_ended", "is_started", "open", "seen")

    def __init__(self) -> None:
        self.answer = _Answer()
        self.is_started = False
        self.is_ended = False
        self.seen: set[int] = set()
        self.open: set[int] = set()
        self.inputs: dict[int, list[str]] = {}  # fragments of the input of tool calls, by block

    def add(self, event: _Event) -> None:
        """Follow an event.

        Raises:
            ValueError: It is out of place.
        """
        follow = _FOLLOW.get(event.type)
        if follow is None:
            return
        if self.is_ended or self.is_started is (event.type == "message_start"):
            raise ValueError("an event before the start, after the end, or a second start")
        follow(self, event)

    def start(self, event: _Event) -> None:
        if event.message is None:
            raise ValueError("a start without a message")
        self.is_started = True
        self.answer.add_message(event.message)

    def start_block(self, event: _Event) -> None:
        if event.index is None or event.index in self.seen or event.content_block is None:
            raise ValueError("a block that cannot be placed")
        self.seen.add(event.index)
        self.open.add(event.index)
        self.answer.add_block(event.content_block)

    def add_to_block(self, event: _Event) -> None:
        if event.index is None or event.index not in self.open or event.delta is None:
            raise ValueError("a delta of no block")
        if event.delta.text:
            self.answer.has_output = True
        if event.delta.partial_json is not None:
            self.inputs.setdefault(event.index, []).append(event.delta.partial_json)

    def stop_block(self, event: _Event) -> None:
        if event.index not in self.open:
            raise ValueError("the end of no block")
        self.open.remove(event.index)
        text = "".join(self.inputs.get(event.index, ()))
        if text:  # there is none for a tool without parameters
            _check_object(text)

    def change(self, event: _Event) -> None:
        if event.delta is not None:
            self.answer.reason = event.delta.stop_reason or self.answer.reason
            self.answer.has_server_tools |= event.delta.container is not None
        if event.usage is not None:
            self.answer.usages.append(event.usage)

    def stop(self, _: _Event) -> None:
        if self.open:
            raise ValueError("the end of a message inside of a block")
        self.is_ended = True


_FOLLOW: dict[str, Callable[[_Stream, _Event], None]] = {
    "message_start": _Stream.start,
    "content_block_start": _Stream.start_block,
    "content_block_delta": _Stream.add_to_block,
    "content_block_stop": _Stream.stop_block,
    "message_delta": _Stream.change,
    "message_stop": _Stream.stop,
}


def judge_json(body: bytes) -> Judgement:
    """Judge a JSON answer; never raises."""
    answer = _Answer()
    discard = None
    try:
        message = _decode_message(body)
        if message.error is not None or message.type == "error":
            discard = DiscardReason.ERROR_BODY
        answer.add_message(message)
        answer.reason = message.stop_reason or ""
        for block in message.content or ():
            answer.add_block(block)
    except _DOUBTS:
        discard = DiscardReason.INCOMPLETE
    return answer.judgement(discard, has_usage=bool(answer.usages))


def judge_stream(body: bytes) -> Judgement:
    """Judge an event stream; never raises.

    Complete is only what ends with one ``message_stop``, and then nothing but pings and comments.
    """
    splitter = EventSplitter()
    events = splitter.feed(body)
    stream = _Stream()
    discard = _follow(stream, events)
    if discard is None and (splitter.has_partial or not stream.is_ended):
        discard = DiscardReason.INCOMPLETE
    return stream.answer.judgement(discard, has_usage=len(stream.answer.usages) > 1)


def _follow(stream: _Stream, events: list[ServerSentEvent]) -> DiscardReason | None:
    """Decode events and follow them; say why to stop at one."""
    if any(event.event == "error" for event in events):
        return DiscardReason.ERROR_BODY
    try:
        for sent in events:
            if sent.event == "ping" or (sent.data == DONE and stream.is_ended):
                continue
            event = _decode_event(sent.data)
            if event.error is not None or event.type == "error":
                return DiscardReason.ERROR_BODY
            stream.add(event)
    except _DOUBTS:
        return DiscardReason.INCOMPLETE
    return None
