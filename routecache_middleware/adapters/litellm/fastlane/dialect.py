"""The wire APIs as LiteLLM's proxy takes them: with fields that make it do more than answer.

Only requests whose every field is known to concern the answer alone take the fast lane. A field
that a later release of LiteLLM understands is unknown here, and its requests go the usual way. Left
out on purpose are ``metadata`` (LiteLLM reads tags, sessions and users out of it), ``prompt`` (its
own prompt management), ``service_tier``, and whatever refers to state.
"""

from collections.abc import Callable, Mapping

from msgspec.structs import asdict

from routecache_middleware.core.dialect import (
    Dialect,
    Field,
    Judgement,
    ParsedRequest,
    Role,
    names,
)
from routecache_middleware.core.models import BypassReason, ResponseMode
from routecache_middleware.dialects.anthropic_messages import AnthropicMessages
from routecache_middleware.dialects.openai_chat import OpenAIChat
from routecache_middleware.dialects.openai_completions import OpenAICompletions
from routecache_middleware.dialects.openai_embeddings import OpenAIEmbeddings
from routecache_middleware.dialects.responses import OpenAIResponses

__all__ = [
    "CHAT",
    "EMBEDDINGS",
    "LANES",
    "MESSAGES",
    "RESPONSES",
    "TEXT",
    "LaneDialect",
    "LaneRequest",
]

_ANSWERED = frozenset({"model", "safety_identifier", "stream", "temperature", "top_p", "user"})
_SAMPLED = _ANSWERED | {
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "min_p",
    "n",
    "presence_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "stream_options",
    "top_k",
}
_CHAT_FIELDS = _SAMPLED | {
    "function_call",
    "functions",
    "max_completion_tokens",
    "messages",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning_effort",
    "response_format",
    "tool_choice",
    "tools",
    "top_logprobs",
    "verbosity",
}
_TEXT_FIELDS = _SAMPLED | {"best_of", "echo", "prompt", "suffix"}
_EMBEDDING_FIELDS = frozenset({"dimensions", "encoding_format", "input", "model", "user"})
_RESPONSE_FIELDS = _ANSWERED | {
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "store",
    "stream_options",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "truncation",
}
_MESSAGE_FIELDS = (_ANSWERED - {"safety_identifier", "user"}) | {
    "cache_control",
    "max_tokens",
    "messages",
    "output_config",
    "stop_sequences",
    "system",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
}
_MOST_INPUTS = 64
# Users have budgets and limits of their own, so what one was given is no other's.
_USERS = {"safety_identifier": Field(Role.KEY), "user": Field(Role.KEY)}
_FORMS = {
    "encoding_format": Field(Role.KEY),
    "stream": Field(Role.KEY),
    "stream_options": Field(Role.KEY),
}


class LaneRequest(ParsedRequest, frozen=True):
    """A request that may take the fast lane.

    Attributes:
        user: The end user that it names, or empty.
    """

    user: str = ""


class LaneDialect:
    """A dialect; see :class:`~routecache_middleware.core.dialect.Dialect`.

    No :class:`~routecache_middleware.core.batch.Batched` even where the API below is one: what
    LiteLLM is asked has to be what the client has asked.

    Attributes:
        api: What the API is called elsewhere.
        call_type: What LiteLLM calls requests of this API.
        metadata: Where LiteLLM notes who is asking.
    """

    def __init__(
        self,
        base: Dialect,
        name: str,
        call_type: str,
        path_suffix: str,
        answered: frozenset[str],
        *,
        metadata: str = "metadata",
        is_converted: bool = False,
        is_plain: Callable[[Mapping[str, object]], bool] = lambda _: True,
    ) -> None:
        """Build one.

        Args:
            base: The API's own dialect.
            name: Part of every key, after LiteLLM's.
            call_type: See above.
            path_suffix: What its paths end with.
            answered: The fields that concern the answer alone.
            metadata: See above.
            is_converted: One entry serves both wire forms. It does for chat alone: the others' two
                forms differ in LiteLLM by more than their form (ids, usage, vectors that stay
                floats), so that each is kept as LiteLLM has sent it.
            is_plain: What else a request has to be like.
        """
        self._base = base
        self._answered = answered
        self._is_converted = is_converted
        self._is_plain = is_plain
        self.name = f"litellm.{name}"
        self.api = base.name
        self.verb = base.verb
        self.call_type = call_type
        self.metadata = metadata
        self.path_suffixes = (path_suffix,)
        forms: Mapping[str, Field] = {} if is_converted else _FORMS
        self.fields: Mapping[str, Field] = {**base.fields, **forms, **_USERS}
        self.ignored_fields = names(self.fields, Role.IGNORED)
        self.sampling_fields = names(self.fields, Role.SAMPLING)

    def parse(self, payload: Mapping[str, object]) -> ParsedRequest | None:
        """Read a request; None when it does not have this API's form."""
        parsed = self._base.parse(payload)
        if parsed is None:
            return None
        fields = {**asdict(parsed), "bypass": parsed.bypass or self._objection(payload)}
        return LaneRequest(**fields, user=_user(payload))

    def keyed(self, payload: Mapping[str, object]) -> Mapping[str, object]:
        """Return the request as the key sees it."""
        return self._base.keyed(payload) if self._is_converted else payload

    def conversation(self, payload: Mapping[str, object]) -> object:
        """Return the JSON value that stands for a whole conversation."""
        return self._base.conversation(payload)

    def judge(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> Judgement:
        """Say whether ``body`` is a complete, successful answer to ``request``."""
        return self._base.judge(body, mode, request)

    def render(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> bytes | None:
        """Turn a stored body of another shape into the shape of ``request``, or None."""
        return self._base.render(body, mode, request) if self._is_converted else None

    def error_body(self, message: str, *, kind: str, code: str) -> bytes:
        """Return an error in this API's own JSON shape."""
        return self._base.error_body(message, kind=kind, code=code)

    def _objection(self, payload: Mapping[str, object]) -> BypassReason | None:
        model = payload.get("model")
        is_plain = (
            self._answered.issuperset(payload)
            and all(isinstance(payload.get(name), str | None) for name in _USERS)
            and isinstance(model, str)
            and "," not in model  # several models at once
            and self._is_plain(payload)
        )
        return None if is_plain else BypassReason.DISABLED


def _user(payload: Mapping[str, object]) -> str:
    """Return whom LiteLLM may take for the end user: it looks at both fields."""
    user, other = (payload.get(name) for name in ("user", "safety_identifier"))
    found = user if isinstance(user, str) else ""
    return f"{found}\n{other}" if isinstance(other, str) else found


def _has_few_texts(payload: Mapping[str, object]) -> bool:
    """Whether the input is text, and not too much at once.

    LiteLLM rewrites tokens for some models; and each input is an entry of the cache inside LiteLLM,
    which the lane has to know of.
    """
    given = payload.get("input")
    items = given if isinstance(given, list) else [given]
    return len(items) <= _MOST_INPUTS and all(isinstance(item, str) for item in items)


def _is_whole(payload: Mapping[str, object]) -> bool:
    """Whether no stream is asked for: one that LiteLLM has ended by itself could not be told."""
    return not payload.get("stream")


# Where LiteLLM notes who is asking, for APIs that came to it later than chat and its kin.
_LATER = "litellm_metadata"

CHAT = LaneDialect(
    OpenAIChat(), "chat", "acompletion", "/chat/completions", _CHAT_FIELDS, is_converted=True
)
TEXT = LaneDialect(
    OpenAICompletions(),
    "text",
    "atext_completion",
    "/completions",
    _TEXT_FIELDS,
    is_plain=_is_whole,
)
EMBEDDINGS = LaneDialect(
    OpenAIEmbeddings(),
    "embeddings",
    "aembedding",
    "/embeddings",
    _EMBEDDING_FIELDS,
    is_plain=_has_few_texts,
)
RESPONSES = LaneDialect(
    OpenAIResponses(), "responses", "aresponses", "/responses", _RESPONSE_FIELDS, metadata=_LATER
)
MESSAGES = LaneDialect(
    AnthropicMessages(),
    "messages",
    "anthropic_messages",
    "/v1/messages",
    _MESSAGE_FIELDS,
    metadata=_LATER,
)
LANES = (CHAT, TEXT, EMBEDDINGS, RESPONSES, MESSAGES)
"""The APIs that the fast lane answers."""
