"""OpenAI's legacy completions: ``POST /v1/completions``, which model servers still speak.

JSON answers and the chunks of a stream have the same form: choices with a piece of ``text`` each.
A request has one prompt or many, as text or as tokens, and asks for ``n`` answers to each.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise

from routecache_middleware.core.dialect import Judgement, ParsedRequest, Role, names
from routecache_middleware.core.models import ResponseMode
from routecache_middleware.dialects.openai_chunks import add_up, reshape, spread
from routecache_middleware.dialects.openai_fields import COMPLETION_FIELDS
from routecache_middleware.dialects.openai_judge import judge_json, judge_stream
from routecache_middleware.dialects.openai_merge import (
    Object,
    as_object,
    index_of,
    put,
    put_once,
    without,
)
from routecache_middleware.dialects.openai_request import error_body, read_request

__all__ = ["OpenAICompletions"]

_KIND = "text_completion"
_OFFSETS = "text_offset"


class OpenAICompletions:
    """The dialect; see :class:`~routecache_middleware.core.dialect.Dialect`."""

    __slots__ = ()

    name = "openai.completions"
    verb = "text_completion"
    path_suffixes = (
        "/v1/completions",
        "/engines/{model}/completions",
        "/openai/deployments/{model}/completions",
    )
    fields = COMPLETION_FIELDS
    ignored_fields = names(COMPLETION_FIELDS, Role.IGNORED)
    sampling_fields = names(COMPLETION_FIELDS, Role.SAMPLING)

    def parse(self, payload: Mapping[str, object]) -> ParsedRequest | None:
        """Read a request; None when it does not have this API's form."""
        prompts = _count(payload.get("prompt"))
        return read_request(payload, prompts=prompts) if prompts else None

    def keyed(self, payload: Mapping[str, object]) -> Mapping[str, object]:
        """Return the request as it is: nothing in it can be written in two ways."""
        return payload

    def conversation(self, payload: Mapping[str, object]) -> object:
        """Return the prompt: it has no turns that could be told apart."""
        return {name: payload.get(name) for name in ("model", "prompt", "suffix")}

    def judge(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> Judgement:
        """Say whether ``body`` is a complete, successful answer; never raises."""
        judge = judge_json if mode is ResponseMode.JSON else judge_stream
        return judge(body, request.choices, is_legacy=True)

    def render(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> bytes | None:
        """Turn a stored body into the shape of ``request``, or None."""
        from_json = mode is ResponseMode.JSON
        convert = _replay if from_json else reshape
        match request.shape:
            case "json":
                return body if from_json else add_up(body, kind=_KIND, choice=_Choice)
            case "stream":
                return convert(body, with_usage=False)
            case "stream+usage":
                return convert(body, with_usage=True)
            case _:
                return None

    def error_body(self, message: str, *, kind: str, code: str) -> bytes:
        """Return an error in OpenAI's JSON shape."""
        return error_body(message, kind=kind, code=code)


class _Choice:
    """One choice, growing part by part: text and log probabilities are joined."""

    __slots__ = ("_fields", "_logprobs", "_texts")

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._fields: Object = {}
        self._logprobs: Object = {}

    def add(self, part: Object) -> None:
        text = part.get("text")
        if not isinstance(text, str | None):
            raise ValueError("a text is not a text")  # noqa: TRY004 - as with all that is doubtful
        self._texts.append(text or "")
        for name, value in part.items():
            put_once(self._fields, name, value)
        for name, value in as_object(part.get("logprobs")).items():
            have = self._logprobs.get(name)
            if isinstance(have, list) and isinstance(value, list):
                have += value
            else:
                put(self._logprobs, name, value)

    def finished(self, index: int) -> Object:
        if not _is_rising(self._logprobs.get(_OFFSETS)):
            # Some servers count the offsets of each chunk from its start: nobody knows the others.
            raise ValueError("the offsets do not fit together")
        whole = self._fields | {"text": "".join(self._texts), "index": index}
        return whole | {"logprobs": self._logprobs} if self._logprobs else whole


def _take_apart(choice: Object) -> Iterator[Object]:
    """Yield a part with the text and all that goes with it, and one that ends it."""
    logprobs = {name: choice[name] for name in ("logprobs",) if name in choice}
    common: Object = {"index": index_of(choice, 0)}
    yield common | {"text": choice.get("text"), "finish_reason": None} | logprobs
    rest = without(choice, "index", "text", "logprobs")
    yield common | {"text": ""} | dict.fromkeys(logprobs) | rest


_replay = partial(spread, kind=_KIND, take_apart=_take_apart)


def _count(prompt: object) -> int:
    """Return how many prompts there are; 0 when it is none of the forms that the API knows."""
    if prompt is None or isinstance(prompt, str):  # without one it starts a new document
        return 1
    if not isinstance(prompt, list) or not prompt:
        return 0
    if _is_tokens(prompt):
        return 1
    if all(isinstance(item, str) for item in prompt):
        return len(prompt)
    is_tokens = all(isinstance(item, list) and _is_tokens(item) for item in prompt)
    return len(prompt) if is_tokens else 0


def _is_tokens(items: list[object]) -> bool:
    return set(map(type, items)) == {int}


def _is_rising(offsets: object) -> bool:
    if not isinstance(offsets, list):
        return True
    if not all(isinstance(offset, int) for offset in offsets):
        return False
    return all(one <= other for one, other in pairwise(offsets))
