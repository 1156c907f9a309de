"""Rerank: ``POST /v1/rerank`` and its likes, as Cohere has it, and Jina, LiteLLM, vLLM, llama.cpp.

There is no official form. What all of them have in common is a query and documents in, and the
places of the best documents with their scores out.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from routecache_middleware.core.dialect import Field, Judgement, ParsedRequest, Role, names
from routecache_middleware.core.models import BypassReason, DiscardReason, ResponseMode
from routecache_middleware.dialects.prompts import is_remote, size_class

__all__ = ["Rerank"]

_KEY = Field(Role.KEY)
_MEDIA = "with an image or another medium at a URL; text may be a URL"
_FIELDS: Final[Mapping[str, Field]] = {
    "documents": Field(Role.BYPASS, f"{_MEDIA}; their order counts, as answers name places in it"),
    "instruction": _KEY,
    "max_chunks_per_doc": _KEY,
    "max_doc_length": _KEY,
    "max_tokens_per_doc": _KEY,
    "max_tokens_per_query": _KEY,
    "model": _KEY,
    "priority": Field(Role.IGNORED, "decides how soon a request is served"),
    "query": Field(Role.BYPASS, _MEDIA),
    "rank_fields": _KEY,
    "return_documents": _KEY,
    "return_embeddings": _KEY,
    "top_n": _KEY,
    "truncate_prompt_tokens": _KEY,
    "truncation": _KEY,
    "truncation_side": _KEY,
}


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Tokens(msgspec.Struct, gc=False):
    input_tokens: float | None = None


class _Meta(msgspec.Struct, gc=False):
    tokens: _Tokens | None = None


class _Result(msgspec.Struct, gc=False):
    index: int
    relevance_score: float


class _Answer(msgspec.Struct, gc=False):
    results: list[_Result] | None = None
    model: str | None = None
    usage: _Usage | None = None
    meta: _Meta | None = None
    error: object = None


_decode = msgspec.json.Decoder(_Answer).decode


class Rerank:
    """The dialect; see :class:`~routecache_middleware.core.dialect.Dialect`."""

    __slots__ = ()

    name = "rerank"
    verb = "rerank"
    path_suffixes = ("/v1/rerank", "/v2/rerank", "/v1/reranking")
    fields = _FIELDS
    ignored_fields = names(_FIELDS, Role.IGNORED)
    sampling_fields = names(_FIELDS, Role.SAMPLING)

    def parse(self, payload: Mapping[str, object]) -> ParsedRequest | None:
        """Read a request; None when it does not have this API's form."""
        model, query, documents = (payload.get(name) for name in ("model", "query", "documents"))
        if not isinstance(model, str) or not isinstance(query, str | dict):
            return None
        if not isinstance(documents, list) or not documents:
            return None
        if not all(isinstance(document, str | dict) for document in documents):
            return None
        limit = payload.get("top_n")
        if isinstance(limit, bool) or not isinstance(limit, int | None) or (limit or 0) < 0:
            return None
        count = len(documents)
        return ParsedRequest(
            model=model,
            mode=ResponseMode.JSON,
            shape="json",
            choices=min(limit or count, count),  # vLLM takes 0 for all
            inputs=count,
            temperature=0.0,  # nothing is sampled: no limit on the temperature is meant for it
            is_deterministic=True,
            bypass=BypassReason.REMOTE_MEDIA if any(map(_is_remote, [query, *documents])) else None,
        )

    def keyed(self, payload: Mapping[str, object]) -> Mapping[str, object]:
        """Return the request itself: nothing in it says the same in two ways."""
        return payload

    def conversation(self, payload: Mapping[str, object]) -> object:
        """Return the model and the size of what is to be ranked: there are no turns."""
        documents = payload.get("documents")
        return {
            "model": payload.get("model"),
            "size": size_class([payload.get("query"), documents]),
        }

    def judge(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> Judgement:
        """Say whether ``body`` is a complete, successful answer; never raises.

        It has as many results as were asked for, each for a document of its own, with a score.
        """
        try:
            answer = _decode(body) if mode is ResponseMode.JSON else _Answer()
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return Judgement(DiscardReason.INCOMPLETE)
        if answer.error is not None:
            return Judgement(DiscardReason.ERROR_BODY)
        places = {result.index for result in answer.results or ()}
        is_whole = len(places) == len(answer.results or ()) == request.choices
        if not is_whole or not places <= set(range(request.inputs)):
            return Judgement(DiscardReason.INCOMPLETE)
        tokens = _tokens(answer)
        return Judgement(
            model=answer.model or "", has_usage=tokens is not None, input_tokens=tokens or 0
        )

    def render(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> bytes | None:
        """Return JSON as it is; there is no other form."""
        return body if mode is request.mode is ResponseMode.JSON else None

    def error_body(self, message: str, *, kind: str, code: str) -> bytes:  # noqa: ARG002 - as dialects have it
        """Return an error in Cohere's JSON shape, which has no place for ``kind`` and ``code``."""
        return msgspec.json.encode({"message": message})


def _is_remote(item: object) -> bool:
    """Whether a query or a document names a medium that is fetched later: it can change."""
    if isinstance(item, str):
        return False
    assert isinstance(item, dict)  # noqa: S101 - nothing else is parsed
    rest = [value for name, value in item.items() if name != "text"]
    return is_remote(rest, texts=("text",))


def _tokens(answer: _Answer) -> int | None:
    """Return what the answer cost, in the words of whichever API it is; None when it is silent."""
    usage = answer.usage or _Usage()
    tokens = (answer.meta or _Meta()).tokens or _Tokens()
    known = (usage.prompt_tokens, usage.total_tokens, tokens.input_tokens)
    return next((int(count) for count in known if count is not None), None)
