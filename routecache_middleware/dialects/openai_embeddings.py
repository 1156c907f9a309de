"""OpenAI embeddings: ``POST /v1/embeddings``, where each input is an entry of its own.

Others answer at the same path and take fields that OpenAI does not have. These may let the inputs
of a list depend on one another (Jina's ``late_chunking``), or make base64 hold something else than
32-bit floats (Voyage's ``output_dtype``). So only requests all of whose fields are known are taken
apart, and only their vectors given another form; the answer to any other is kept as it is, whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from routecache_middleware.core.dialect import Field, Judgement, ParsedRequest, Role, names
from routecache_middleware.core.models import DiscardReason, ResponseMode
from routecache_middleware.dialects import embedding_answers as answers
from routecache_middleware.dialects.openai_request import error_body

__all__ = ["OpenAIEmbeddings", "each_alone"]

_FORMS: Final = ("float", "base64")
_FIELDS: Final[Mapping[str, Field]] = {
    "dimensions": Field(Role.KEY),
    "encoding_format": Field(
        Role.KEY, "left out where all fields are known: one entry serves both forms then"
    ),
    "input": Field(Role.KEY, "each item of a list is an entry of its own"),
    "model": Field(Role.KEY, "the one in the path counts where a path names one"),
    "user": Field(Role.IGNORED, "names the end user to the provider, for abuse detection"),
}
# They say whose a request is, or how it is handled, and nothing of the vectors; they do count.
_ABOUT_THE_REQUEST: Final = frozenset(
    {"metadata", "priority", "safety_identifier", "service_tier", "tags"}
)
# Cohere, NVIDIA and Voyage: what is put before each text by itself, as for a query or a document.
_ABOUT_EACH_INPUT: Final = frozenset({"input_type"})
_KNOWN: Final = (_ABOUT_THE_REQUEST | _ABOUT_EACH_INPUT).union(_FIELDS)

_NULL: Final = msgspec.Raw(b"null")
_BYTES_PER_TOKEN = 4  # of English text; matters only between inputs as text and as tokens
_encode = msgspec.json.Encoder().encode


def each_alone(fields: Iterable[str]) -> bool:
    """Whether a request of these fields is known to have its inputs embedded each by itself."""
    return _KNOWN.issuperset(fields)


class OpenAIEmbeddings:
    """The dialect; see :class:`~routecache_middleware.core.dialect.Dialect` and ``core.batch``."""

    __slots__ = ()

    name = "openai.embeddings"
    verb = "embeddings"
    path_suffixes = (
        "/v1/embeddings",
        "/engines/{model}/embeddings",
        "/openai/deployments/{model}/embeddings",
    )
    fields = _FIELDS
    ignored_fields = names(_FIELDS, Role.IGNORED)
    sampling_fields = names(_FIELDS, Role.SAMPLING)

    def parse(self, payload: Mapping[str, object]) -> ParsedRequest | None:
        """Read a request; None when it does not have this API's form."""
        model, form = payload.get("model"), payload.get("encoding_format")
        form = "float" if form is None else form
        items = _items(payload.get("input"))
        if not isinstance(model, str) or form not in _FORMS or not items:
            return None
        return ParsedRequest(
            model=model,
            mode=ResponseMode.JSON,
            shape=str(form),
            choices=len(items),
            temperature=0.0,  # nothing is sampled: no limit on the temperature is meant for it
            is_deterministic=True,
            sizes=tuple(map(_size, items)) if len(items) > 1 else (),
        )

    def keyed(self, payload: Mapping[str, object]) -> Mapping[str, object]:
        """Return the request without its form, and with a list of one input as that input.

        One with a field that is not known is left as it is.
        """
        if not each_alone(payload):
            return payload
        items = _items(payload.get("input"))
        kept = {**payload, "input": items[0]} if len(items) == 1 else dict(payload)
        kept.pop("encoding_format", None)
        return kept

    def conversation(self, payload: Mapping[str, object]) -> object:
        """Return the input: there are no turns."""
        return {name: payload.get(name) for name in ("model", "input", "dimensions")}

    def judge(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> Judgement:
        """Say whether ``body`` is a complete, successful answer; never raises."""
        members = answers.top_level(body) if mode is ResponseMode.JSON else None
        if members is None:
            return Judgement(DiscardReason.INCOMPLETE)
        if members.get("error", _NULL) != _NULL:
            return Judgement(DiscardReason.ERROR_BODY)
        answer = answers.read(members, request.choices)
        if answer is None:
            return Judgement(DiscardReason.INCOMPLETE)
        tokens = answers.tokens(answer)
        return Judgement(
            model=answers.text(members.get("model")),
            has_usage=tokens is not None,
            input_tokens=tokens or 0,
        )

    def render(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> bytes | None:
        """Turn a stored answer to one input into the form of ``request``, or None."""
        members = answers.top_level(body) if mode is ResponseMode.JSON else None
        answer = answers.read(members, request.choices)
        if answer is None:
            return None
        formed = [answers.in_form(vector, request.shape) for vector in answer.vectors]
        if formed == answer.vectors:
            return body
        return None if None in formed else _encode({**answer.members, "data": formed})

    def error_body(self, message: str, *, kind: str, code: str) -> bytes:
        """Return an error in OpenAI's JSON shape."""
        return error_body(message, kind=kind, code=code)

    # Several inputs at once: see core.batch.

    def split(self, payload: Mapping[str, object]) -> list[Mapping[str, object]]:
        """Return one request per input; the request itself when a field of it is not known."""
        if not each_alone(payload):
            return [payload]
        rest = dict(payload)
        rest.pop("encoding_format", None)
        return [{**rest, "input": item} for item in _items(payload.get("input"))]

    def only(self, payload: Mapping[str, object], wanted: Sequence[int]) -> bytes:
        """Return the body of a request for some of the inputs."""
        items = _items(payload.get("input"))
        return _encode({**payload, "input": [items[place] for place in wanted]})

    def take_apart(self, body: bytes, request: ParsedRequest) -> list[bytes] | None:
        """Return the answer to each input; its usage is a share of the list's, by length."""
        answer = answers.read(answers.top_level(body), request.choices)
        return None if answer is None else answers.take_apart(answer, request.sizes)

    def put_together(self, parts: Sequence[bytes], request: ParsedRequest) -> bytes | None:
        """Return one answer to all inputs, in the form of ``request``."""
        read: list[answers.Answer] = []
        vectors: list[answers.Members] = []
        for part in parts:
            answer = answers.read(answers.top_level(part), 1)
            vector = None if answer is None else answers.in_form(answer.vectors[0], request.shape)
            if answer is None or vector is None:
                return None
            read.append(answer)
            vectors.append(vector)
        return answers.join(read, vectors) if read else None


def _items(value: object) -> list[object]:
    """Return the inputs; empty when it is none of the forms that the API knows."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        return []
    if _is_tokens(value):
        return [value]
    is_known = all(isinstance(item, str) or _is_tokens(item) for item in value)
    return value if is_known else []


def _is_tokens(value: object) -> bool:
    return isinstance(value, list) and bool(value) and set(map(type, value)) == {int}


def _size(item: object) -> int:
    """Return about how long an input is: only the ratio to the others counts."""
    if isinstance(item, str):
        return len(item) if item.isascii() else len(item.encode("utf-8", "surrogatepass"))
    return len(item) * _BYTES_PER_TOKEN if isinstance(item, list) else 0
