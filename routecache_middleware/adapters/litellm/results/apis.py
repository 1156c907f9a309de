"""The APIs whose answers are kept: what LiteLLM calls them, and what each does differently."""

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from routecache_middleware.adapters.litellm.results import embeddings, messages, responses, texts
from routecache_middleware.core.dialect import Dialect, Judgement, ParsedRequest
from routecache_middleware.core.models import ResponseMode
from routecache_middleware.dialects.openai_chat import OpenAIChat

__all__ = ["CALL_TYPES", "Api", "api_of"]


class _Parse(Protocol):
    def __call__(self, payload: Mapping[str, object], /) -> ParsedRequest | None: ...


class _Judge(Protocol):
    def __call__(self, body: bytes, request: ParsedRequest, /) -> Judgement: ...


class _Keyed(Protocol):
    def __call__(self, payload: Mapping[str, object], /) -> Mapping[str, object]: ...


class Api(msgspec.Struct, frozen=True):
    """One API.

    Attributes:
        name: Part of every key: async and other calls share theirs, two APIs never do.
        dialect: What it is called where the cache stands in front of a gateway.
        verb: ``gen_ai.operation.name`` of its requests.
        parse: Reads a request, given as plain arguments; None: it does not have the API's form.
        judge: Says whether LiteLLM's JSON is a complete answer to a request.
        keyed: Makes requests that mean the same equal.
        ignored: Fields of the API that never change an answer.
        counted: Those that can, whatever LiteLLM takes for its own.
        not_decisive: Those that make no difference to a routing decision.
        is_per_input: Each element of ``input`` is an entry of its own.
        is_per_form: What was made as a stream cannot be had in one piece, nor the reverse.
        asks_usage: A stream carries its usage only when it is asked for.
        metadata: Where a Router notes which deployment it has picked.
        prompt: The argument that LiteLLM's cache has to have by its name, or empty.
    """

    name: str
    dialect: str
    verb: str
    parse: _Parse
    judge: _Judge
    keyed: _Keyed
    ignored: frozenset[str]
    counted: frozenset[str]
    not_decisive: frozenset[str]
    is_per_input: bool = False
    is_per_form: bool = False
    asks_usage: bool = False
    metadata: str = "metadata"
    prompt: str = ""


# LiteLLM's own under the same names: which model answers is in the key by itself.
_LITELLMS: Final = frozenset({"fallbacks", "model"})
_CHAT_DIALECT = OpenAIChat()


def _api(
    name: str,
    dialect: Dialect,
    parse: _Parse,
    judge: _Judge,
    *,
    forms: frozenset[str] = frozenset(),
    is_per_input: bool = False,
    is_per_form: bool = False,
    asks_usage: bool = False,
    metadata: str = "metadata",
    prompt: str = "",
) -> Api:
    """Take from a dialect which fields count; ``forms``: those that only say in what form."""
    ignored = dialect.ignored_fields
    return Api(
        name,
        dialect.name,
        dialect.verb,
        parse,
        judge,
        _as_it_is if is_per_input else dialect.keyed,
        ignored,
        frozenset(dialect.fields) - ignored - _LITELLMS,
        dialect.ignored_fields | dialect.sampling_fields | forms,
        is_per_input=is_per_input,
        is_per_form=is_per_form,
        asks_usage=asks_usage,
        metadata=metadata,
        prompt=prompt,
    )


def _as_it_is(payload: Mapping[str, object]) -> Mapping[str, object]:
    """Return a request of which each input is looked at by itself."""
    return payload


def _judge_chat(body: bytes, request: ParsedRequest) -> Judgement:
    return _CHAT_DIALECT.judge(body, ResponseMode.JSON, request)


_CHAT = _api("chat", _CHAT_DIALECT, _CHAT_DIALECT.parse, _judge_chat, asks_usage=True)
_TEXT = _api("text", texts.DIALECT, texts.parse, texts.judge, prompt="prompt")
_EMBEDDINGS = _api(
    "embeddings",
    embeddings.DIALECT,
    embeddings.parse,
    embeddings.judge,
    forms=frozenset({"encoding_format"}),
    is_per_input=True,
    prompt="input",
)
_RESPONSES = _api(
    "responses",
    responses.DIALECT,
    responses.parse,
    responses.judge,
    metadata="litellm_metadata",
    prompt="input",
)
_MESSAGES = _api(
    "messages",
    messages.DIALECT,
    messages.parse,
    messages.judge,
    is_per_form=True,
    metadata="litellm_metadata",
)

_APIS = {
    "completion": _CHAT,
    "acompletion": _CHAT,
    "text_completion": _TEXT,
    "atext_completion": _TEXT,
    "embedding": _EMBEDDINGS,
    "aembedding": _EMBEDDINGS,
    "responses": _RESPONSES,
    "aresponses": _RESPONSES,
    "anthropic_messages": _MESSAGES,
    "aanthropic_messages": _MESSAGES,
}

CALL_TYPES = tuple(_APIS)
"""LiteLLM's names of the calls that are cached."""

api_of = _APIS.get
"""Return the API of a call type of LiteLLM's; None when its answers are not cached."""
