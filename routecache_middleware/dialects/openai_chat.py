"""OpenAI chat completions: ``POST /v1/chat/completions``, as OpenAI and its many likes speak it."""

import re
from collections.abc import Iterator, Mapping

import msgspec

from routecache_middleware.core.canonical import encode
from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.core.models import BypassReason, ResponseMode
from routecache_middleware.dialects.openai_judge import judge_json, judge_stream
from routecache_middleware.dialects.openai_stream import aggregate, replay, reshape

__all__ = ["OpenAIChat"]

_CLIENT_TOOLS = ("function", "custom")  # the client runs these; every other type the server runs
_SMALL = 6  # 4 ** 7 is 16 KiB: in smaller contexts each early turn would be a class of its own
_TEXT_PARTS = ("text", "refusal")
_REMOTE = re.compile(r"\s*(?!data:)[a-z][a-z0-9+.\-]{0,30}://", re.IGNORECASE)


class OpenAIChat:
    """The dialect; see :class:`~routecache_middleware.core.dialect.Dialect`."""

    __slots__ = ()

    name = "openai.chat"
    verb = "chat"
    path_suffixes = ("/v1/chat/completions",)
    ignored_fields = frozenset(
        {
            "metadata",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",  # price and latency
            "stream",  # one entry serves both wire forms
            "stream_options",
            "user",
        }
    )
    sampling_fields = frozenset(
        {
            "frequency_penalty",
            "logit_bias",
            "logprobs",
            "min_p",
            "n",
            "presence_penalty",
            "seed",
            "stop",
            "temperature",
            "top_k",
            "top_logprobs",
            "top_p",
        }
    )

    def parse(self, payload: Mapping[str, object]) -> ParsedRequest | None:
        """Read a request; None when it does not have this API's form."""
        model = payload.get("model")
        messages = _objects(payload.get("messages"))
        tools = _objects(payload.get("tools") or [])
        shape = _shape(payload.get("stream"), payload.get("stream_options"))
        if not isinstance(model, str) or not messages or tools is None or shape is None:
            return None
        choices = payload.get("n")
        choices = 1 if choices is None else choices
        if isinstance(choices, bool) or not isinstance(choices, int) or choices < 1:
            return None
        temperature = payload.get("temperature")
        if isinstance(temperature, bool) or not isinstance(temperature, int | float | None):
            return None
        return ParsedRequest(
            model=model,
            mode=ResponseMode.JSON if shape == "json" else ResponseMode.STREAM,
            shape=shape,
            choices=choices,
            temperature=temperature,
            is_deterministic=temperature == 0 or payload.get("seed") is not None,
            bypass=_bypass(payload, messages, tools),
        )

    def conversation(self, payload: Mapping[str, object]) -> object:
        """Return what stays the same over the turns of a conversation."""
        messages = _objects(payload.get("messages")) or []
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
            "size": max(_SMALL, (len(encode(messages)).bit_length() - 1) // 2),
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
        error = {"message": message, "type": kind, "param": None, "code": code}
        return msgspec.json.encode({"error": error})


def _shape(stream: object, options: object) -> str | None:
    """Return the token of the wire form that is asked for; None when it makes no sense."""
    if not (stream is None or isinstance(stream, bool)):
        return None
    if not (options is None or isinstance(options, dict)):
        return None
    if not stream:
        return "json"
    asked = {name for name, value in (options or {}).items() if value not in (None, False)}
    asked.discard("include_obfuscation")  # padding against traffic analysis, dropped on conversion
    if not asked:
        return "stream"
    # Options of single upstreams, such as vLLM's continuous_usage_stats, make shapes of their own.
    return "+".join(["stream", *sorted("usage" if n == "include_usage" else n for n in asked)])


def _bypass(
    payload: Mapping[str, object],
    messages: list[dict[str, object]],
    tools: list[dict[str, object]],
) -> BypassReason | None:
    """Return why a cache must not answer: state elsewhere, or an answer that time changes."""
    if payload.get("store"):
        return BypassReason.STORE
    if payload.get("web_search_options") is not None:
        return BypassReason.WEB_SEARCH
    if _has_audio(payload, messages):
        return BypassReason.AUDIO
    if any(tool.get("type") not in _CLIENT_TOOLS for tool in tools):
        return BypassReason.SERVER_TOOLS
    if any(_is_remote(part) for part in _parts(messages)):
        return BypassReason.REMOTE_MEDIA
    return None


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


def _is_remote(part: object) -> bool:
    """Whether a content part names something that is fetched later: it can change meanwhile."""
    pending = [part]  # not recursive: a client decides how deep it goes
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            if _REMOTE.match(value):
                return True
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, dict) and value.get("type") not in _TEXT_PARTS:
            pending += value.values()
    return False


def _objects(value: object) -> list[dict[str, object]] | None:
    """Return a list of objects as such; None when it is anything else."""
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return value
    return None
