"""OpenAI chat completions: ``POST /v1/chat/completions``, as OpenAI and its many likes speak it."""

from collections.abc import Iterator, Mapping

from routecache_middleware.core.dialect import Judgement, ParsedRequest, Role, names
from routecache_middleware.core.models import BypassReason, ResponseMode
from routecache_middleware.core.searching import searches_the_web
from routecache_middleware.dialects.openai_fields import CHAT_FIELDS
from routecache_middleware.dialects.openai_judge import judge_json, judge_stream
from routecache_middleware.dialects.openai_request import error_body, objects, read_request
from routecache_middleware.dialects.openai_stream import aggregate, replay, reshape
from routecache_middleware.dialects.prompts import is_remote, size_class

__all__ = ["OpenAIChat"]

_CLIENT_TOOLS = ("function", "custom")  # the client runs these; every other type the server runs
_HELPERS = ("data_sources", "plugins")  # what Azure and OpenRouter look up on the server's side
_SEARCHES = ("web_search_options", "search_parameters")
_MARK = "prompt_cache_breakpoint"
_TEXT_PARTS = ("text", "refusal")


class OpenAIChat:
    """The dialect; see :class:`~routecache_middleware.core.dialect.Dialect`."""

    __slots__ = ()

    name = "openai.chat"
    verb = "chat"
    path_suffixes: tuple[str, ...] = (
        "/v1/chat/completions",
        "/engines/{model}/chat/completions",
        "/openai/deployments/{model}/chat/completions",
    )
    fields = CHAT_FIELDS
    ignored_fields = names(CHAT_FIELDS, Role.IGNORED)
    sampling_fields = names(CHAT_FIELDS, Role.SAMPLING)

    def parse(self, payload: Mapping[str, object]) -> ParsedRequest | None:
        """Read a request; None when it does not have this API's form."""
        messages = objects(payload.get("messages"))
        tools = objects(payload.get("tools") or [])
        if not messages or tools is None:
            return None
        return read_request(payload, bypass=_bypass(payload, messages, tools))

    def keyed(self, payload: Mapping[str, object]) -> Mapping[str, object]:
        """Return the request without the marks that only steer OpenAI's prompt cache."""
        messages = objects(payload.get("messages")) or []
        if not _is_marked(messages):
            return payload
        return {**payload, "messages": [_unmarked(message) for message in messages]}

    def conversation(self, payload: Mapping[str, object]) -> object:
        """Return what stays the same over the turns of a conversation."""
        messages = objects(payload.get("messages")) or []
        users = (message for message in messages if message.get("role") == "user")
        kind = payload.get("response_format")
        return {
            "model": payload.get("model"),
            "system": [m for m in messages if m.get("role") in ("system", "developer")],
            "tools": [payload.get("tools"), payload.get("functions")],
            "user": next(users, None),
            "has_images": any("image" in str(part.get("type")) for part in _parts(messages)),
            "has_tools": bool(payload.get("tools") or payload.get("functions")),
            "response_format": kind.get("type") if isinstance(kind, dict) else None,
            "size": size_class(messages),
        }

    def judge(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> Judgement:
        """Say whether ``body`` is a complete, successful answer; never raises."""
        if mode is ResponseMode.JSON:
            return judge_json(body, request.choices)
        return judge_stream(body, request.choices)

    def render(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> bytes | None:
        """Turn a stored body into the shape of ``request``, or None."""
        from_json = mode is ResponseMode.JSON
        match request.shape:
            case "json":
                return body if from_json else aggregate(body)
            case "stream":
                return replay(body) if from_json else reshape(body)
            case "stream+usage":
                convert = replay if from_json else reshape
                return convert(body, with_usage=True)
            case _:
                return None

    def error_body(self, message: str, *, kind: str, code: str) -> bytes:
        """Return an error in OpenAI's JSON shape."""
        return error_body(message, kind=kind, code=code)


def _bypass(
    payload: Mapping[str, object],
    messages: list[dict[str, object]],
    tools: list[dict[str, object]],
) -> BypassReason | None:
    """Return why a cache must not answer: state elsewhere, or an answer that time changes."""
    if any(payload.get(name) is not None for name in _SEARCHES) or _searches(payload):
        return BypassReason.WEB_SEARCH
    if _has_audio(payload, messages):
        return BypassReason.AUDIO
    if any(tool.get("type") not in _CLIENT_TOOLS for tool in tools) or _has_helpers(payload):
        return BypassReason.SERVER_TOOLS
    media = [part for part in _parts(messages) if part.get("type") not in _TEXT_PARTS]
    if any(is_remote(part, texts=_TEXT_PARTS) for part in media):
        return BypassReason.REMOTE_MEDIA
    # The last, because a policy may disregard it.
    return BypassReason.STORE if payload.get("store") else None


def _searches(payload: Mapping[str, object]) -> bool:
    model = payload.get("model")
    return isinstance(model, str) and searches_the_web(model)


def _has_helpers(payload: Mapping[str, object]) -> bool:
    return any(payload.get(name) is not None for name in _HELPERS)


def _has_audio(payload: Mapping[str, object], messages: list[dict[str, object]]) -> bool:
    modalities = payload.get("modalities")
    return (
        payload.get("audio") is not None
        or (isinstance(modalities, list) and "audio" in modalities)
        or any(message.get("audio") is not None for message in messages)  # an earlier answer's id
    )


def _parts(messages: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    """Yield the content parts that are objects, of every message that has parts."""
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            yield from (part for part in content if isinstance(part, dict))


def _is_marked(messages: list[dict[str, object]]) -> bool:
    for message in messages:  # plain loops: this is done for every request
        content = message.get("content")
        if isinstance(content, list):
            for part in content:
                if isinstance(part, dict) and _MARK in part:
                    return True
    return False


def _unmarked(message: dict[str, object]) -> dict[str, object]:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return message | {"content": [_without_mark(part) for part in content]}


def _without_mark(part: object) -> object:
    if isinstance(part, dict) and _MARK in part:
        return {name: value for name, value in part.items() if name != _MARK}
    return part
