"""OpenAI embeddings: ``POST /v1/embeddings``, where each input is an entry of its own."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from routecache_middleware.core.dialect import Field, Judgement, ParsedRequest, Role, names
from routecache_middleware.core.models import DiscardReason, ResponseMode
from routecache_middleware.dialects.openai_request import error_body
from routecache_middleware.dialects.vectors import as_base64, as_numbers

__all__ = ["OpenAIEmbeddings"]

_FORMS: Final = ("float", "base64")
_FIELDS: Final[Mapping[str, Field]] = {
    "dimensions": Field(Role.KEY),
    "encoding_format": Field(Role.IGNORED, "one entry serves both forms"),
    "input": Field(Role.KEY, "each item of a list is an entry of its own"),
    "model": Field(Role.KEY, "the one in the path counts where a path names one"),
    "user": Field(Role.IGNORED, "names the end user to the provider, for abuse detection"),
}

Object = dict[str, object]
_decode = msgspec.json.Decoder(Object).decode
_encode = msgspec.json.Encoder().encode


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
        )

    def keyed(self, payload: Mapping[str, object]) -> Mapping[str, object]:
        """Return the request with a list of one input as that input."""
        items = _items(payload.get("input"))
        return {**payload, "input": items[0]} if len(items) == 1 else payload

    def conversation(self, payload: Mapping[str, object]) -> object:
        """Return the input: there are no turns."""
        return {name: payload.get(name) for name in ("model", "input", "dimensions")}

    def judge(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> Judgement:
        """Say whether ``body`` is a complete, successful answer; never raises."""
        whole = _whole(body) if mode is ResponseMode.JSON else None
        if whole is None:
            return Judgement(DiscardReason.INCOMPLETE)
        if whole.get("error") is not None:
            return Judgement(DiscardReason.ERROR_BODY)
        if _ordered(whole, request.choices) is None:
            return Judgement(DiscardReason.INCOMPLETE)
        model, tokens = whole.get("model"), _tokens(whole)
        return Judgement(
            model=model if isinstance(model, str) else "",
            has_usage=tokens is not None,
            input_tokens=tokens or 0,
        )

    def render(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> bytes | None:
        """Turn a stored body into the form of ``request``, or None."""
        whole = _whole(body) if mode is ResponseMode.JSON else None
        vectors = None if whole is None else _ordered(whole, request.choices)
        if whole is None or vectors is None:
            return None
        formed = [_in_form(vector, request.shape) for vector in vectors]
        if any(vector is None for vector in formed):
            return None
        return _encode(whole | {"data": formed})

    def error_body(self, message: str, *, kind: str, code: str) -> bytes:
        """Return an error in OpenAI's JSON shape."""
        return error_body(message, kind=kind, code=code)

    # Several inputs at once: see core.batch.

    def split(self, payload: Mapping[str, object]) -> list[Mapping[str, object]]:
        """Return one request per input."""
        return [{**payload, "input": item} for item in _items(payload.get("input"))]

    def only(self, payload: Mapping[str, object], wanted: Sequence[int]) -> bytes:
        """Return the body of a request for some of the inputs."""
        items = _items(payload.get("input"))
        return _encode({**payload, "input": [items[place] for place in wanted]})

    def take_apart(self, body: bytes, request: ParsedRequest) -> list[bytes] | None:
        """Return the answer to each input.

        A list's usage says how many tokens all inputs had together: each gets an equal share, so
        that the shares of one list add up to what it cost.
        """
        whole = _whole(body)
        vectors = None if whole is None else _ordered(whole, request.choices)
        if whole is None or vectors is None:
            return None
        shares = _shares(_tokens(whole), len(vectors))
        return [
            _encode(_with_tokens(whole | {"data": [vector | {"index": 0}]}, share))
            for vector, share in zip(vectors, shares, strict=True)
        ]

    def put_together(self, parts: Sequence[bytes], request: ParsedRequest) -> bytes | None:
        """Return one answer to all inputs, in the form of ``request``."""
        data: list[Object] = []
        tokens: list[int | None] = []
        whole: Object | None = None
        for index, part in enumerate(parts):
            whole = _whole(part)
            vectors = None if whole is None else _ordered(whole, 1)
            vector = None if vectors is None else _in_form(vectors[0], request.shape)
            if whole is None or vector is None:
                return None
            data.append(vector | {"index": index})
            tokens.append(_tokens(whole))
        if whole is None:
            return None
        known = [count for count in tokens if count is not None]
        total = sum(known) if len(known) == len(tokens) else None
        return _encode(_with_tokens(whole | {"data": data}, total))


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


def _whole(body: bytes) -> Object | None:
    try:
        return _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _ordered(whole: Object, count: int) -> list[Object] | None:
    """Return the vectors in the order of the inputs; None unless there is one for each."""
    data = whole.get("data")
    if not isinstance(data, list) or len(data) != count:
        return None
    vectors: list[Object | None] = [None] * count
    for place, vector in enumerate(data):
        index = vector.get("index", place) if isinstance(vector, dict) else None
        if type(index) is not int or not 0 <= index < count or not vector.get("embedding"):
            return None
        vectors[index] = vector
    return [vector for vector in vectors if vector is not None] if all(vectors) else None


def _in_form(vector: Object, form: str) -> Object | None:
    embedding = vector.get("embedding")
    is_text = isinstance(embedding, str)
    if is_text == (form == "base64"):
        return vector
    made = as_numbers(embedding) if is_text else as_base64(embedding)
    return None if made is None else vector | {"embedding": made}


def _tokens(whole: Object) -> int | None:
    usage = whole.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return count if type(count) is int else None


def _shares(total: int | None, count: int) -> list[int | None]:
    if total is None:
        return [None] * count
    share, rest = divmod(total, count)
    return [share + (place < rest) for place in range(count)]


def _with_tokens(whole: Object, count: int | None) -> Object:
    """Return an answer whose usage is ``count``, or one without usage when that is not known."""
    usage = whole.get("usage")
    rest = {name: value for name, value in whole.items() if name != "usage"}
    if count is None or not isinstance(usage, dict):
        return rest
    # What else the provider says of its usage is of all inputs together: nobody knows the shares.
    names = [name for name in ("prompt_tokens", "total_tokens") if name in usage]
    return rest | {"usage": dict.fromkeys(names, count)}
