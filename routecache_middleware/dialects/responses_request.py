"""Requests of OpenAI's Responses API: which fields count, and what makes a request uncacheable."""

from collections.abc import Iterator, Mapping
from typing import Final

from routecache_middleware.core.dialect import Field, Role
from routecache_middleware.core.models import BypassReason
from routecache_middleware.dialects.openai_request import objects
from routecache_middleware.dialects.prompts import is_remote, size_class

__all__ = ["FIELDS", "conversation_of", "input_items", "obstacle", "unmarked"]

_MARK = "prompt_cache_breakpoint"
_CLIENT_TOOLS = ("function", "custom")  # the client runs these; every other type the server runs
_TEXTS = ("input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text")
_NESTS = ("content", "output")  # where an item holds parts

_KEY = Field(Role.KEY)
_SAMPLING = Field(Role.SAMPLING)
_SHAPE = Field(Role.IGNORED, "one entry serves both wire forms")
# The answer repeats what the caller wrote: who sent something else would read it there.
_ECHO = Field(Role.SAMPLING, "the answer repeats it")

FIELDS: Final[Mapping[str, Field]] = {
    "background": Field(Role.BYPASS, "if true: the answer is fetched later"),
    "context_management": _KEY,
    "conversation": Field(Role.BYPASS, "unless null: the server holds it"),
    "include": _KEY,
    "input": Field(
        Role.BYPASS,
        "with media at a remote URL, with references to items that the server holds, or with tools "
        "that it runs; `prompt_cache_breakpoint` in a content part is left out of the key",
    ),
    "instructions": _KEY,
    "max_output_tokens": _KEY,
    "max_tool_calls": _KEY,
    "metadata": _ECHO,
    "model": _KEY,
    "moderation": Field(Role.KEY, "adds its result to the answer"),
    "parallel_tool_calls": _KEY,
    "previous_response_id": Field(Role.BYPASS, "unless null: the server holds the conversation"),
    "prompt": Field(Role.BYPASS, "without `version`, or with media at a remote URL: it can change"),
    "prompt_cache_key": _ECHO,
    "prompt_cache_options": _ECHO,
    "prompt_cache_retention": _ECHO,
    "reasoning": _KEY,
    "safety_identifier": _ECHO,
    "service_tier": Field(Role.IGNORED, "price and latency; the answer tells the original one"),
    "store": Field(Role.BYPASS, "unless false: the answer could be continued by its id"),
    "stream": _SHAPE,
    "stream_options": _SHAPE,
    "temperature": _SAMPLING,
    "text": _KEY,
    "tool_choice": _KEY,
    "tools": Field(Role.BYPASS, "with one that the server runs: neither function nor custom"),
    "top_logprobs": _SAMPLING,
    "top_p": _SAMPLING,
    "truncation": _KEY,
    "user": _ECHO,
}
"""Responses: of openai-python 2.54."""


def input_items(payload: Mapping[str, object]) -> list[dict[str, object]] | None:
    """Return the input as a list of items; None when it is none, or says nothing.

    Only a prompt template may stand for the input.
    """
    value = payload.get("input")
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if value is None and payload.get("prompt") is not None:
        return []
    return objects(value) or None


def obstacle(
    payload: Mapping[str, object], items: list[dict[str, object]], tools: list[dict[str, object]]
) -> BypassReason | None:
    """Return why a cache must not answer: state elsewhere, or an answer that time changes."""
    prompt = payload.get("prompt")
    if (
        payload.get("previous_response_id") is not None
        or payload.get("conversation") is not None
        or any(_is_reference(item) for item in items)
    ):
        return BypassReason.STATEFUL
    if payload.get("background"):
        return BypassReason.BACKGROUND
    if prompt is not None and not (isinstance(prompt, dict) and prompt.get("version")):
        return BypassReason.MUTABLE_PROMPT
    if not all(tool.get("type") in _CLIENT_TOOLS for tool in _all_tools(items, tools)):
        return BypassReason.SERVER_TOOLS
    variables = prompt.get("variables") if isinstance(prompt, dict) else None
    if _has_remote_variable(variables) or any(
        is_remote(item.get(name), texts=_TEXTS)
        for item in items
        for name in _NESTS
        if not isinstance(item.get(name), str)
    ):
        return BypassReason.REMOTE_MEDIA
    # The default is to store, and who gets a stored id can go on from it.
    return None if payload.get("store") is False else BypassReason.STORE


def unmarked(payload: Mapping[str, object]) -> Mapping[str, object]:
    """Return the request without the marks that only steer OpenAI's prompt cache."""
    items = objects(payload.get("input")) or []
    if not any(_MARK in part for part in _parts(items)):
        return payload
    return {**payload, "input": [_without_marks(item) for item in items]}


def conversation_of(payload: Mapping[str, object]) -> object:
    """Return what stays the same over the turns of a conversation."""
    items = input_items(payload) or []
    users = (item for item in items if item.get("role") == "user")
    text = payload.get("text")
    kind = text.get("format") if isinstance(text, dict) else None
    return {
        "model": payload.get("model"),
        "system": [payload.get("instructions"), payload.get("prompt")]
        + [item for item in items if item.get("role") in ("system", "developer")],
        "tools": payload.get("tools"),
        "user": next(users, None),
        "has_images": any("image" in str(part.get("type")) for part in _parts(items)),
        "has_tools": bool(payload.get("tools")),
        "response_format": kind.get("type") if isinstance(kind, dict) else None,
        "size": size_class(items),
    }


def _is_reference(item: dict[str, object]) -> bool:
    """Whether an item names what the server holds, in place of being it."""
    kind = item.get("type")
    if kind == "reasoning":
        return not (item.get("encrypted_content") or item.get("content"))
    return kind == "item_reference" or (kind is None and "role" not in item)


def _all_tools(
    items: list[dict[str, object]], tools: list[dict[str, object]]
) -> Iterator[dict[str, object]]:
    """Yield the tools of a request, and those that items of its input bring along."""
    yield from tools
    for item in items:
        if "tools" in item:
            yield from objects(item["tools"]) or [{}]  # what is no list of tools is none of ours


def _has_remote_variable(variables: object) -> bool:
    """Whether a variable of a prompt template is media at a remote URL; text is only read."""
    values = variables.values() if isinstance(variables, dict) else ()
    return any(is_remote(value, texts=_TEXTS) for value in values if not isinstance(value, str))


def _parts(items: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    for item in items:
        for name in _NESTS:
            parts = item.get(name)
            if isinstance(parts, list):
                yield from (part for part in parts if isinstance(part, dict))


def _without_marks(item: dict[str, object]) -> dict[str, object]:
    kept = dict(item)
    for name in _NESTS:
        parts = item.get(name)
        if isinstance(parts, list):
            kept[name] = [
                {n: v for n, v in part.items() if n != _MARK} if isinstance(part, dict) else part
                for part in parts
            ]
    return kept
