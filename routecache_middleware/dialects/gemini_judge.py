"""Whether an answer of Gemini's, in any of its forms, is complete and worth keeping.

A stream has no mark at its end: it is over when every candidate has a reason why it finished, and
nothing comes for it after that. (Old models sent one with each chunk: such streams are not kept.)
"""

import msgspec

from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.core.models import DiscardReason, ResponseMode
from routecache_middleware.core.sse import EventSplitter

__all__ = ["chunks_of", "judge"]

_FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}
"""The only reasons to keep an answer, in the words of ``CachePolicy.finish_reasons``."""

_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


class _Part(msgspec.Struct, gc=False, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    function_call: dict[str, object] | None = None
    inline_data: dict[str, object] | None = None
    # What the server's own tools leave.
    executable_code: object = None
    code_execution_result: object = None
    tool_call: object = None
    tool_response: object = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    index: int = 0
    content: _Content | None = None
    finish_reason: str | None = None
    grounding_metadata: object = None
    url_context_metadata: object = None
    continuation_token: object = None


class _Usage(msgspec.Struct, gc=False, rename="camel"):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None


class _Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: object = None


class _Chunk(msgspec.Struct, gc=False, rename="camel"):
    """An answer, or one chunk of it."""

    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Usage | None = None
    model_version: str | None = None
    error: object = None


_decode = msgspec.json.Decoder(_Chunk).decode
_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Answer:
    """What has been seen of an answer."""

    __slots__ = (
        "choices",
        "has_output",
        "has_server_tools",
        "has_tool_calls",
        "is_refused",
        "model",
        "reasons",
        "usage",
    )

    def __init__(self, choices: int) -> None:
        self.choices = choices
        self.reasons: dict[int, str] = {}
        self.model = ""
        self.usage: _Usage | None = None
        self.is_refused = False
        self.has_output = False
        self.has_tool_calls = False
        self.has_server_tools = False

    def add(self, chunk: _Chunk) -> None:
        """Follow a chunk.

        Raises:
            ValueError: It is out of place.
        """
        self.model = chunk.model_version or self.model
        self.usage = chunk.usage_metadata or self.usage  # all of them count from the start
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason is not None:
            self.is_refused = True
        for candidate in chunk.candidates or ():
            self._add_candidate(candidate)

    def _add_candidate(self, candidate: _Candidate) -> None:
        if not 0 <= candidate.index < self.choices:
            raise ValueError("a candidate that nobody asked for")
        parts = (candidate.content and candidate.content.parts) or ()
        is_over = candidate.index in self.reasons
        if is_over and (candidate.finish_reason or any(part != _NOTHING for part in parts)):
            raise ValueError("more of a candidate that was finished")
        self.has_server_tools |= not (
            candidate.grounding_metadata is candidate.url_context_metadata is None
        )
        if candidate.continuation_token is not None:
            raise ValueError("a candidate that goes on elsewhere")
        for part in parts:
            self._add_part(part)
        if candidate.finish_reason:
            self.reasons[candidate.index] = candidate.finish_reason

    def _add_part(self, part: _Part) -> None:
        if part.function_call is not None:
            self.has_tool_calls = True
        elif not part.thought:
            self.has_output |= bool(part.text) or part.inline_data is not None
        self.has_server_tools |= not (
            part.executable_code
            is part.code_execution_result
            is part.tool_call
            is part.tool_response
            is None
        )

    def problem(self) -> DiscardReason | None:
        if self.is_refused or not _FINISH.keys() >= set(self.reasons.values()):
            return DiscardReason.FINISH_REASON
        if self.has_server_tools:
            return DiscardReason.TOOL_CALLS
        if len(self.reasons) != self.choices:
            return DiscardReason.INCOMPLETE
        if not (self.has_output or self.has_tool_calls):
            return DiscardReason.EMPTY
        return None

    def judgement(self, discard: DiscardReason | None) -> Judgement:
        usage = self.usage or _Usage()
        written = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        return Judgement(
            discard=discard or self.problem(),
            model=self.model,
            has_usage=self.usage is not None,
            has_tool_calls=self.has_tool_calls,
            finish_reasons=tuple(_FINISH.get(reason, reason) for reason in self.reasons.values()),
            is_ended=False,
            input_tokens=usage.prompt_token_count or 0,
            output_tokens=written,
        )


_NOTHING = _Part(text="")


def judge(body: bytes, mode: ResponseMode, request: ParsedRequest) -> Judgement:
    """Judge an answer in any form; never raises."""
    answer = _Answer(request.choices)
    discard = None
    try:
        if mode is ResponseMode.JSON and _is_array(body) != (request.shape == "array"):
            raise ValueError("JSON of the other form")  # noqa: TRY301 - as where it is read
        for raw in chunks_of(body, mode):
            chunk = _decode(raw)
            if chunk.error is not None:
                discard = DiscardReason.ERROR_BODY
                break
            answer.add(chunk)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        discard = DiscardReason.INCOMPLETE
    return answer.judgement(discard)


def chunks_of(body: bytes, mode: ResponseMode) -> list[bytes]:
    """Return the JSON of every chunk; of an answer in one piece, that.

    Raises:
        ValueError: It is not of the form, or stops half-way.
    """
    if mode is ResponseMode.JSON:
        return [bytes(raw) for raw in _list(body)] if _is_array(body) else [body]
    # Google's SDK takes lines that are no event stream's for JSON: an error may come so.
    if not all(line.startswith(_FIELDS) for line in body.splitlines() if line):
        raise ValueError("a line that is no event stream's")
    splitter = EventSplitter()
    events = splitter.feed(body)
    if splitter.has_partial or any(event.event != "message" for event in events):
        raise ValueError("a stream that stops half-way, or has events that the API does not have")
    return [event.data for event in events]


def _is_array(body: bytes) -> bool:
    return body.lstrip().startswith(b"[")
