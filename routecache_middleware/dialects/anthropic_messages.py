"""Anthropic messages: ``POST /v1/messages``, as Anthropic and the gateways speak it."""

from collections.abc import Mapping

import msgspec

from routecache_middleware.core.dialect import Judgement, ParsedRequest, Role, names
from routecache_middleware.core.models import BypassReason, ResponseMode
from routecache_middleware.dialects.anthropic_judge import judge_json, judge_stream
from routecache_middleware.dialects.anthropic_request import (
    MESSAGE_FIELDS,
    conversation_of,
    obstacle,
    unmarked,
)
from routecache_middleware.dialects.anthropic_stream import aggregate, replay
from routecache_middleware.dialects.openai_request import objects

__all__ = ["AnthropicMessages", "error_body"]


class AnthropicMessages:
    """The dialect; see :class:`~routecache_middleware.core.dialect.Dialect`."""

    __slots__ = ()

    name = "anthropic.messages"
    verb = "chat"
    path_suffixes = ("/v1/messages",)
    fields = MESSAGE_FIELDS
    ignored_fields = names(MESSAGE_FIELDS, Role.IGNORED)
    sampling_fields = names(MESSAGE_FIELDS, Role.SAMPLING)

    def parse(self, payload: Mapping[str, object]) -> ParsedRequest | None:
        """Read a request; None when it does not have this API's form."""
        model, stream = payload.get("model"), payload.get("stream")
        messages = objects(payload.get("messages"))
        tools = objects(payload.get("tools") or [])
        if not isinstance(model, str) or not messages or tools is None:
            return None
        if not isinstance(stream, bool | None):
            return None
        # The gateways of other models have a default for it.
        limit, temperature = payload.get("max_tokens"), payload.get("temperature")
        if isinstance(limit, bool) or not isinstance(limit, int | None) or (limit or 0) < 0:
            return None
        if isinstance(temperature, bool) or not isinstance(temperature, int | float | None):
            return None
        bypass = obstacle(payload, messages, tools)
        return ParsedRequest(
            model=model,
            mode=ResponseMode.STREAM if stream else ResponseMode.JSON,
            shape="stream" if stream else "json",
            temperature=temperature,
            is_deterministic=temperature == 0,
            bypass=BypassReason.PREWARM if bypass is None and limit == 0 else bypass,
        )

    def keyed(self, payload: Mapping[str, object]) -> Mapping[str, object]:
        """Return the request without prompt-cache marks, every message's content a list."""
        return unmarked(payload)

    def conversation(self, payload: Mapping[str, object]) -> object:
        """Return what stays the same over the turns of a conversation."""
        return conversation_of(payload)

    def judge(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> Judgement:  # noqa: ARG002 - every answer has one choice
        """Say whether ``body`` is a complete, successful answer; never raises."""
        return judge_json(body) if mode is ResponseMode.JSON else judge_stream(body)

    def render(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> bytes | None:
        """Turn a stored body into the shape of ``request``, or None."""
        if mode is request.mode:
            return body
        return replay(body) if mode is ResponseMode.JSON else aggregate(body)

    def error_body(self, message: str, *, kind: str, code: str) -> bytes:
        """Return an error in Anthropic's JSON shape, which has no place for ``code``."""
        return error_body(message, kind=kind, code=code)


def error_body(message: str, *, kind: str, code: str) -> bytes:  # noqa: ARG001 - as dialects have it
    """Return an error in Anthropic's JSON shape, which has no place for ``code``."""
    error = {"type": kind, "message": message}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": None})
