"""Anthropic token counting: ``POST /v1/messages/count_tokens``, which has no stream."""

from collections.abc import Mapping

import msgspec

from routecache_middleware.core.dialect import Judgement, ParsedRequest, Role, names
from routecache_middleware.core.models import DiscardReason, ResponseMode
from routecache_middleware.dialects.anthropic_messages import error_body
from routecache_middleware.dialects.anthropic_request import (
    COUNT_FIELDS,
    conversation_of,
    obstacle,
    unmarked,
)
from routecache_middleware.dialects.openai_request import objects

__all__ = ["AnthropicCountTokens"]


class _Count(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    error: object = None


_decode = msgspec.json.Decoder(_Count).decode


class AnthropicCountTokens:
    """The dialect; see :class:`~routecache_middleware.core.dialect.Dialect`."""

    __slots__ = ()

    name = "anthropic.count_tokens"
    verb = "count_tokens"
    path_suffixes = ("/v1/messages/count_tokens",)
    fields = COUNT_FIELDS
    ignored_fields = names(COUNT_FIELDS, Role.IGNORED)
    sampling_fields = names(COUNT_FIELDS, Role.SAMPLING)

    def parse(self, payload: Mapping[str, object]) -> ParsedRequest | None:
        """Read a request; None when it does not have this API's form."""
        model = payload.get("model")
        messages = objects(payload.get("messages"))
        tools = objects(payload.get("tools") or [])
        if not isinstance(model, str) or not messages or tools is None:
            return None
        return ParsedRequest(
            model=model,
            mode=ResponseMode.JSON,
            shape="json",
            temperature=0,  # nothing is sampled
            is_deterministic=True,
            bypass=obstacle(payload, messages, []),  # tools are counted, none is run
        )

    def keyed(self, payload: Mapping[str, object]) -> Mapping[str, object]:
        """Return the request without prompt-cache marks, every message's content a list."""
        return unmarked(payload)

    def conversation(self, payload: Mapping[str, object]) -> object:
        """Return what stays the same over the turns of a conversation."""
        return conversation_of(payload)

    def judge(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> Judgement:  # noqa: ARG002 - there is one form of answer
        """Say whether ``body`` is a count; never raises."""
        try:
            count = _decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return Judgement(discard=DiscardReason.INCOMPLETE)
        if count.error is not None:
            return Judgement(discard=DiscardReason.ERROR_BODY)
        # The count is the answer: no usage, and no tokens that anybody pays for.
        return Judgement(discard=DiscardReason.EMPTY if count.input_tokens is None else None)

    def render(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> bytes | None:
        """Return JSON as it is; there is no other form."""
        return body if mode is request.mode is ResponseMode.JSON else None

    def error_body(self, message: str, *, kind: str, code: str) -> bytes:
        """Return an error in Anthropic's JSON shape, which has no place for ``code``."""
        return error_body(message, kind=kind, code=code)
