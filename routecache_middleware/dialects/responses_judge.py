"""Whether an answer of OpenAI's Responses API, JSON or stream, is complete and worth keeping.

A stream ends with the whole answer, so judging one is finding that end and judging what it holds.
"""

import msgspec

from routecache_middleware.core.dialect import Judgement
from routecache_middleware.core.models import DiscardReason
from routecache_middleware.core.sse import EventSplitter, ServerSentEvent

__all__ = ["COMPLETED", "DONE", "judge_json", "judge_stream"]

COMPLETED = "response.completed"
DONE = b"[DONE]"
"""No part of this API, but some gateways send it after every stream; OpenAI's SDK stops at it."""

_ERRORS = ("error", "response.failed")
_OTHER_ENDS = ("response.incomplete", "response.cancelled")


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None


class _Item(msgspec.Struct, gc=False):
    type: str
    status: str | None = None
    content: list[_Part] | None = None
    arguments: str | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | float | None = None
    output_tokens: int | float | None = None


class _Response(msgspec.Struct, gc=False):
    model: str | None = None
    status: str | None = None
    error: object = None
    incomplete_details: object = None
    output: list[_Item] | None = None
    usage: _Usage | None = None


_NOTHING = msgspec.Raw()


class _Event(msgspec.Struct, gc=False):
    type: str
    error: object = None
    response: msgspec.Raw = _NOTHING


_decode_response = msgspec.json.Decoder(_Response).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_check_json = msgspec.json.Decoder(msgspec.Raw).decode
_DOUBTS = (msgspec.MsgspecError, ValueError, RecursionError)
_NO_USAGE = _Usage()


def judge_json(body: bytes | msgspec.Raw) -> Judgement:
    """Judge a JSON answer; never raises."""
    try:
        response = _decode_response(body)
        calls = [item for item in response.output or () if item.type.endswith("_call")]
        problem = _problem(response)
    except _DOUBTS:
        return Judgement(discard=DiscardReason.INCOMPLETE)
    usage = response.usage or _NO_USAGE
    return Judgement(
        discard=problem,
        model=response.model or "",
        has_usage=response.usage is not None,
        has_tool_calls=bool(calls),
        finish_reasons=("tool_calls" if calls else "stop",),
        input_tokens=int(usage.input_tokens or 0),
        output_tokens=int(usage.output_tokens or 0),
    )


def judge_stream(body: bytes) -> Judgement:
    """Judge an event stream; never raises.

    Complete is only what ends with one ``response.completed``, and then nothing but comments.
    """
    splitter = EventSplitter()
    events = splitter.feed(body)
    while events and events[-1].data == DONE:
        events.pop()
    try:
        answer = _last(events)
    except _DOUBTS:
        return Judgement(discard=DiscardReason.INCOMPLETE)
    if isinstance(answer, DiscardReason):
        return Judgement(discard=answer)
    if splitter.has_partial:
        return Judgement(discard=DiscardReason.INCOMPLETE)
    return judge_json(answer)


def _last(events: list[ServerSentEvent]) -> msgspec.Raw | DiscardReason:
    """Return the answer that the last event of a stream holds, or what is wrong with the stream.

    Raises:
        ValueError: An event is not of this API.
    """
    answer = None
    for sent in events:
        event = _decode_event(sent.data)
        if event.error is not None or event.type in _ERRORS or sent.event == "error":
            return DiscardReason.ERROR_BODY
        if answer is not None or event.type in _OTHER_ENDS:
            return DiscardReason.INCOMPLETE
        if event.type == COMPLETED:
            answer = event.response
    return DiscardReason.INCOMPLETE if answer is None else answer


def _problem(response: _Response) -> DiscardReason | None:
    if response.error is not None:
        return DiscardReason.ERROR_BODY
    if response.status != "completed" or response.incomplete_details is not None:
        return DiscardReason.INCOMPLETE
    has_output = False
    for item in response.output or ():
        if item.status not in (None, "completed"):
            return DiscardReason.INCOMPLETE
        if item.type == "function_call":
            _check_json((item.arguments or "").encode())
        parts = item.content or ()
        if any(part.type == "refusal" for part in parts):
            return DiscardReason.FINISH_REASON
        has_output |= item.type not in ("message", "reasoning") or (
            item.type == "message" and any(part.text for part in parts)
        )
    return None if has_output else DiscardReason.EMPTY
