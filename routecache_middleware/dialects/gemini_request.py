"""Requests in Gemini's form: which fields count, and what makes a request uncacheable.

Google takes every name in two spellings, ``camelCase`` and ``snake_case``.
"""

import re
from collections.abc import Mapping
from typing import Final

from routecache_middleware.core.dialect import Field, ParsedRequest, Role
from routecache_middleware.core.models import BypassReason, ResponseMode
from routecache_middleware.dialects.openai_request import objects
from routecache_middleware.dialects.prompts import size_class

__all__ = ["FIELDS", "conversation_of", "read_request"]

_KEY = Field(Role.KEY)
_TIER = Field(Role.IGNORED, "price and latency; either spelling")
FIELDS: Final[Mapping[str, Field]] = {
    "cachedContent": Field(Role.BYPASS, "unless empty: refers to what the server holds"),
    "contents": Field(Role.BYPASS, "with `fileData`: what is at its URI can change"),
    "generationConfig": Field(
        Role.BYPASS,
        "with `responseModalities` other than text and images, `speechConfig` or "
        "`continuationToken`; the sampling parameters are in it",
    ),
    "labels": Field(Role.IGNORED, "break down the bill"),
    "model": Field(Role.KEY, "the one in the path counts"),
    "modelArmorConfig": _KEY,
    "safetySettings": _KEY,
    "serviceTier": _TIER,
    "service_tier": _TIER,
    "store": Field(Role.BYPASS, "if true: the server keeps the answer"),
    "systemInstruction": Field(Role.BYPASS, "as `contents`"),
    "toolConfig": _KEY,
    "tools": Field(
        Role.BYPASS,
        "other than `functionDeclarations` and `computerUse`: the server runs them, and sees what "
        "changes with time",
    ),
}

_SPELLINGS: Final = {
    name: (name, re.sub("([A-Z])", r"_\1", name).lower())
    for name in (
        "cachedContent",
        "candidateCount",
        "computerUse",
        "continuationToken",
        "fileData",
        "functionDeclarations",
        "generationConfig",
        "responseJsonSchema",
        "responseMimeType",
        "responseModalities",
        "speechConfig",
        "systemInstruction",
    )
}
_FILES = frozenset(_SPELLINGS["fileData"])
_CLIENT_TOOLS = frozenset(_SPELLINGS["functionDeclarations"] + _SPELLINGS["computerUse"])
_MODALITIES = ("TEXT", "IMAGE")
_SHAPES = ("json", "array", "stream")

Object = Mapping[str, object]


def read_request(payload: Object) -> ParsedRequest | None:
    """Read a request; None when it does not have this API's form."""
    contents, tools = objects(payload.get("contents")), objects(payload.get("tools") or [])
    config, model = _member(payload, "generationConfig"), payload.get("model")
    config, shape = {} if config is None else config, payload.get("stream")
    if not isinstance(model, str) or not contents or tools is None or not isinstance(config, dict):
        return None
    choices, temperature = _member(config, "candidateCount"), config.get("temperature")
    choices = 1 if choices is None else choices
    if isinstance(choices, bool) or not isinstance(choices, int) or choices < 1:
        return None
    if isinstance(temperature, bool) or not isinstance(temperature, int | float | None):
        return None
    if any(
        name in place and other in place for place in (payload, config) for name, other in _BOTH
    ):
        return None  # said twice, it is anybody's guess which of them counts
    is_known = shape in _SHAPES
    return ParsedRequest(
        model=model,
        mode=ResponseMode.STREAM if shape == "stream" else ResponseMode.JSON,
        shape=str(shape),
        choices=choices,
        temperature=temperature,
        is_deterministic=temperature == 0 or config.get("seed") is not None,
        bypass=_obstacle(payload, config, tools) if is_known else BypassReason.CONTENT_TYPE,
    )


def conversation_of(payload: Object) -> object:
    """Return what stays the same over the turns of a conversation."""
    contents = objects(payload.get("contents")) or []
    users = (content for content in contents if content.get("role") in ("user", None))
    config = _member(payload, "generationConfig")
    config = config if isinstance(config, dict) else {}
    return {
        "model": payload.get("model"),
        "system": _member(payload, "systemInstruction"),
        "tools": payload.get("tools"),
        "user": next(users, None),
        "has_media": _holds(contents, _MEDIA),
        "has_tools": bool(payload.get("tools")),
        "response_format": _member(config, "responseMimeType"),
        "size": size_class(contents),
    }


_BOTH = [pair for pair in _SPELLINGS.values() if pair[0] != pair[1]]
_MEDIA = _FILES | {"inlineData", "inline_data"}


def _obstacle(
    payload: Object, config: Object, tools: list[dict[str, object]]
) -> BypassReason | None:
    """Return why a cache must not answer: state elsewhere, or an answer that time changes."""
    if _member(payload, "cachedContent") or _member(config, "continuationToken"):
        return BypassReason.STATEFUL
    if payload.get("store"):
        return BypassReason.STORE
    if _has_audio(config):
        return BypassReason.AUDIO
    used = {name for tool in tools for name, value in tool.items() if value is not None}
    if not used <= _CLIENT_TOOLS:
        return BypassReason.SERVER_TOOLS
    if _holds([payload["contents"], _member(payload, "systemInstruction")], _FILES):
        return BypassReason.REMOTE_MEDIA
    return None


def _has_audio(config: Object) -> bool:
    modalities = _member(config, "responseModalities") or []
    is_plain = isinstance(modalities, list) and all(kind in _MODALITIES for kind in modalities)
    return not is_plain or _member(config, "speechConfig") is not None


def _holds(value: object, wanted: frozenset[str]) -> bool:
    """Whether one of some members is anywhere in a value."""
    pending = [value]  # not recursive: a client decides how deep it goes
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            if not wanted.isdisjoint(value):
                return True
            pending += value.values()
    return False


def _member(value: Object, name: str) -> object:
    """Return a member in whichever spelling it has, or None."""
    usual, other = _SPELLINGS[name]
    found = value.get(usual)
    return value.get(other) if found is None else found
