"""Requests in Anthropic's form: which fields count, and what makes a request uncacheable."""

from collections.abc import Iterator, Mapping
from typing import Final

from routecache_middleware.core.dialect import Field, Role
from routecache_middleware.core.models import BypassReason
from routecache_middleware.dialects.openai_request import objects
from routecache_middleware.dialects.prompts import size_class

__all__ = ["COUNT_FIELDS", "MESSAGE_FIELDS", "conversation_of", "obstacle", "unmarked"]

_MARK = "cache_control"
_NESTS = ("content", "source", "tool_references")  # where a content block holds others
_DEPTH = 12  # tool result > search result > document > source > block; deeper marks are left alone
_INLINE = ("base64", "content", "file", "text")  # a file never changes under its id
_STATE = ("container", "diagnostics", "fallback_credit_token", "thread")
# Of the tools that Anthropic defines these run where the client is; all others, present and to
# come, run at the server and see what changes with time.
_CLIENT_TOOLS = ("bash_", "browser_", "computer_", "memory_", "text_editor_")

_KEY = Field(Role.KEY)
_SAMPLING = Field(Role.SAMPLING)
_STATEFUL = Field(Role.BYPASS, "unless null: refers to state that the server holds")

COUNT_FIELDS: Final[Mapping[str, Field]] = {
    _MARK: Field(
        Role.IGNORED,
        "steers the provider's prompt cache: price and latency; also where it marks a tool or a "
        "content block",
    ),
    "billing_policy": Field(Role.PARTITION, "who pays for it"),
    "compaction": _KEY,
    "context_management": _KEY,
    "mcp_servers": Field(Role.BYPASS, "unless empty: the server runs their tools"),
    "messages": Field(
        Role.BYPASS, "with a source at a URL; `content` as text equals one text block"
    ),
    "model": _KEY,
    "output_config": _KEY,
    "speed": _KEY,
    "system": Field(Role.BYPASS, "with a source at a URL"),
    "thinking": _KEY,
    "thread": _STATEFUL,
    "tool_choice": _KEY,
    "tools": _KEY,
}
"""Counting tokens: of anthropic-sdk-python 2.12, its beta included."""

MESSAGE_FIELDS: Final[Mapping[str, Field]] = {
    **COUNT_FIELDS,
    "container": _STATEFUL,
    "diagnostics": Field(Role.BYPASS, "unless null: compares the request with an earlier one"),
    "fallback_credit_token": Field(Role.BYPASS, "unless null: can be redeemed once"),
    "fallbacks": _KEY,
    "inference_geo": Field(Role.PARTITION, "where the data may go"),
    "max_tokens": Field(Role.BYPASS, "if 0: only warms the provider's prompt cache"),
    "metadata": Field(Role.IGNORED, "names the end user to the provider, for abuse detection"),
    "service_tier": Field(Role.IGNORED, "price and latency; the answer tells the original one"),
    "stop_sequences": _SAMPLING,
    "stream": Field(Role.IGNORED, "one entry serves both wire forms"),
    "temperature": _SAMPLING,
    "tools": Field(Role.BYPASS, "with one that the server runs, such as `web_search_*`"),
    "top_k": _SAMPLING,
    "top_p": _SAMPLING,
    "user_profile_id": Field(Role.PARTITION, "on whose behalf"),
}
"""Messages: of anthropic-sdk-python 2.12, its beta included."""


def obstacle(
    payload: Mapping[str, object], messages: list[dict[str, object]], tools: list[dict[str, object]]
) -> BypassReason | None:
    """Return why a cache must not answer: state elsewhere, or an answer that time changes."""
    if any(payload.get(name) is not None for name in _STATE):
        return BypassReason.STATEFUL
    if payload.get("mcp_servers") or not all(_is_client_tool(tool) for tool in tools):
        return BypassReason.SERVER_TOOLS
    if any(_is_elsewhere(block.get("source")) for block in _blocks(payload, messages)):
        return BypassReason.REMOTE_MEDIA
    return None


def unmarked(payload: Mapping[str, object]) -> Mapping[str, object]:
    """Return the request without prompt-cache marks, and with every message's content a list.

    Only where the API puts marks are they taken out: a ``cache_control`` among the arguments of a
    tool, or in its schema, belongs to the tool.
    """
    # The field of that name is left out by the table.
    found = dict(payload)
    for name in ("system", "tools"):
        if isinstance(payload.get(name), list):
            found[name] = _without_marks(payload[name], _DEPTH)
    messages = objects(payload.get("messages"))
    if messages is not None:
        found["messages"] = [_message(message) for message in messages]
    return found


def conversation_of(payload: Mapping[str, object]) -> object:
    """Return what stays the same over the turns of a conversation."""
    messages = objects(payload.get("messages")) or []
    users = (message for message in messages if message.get("role") == "user")
    config = payload.get("output_config")
    kind = config.get("format") if isinstance(config, dict) else None
    return {
        "model": payload.get("model"),
        "system": payload.get("system"),
        "tools": payload.get("tools"),
        "user": next(users, None),
        "has_images": any(
            block.get("type") in ("image", "document") for block in _blocks(payload, messages)
        ),
        "has_tools": bool(payload.get("tools")),
        "response_format": kind.get("type") if isinstance(kind, dict) else None,
        "size": size_class(messages),
    }


def _message(message: dict[str, object]) -> dict[str, object]:
    content = message.get("content")
    if isinstance(content, str):
        return message | {"content": [{"type": "text", "text": content}]}
    return message | {"content": _without_marks(content, _DEPTH)} if content else message


def _without_marks(value: object, depth: int) -> object:
    if depth == 0:
        return value
    if isinstance(value, list):
        return [_without_marks(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return {
            name: _without_marks(item, depth - 1) if name in _NESTS else item
            for name, item in value.items()
            if name != _MARK
        }
    return value


def _is_client_tool(tool: dict[str, object]) -> bool:
    kind = tool.get("type")
    return kind in (None, "custom") or (isinstance(kind, str) and kind.startswith(_CLIENT_TOOLS))


def _is_elsewhere(source: object) -> bool:
    return isinstance(source, dict) and source.get("type") not in _INLINE


def _blocks(
    payload: Mapping[str, object], messages: list[dict[str, object]]
) -> Iterator[dict[str, object]]:
    """Yield every content block of a prompt, those inside of others too."""
    pending = [payload.get("system"), *[message.get("content") for message in messages]]
    while pending:  # not recursive: a client decides how deep it goes
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            yield value
            pending += [value[name] for name in _NESTS if name in value]
