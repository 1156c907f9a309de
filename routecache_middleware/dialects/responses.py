"""OpenAI responses: ``POST /v1/responses``, as OpenAI and its likes speak it."""

from collections.abc import Mapping

import msgspec

from routecache_middleware.core.dialect import Judgement, ParsedRequest, Role, names
from routecache_middleware.core.models import ResponseMode
from routecache_middleware.dialects.openai_request import objects, read_request
from routecache_middleware.dialects.responses_judge import judge_json, judge_stream
from routecache_middleware.dialects.responses_request import (
    FIELDS,
    conversation_of,
    input_items,
    obstacle,
    unmarked,
)
from routecache_middleware.dialects.responses_stream import aggregate, replay

__all__ = ["OpenAIResponses"]


class OpenAIResponses:
    """The dialect; see :class:`~routecache_middleware.core.dialect.Dialect`."""

    __slots__ = ()

    name = "openai.responses"
    verb = "chat"
    path_suffixes = ("/v1/responses", "/openai/responses")
    fields = FIELDS
    ignored_fields = names(FIELDS, Role.IGNORED)
    sampling_fields = names(FIELDS, Role.SAMPLING)

    def parse(self, payload: Mapping[str, object]) -> ParsedRequest | None:
        """Read a request; None when it does not have this API's form."""
        items = input_items(payload)
        tools = objects(payload.get("tools") or [])
        if items is None or tools is None:
            return None
        return read_request(payload, bypass=obstacle(payload, items, tools))

    def keyed(self, payload: Mapping[str, object]) -> Mapping[str, object]:
        """Return the request without the marks that only steer OpenAI's prompt cache."""
        return unmarked(payload)

    def conversation(self, payload: Mapping[str, object]) -> object:
        """Return what stays the same over the turns of a conversation."""
        return conversation_of(payload)

    def judge(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> Judgement:  # noqa: ARG002 - every answer has one choice
        """Say whether ``body`` is a complete, successful answer; never raises."""
        return judge_json(body) if mode is ResponseMode.JSON else judge_stream(body)

    def render(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> bytes | None:
        """Turn a stored body into the shape of ``request``, or None."""
        match request.shape:
            case "json":
                return body if mode is ResponseMode.JSON else aggregate(body)
            case "stream":
                return body if mode is ResponseMode.STREAM else replay(body)
            case _:
                return None

    def error_body(self, message: str, *, kind: str, code: str) -> bytes:
        """Return an error in OpenAI's JSON shape."""
        error = {"message": message, "type": kind, "param": None, "code": code}
        return msgspec.json.encode({"error": error})
