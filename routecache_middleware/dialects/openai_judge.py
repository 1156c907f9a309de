"""Whether an OpenAI completion, chat or legacy, JSON or stream, is complete and worth keeping.

Typed decoding does most of the work: what does not have the API's form is not complete, and what is
not looked at (logprobs, vendor extras) is stepped over without being built.
"""

from collections.abc import Iterable

import msgspec

from routecache_middleware.core.dialect import Judgement
from routecache_middleware.core.models import DiscardReason
from routecache_middleware.core.sse import EventSplitter

__all__ = ["DONE", "judge_json", "judge_stream"]

DONE = b"[DONE]"


class _Function(msgspec.Struct, gc=False):
    arguments: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    function: _Function | None = None


class _Message(msgspec.Struct, gc=False):
    """A message, or the delta of one."""

    content: str | list[object] | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    finish_reason: str | None = None
    text: str | None = None  # of legacy completions, which have no message
    message: _Message | None = None
    delta: _Message | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None


class _Completion(msgspec.Struct, gc=False):
    """A completion, or one chunk of it."""

    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: object = None


_decode = msgspec.json.Decoder(_Completion).decode
_check_json = msgspec.json.Decoder(msgspec.Raw).decode


class _Answer:
    """What has been seen of one choice."""

    __slots__ = ("arguments", "finish_reason", "has_output", "has_refusal", "has_tool_calls")

    def __init__(self) -> None:
        self.finish_reason = ""
        self.has_output = False
        self.has_refusal = False
        self.has_tool_calls = False
        self.arguments: dict[int, list[str]] = {}  # by index of the tool call; -1: function_call

    def add(self, message: _Message) -> None:
        if message.content:
            self.has_output = True
        if message.refusal:
            self.has_refusal = True
        if message.tool_calls:
            self.has_tool_calls = True
            for position, call in enumerate(message.tool_calls):
                self._add_call(position if call.index is None else call.index, call.function)
        if message.function_call:
            self.has_tool_calls = True
            self._add_call(-1, message.function_call)

    def _add_call(self, index: int, function: _Function | None) -> None:
        if function is not None:  # a custom tool takes free text
            self.arguments.setdefault(index, []).append(function.arguments or "")

    @property
    def problem(self) -> DiscardReason | None:
        if not self.finish_reason:
            return DiscardReason.INCOMPLETE
        if self.has_refusal:
            return DiscardReason.FINISH_REASON
        for parts in self.arguments.values():
            if not _is_json("".join(parts)):
                return DiscardReason.INCOMPLETE
        if not (self.has_output or self.has_tool_calls):
            return DiscardReason.EMPTY
        return None


class _Reader:
    """Collects completions, one or many, into a judgement."""

    __slots__ = ("answers", "is_legacy", "model", "usage")

    def __init__(self, *, is_legacy: bool) -> None:
        self.is_legacy = is_legacy
        self.answers: dict[int, _Answer] = {}
        self.model = ""
        self.usage: _Usage | None = None

    def add(self, completion: _Completion) -> None:
        self.model = completion.model or self.model
        self.usage = completion.usage or self.usage
        for choice in completion.choices or ():
            answer = self.answers.get(choice.index)
            if answer is None:
                answer = self.answers[choice.index] = _Answer()
            if choice.finish_reason:
                answer.finish_reason = choice.finish_reason
            if self.is_legacy:
                answer.has_output = answer.has_output or bool(choice.text)
                continue
            message = choice.delta or choice.message
            if message is not None:
                answer.add(message)

    def judgement(self, discard: DiscardReason | None, choices: int) -> Judgement:
        indexes = sorted(self.answers)
        answers = [self.answers[index] for index in indexes]
        usage = self.usage or _NO_USAGE
        return Judgement(
            discard=discard or _problem(indexes, answers, choices),
            model=self.model,
            has_usage=self.usage is not None,
            has_tool_calls=True in [answer.has_tool_calls for answer in answers],
            finish_reasons=tuple([answer.finish_reason for answer in answers]),
            input_tokens=int(usage.prompt_tokens or 0),
            output_tokens=int(usage.completion_tokens or 0),
        )


def _problem(indexes: list[int], answers: list[_Answer], choices: int) -> DiscardReason | None:
    if not answers:
        return DiscardReason.EMPTY
    if len(indexes) != choices or indexes[0] != 0 or indexes[-1] != choices - 1:
        return DiscardReason.INCOMPLETE
    for answer in answers:
        problem = answer.problem
        if problem is not None:
            return problem
    return None


_NO_USAGE = _Usage()


def judge_json(body: bytes, choices: int, *, is_legacy: bool = False) -> Judgement:
    """Judge a JSON answer to a request for ``choices`` answers; never raises."""
    reader = _Reader(is_legacy=is_legacy)
    return reader.judgement(_read(reader, [body]), choices)


def judge_stream(body: bytes, choices: int, *, is_legacy: bool = False) -> Judgement:
    """Judge an event stream that answers a request for ``choices`` answers; never raises.

    Complete is only what ends with ``[DONE]`` and then nothing but comments: an upstream that
    breaks off may still have sent a finish reason.
    """
    splitter = EventSplitter()
    events = splitter.feed(body)
    reader = _Reader(is_legacy=is_legacy)
    if any(event.event == "error" for event in events):
        return reader.judgement(DiscardReason.ERROR_BODY, choices)
    is_ended = bool(events) and events[-1].data == DONE and not splitter.has_partial
    data = (event.data for event in (events[:-1] if is_ended else events))
    discard = _read(reader, data)
    if discard is None and not is_ended:
        discard = DiscardReason.INCOMPLETE
    return reader.judgement(discard, choices)


def _read(reader: _Reader, documents: Iterable[bytes]) -> DiscardReason | None:
    """Decode documents into the reader; say why to stop at one."""
    try:
        for document in documents:
            completion = _decode(document)
            if completion.error is not None:
                return DiscardReason.ERROR_BODY
            reader.add(completion)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return DiscardReason.INCOMPLETE
    return None


def _is_json(text: str) -> bool:
    try:
        _check_json(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True
