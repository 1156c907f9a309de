"""The APIs whose answers are kept: what LiteLLM calls them, and what each does differently."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from routecache_middleware.adapters.litellm.results import embeddings, messages, responses, texts
from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.dialects.openai_chat import OpenAIChat
from routecache_middleware.dialects.openai_judge import judge_json

__all__ = ["CALL_TYPES", "Api", "api_of"]


class _Parse(Protocol):
    def __call__(self, payload: Mapping[str, object], /) -> ParsedRequest | None: ...


class _Judge(Protocol):
    def __call__(self, body: bytes, request: ParsedRequest, /) -> Judgement: ...


class Api(msgspec.Struct, frozen=True):
    """One API.

    Attributes:
        name: Part of every key: async and other calls share theirs, two APIs never do.
        verb: ``gen_ai.operation.name`` of its requests.
        parse: Reads a request, given as plain arguments; None: it does not have the API's form.
        judge: Says whether LiteLLM's JSON is a complete answer to a request.
        is_per_input: Each element of ``input`` is an entry of its own.
        is_per_form: What was made as a stream cannot be had in one piece, nor the reverse.
        asks_usage: A stream carries its usage only when it is asked for.
        metadata: Where a Router notes which deployment it has picked.
        prompt: The argument that LiteLLM's cache has to have by its name, or empty.
    """

    name: str
    verb: str
    parse: _Parse
    judge: _Judge
    is_per_input: bool = False
    is_per_form: bool = False
    asks_usage: bool = False
    metadata: str = "metadata"
    prompt: str = ""


def _judge_chat(body: bytes, request: ParsedRequest) -> Judgement:
    return judge_json(body, request.choices)


_CHAT = Api("chat", "chat", OpenAIChat().parse, _judge_chat, asks_usage=True)
_TEXT = Api("text", "text_completion", texts.parse, texts.judge, prompt="prompt")
_EMBEDDINGS = Api(
    "embeddings",
    "embeddings",
    embeddings.parse,
    embeddings.judge,
    is_per_input=True,
    prompt="input",
)
_RESPONSES = Api(
    "responses",
    "chat",
    responses.parse,
    responses.judge,
    metadata="litellm_metadata",
    prompt="input",
)
_MESSAGES = Api(
    "messages",
    "chat",
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
