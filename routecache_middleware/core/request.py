"""LLMRequest: what a router is shown of a request."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from routecache_middleware.core.models import ResponseMode

__all__ = ["LLMRequest"]


@dataclass(frozen=True)
class LLMRequest:
    """One request of a known dialect, before a model has been chosen.

    Its ``repr`` shows neither the prompt nor who is asking.

    Attributes:
        model: The requested model, as the client named it.
        dialect: Which API, such as ``openai.chat``.
        path: Path of the request.
        mode: Whether the client wants JSON or a stream.
        query_hash: The decision hash, 32 hex digits.
        tenant: On whose behalf; opaque.
        body: The body as it came, strict JSON.
    """

    model: str
    dialect: str
    path: str
    mode: ResponseMode
    query_hash: str
    tenant: str = field(repr=False)
    body: bytes = field(repr=False)

    @cached_property
    def payload(self) -> Mapping[str, object]:
        """The parsed body; parsed on first use."""
        payload: dict[str, object] = json.loads(self.body)
        return payload

    @property
    def messages(self) -> Sequence[Mapping[str, object]]:
        """The conversation of a chat request; empty for other APIs."""
        messages = self.payload.get("messages")
        return messages if isinstance(messages, list) else ()

    @cached_property
    def prompt_text(self) -> str:
        """Text of the last user message; without messages that of ``input`` or ``prompt``."""
        for message in reversed(self.messages):
            if isinstance(message, Mapping) and message.get("role") == "user":
                return _text(message.get("content"))
        return _text(self.payload.get("input", self.payload.get("prompt")))


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") if isinstance(part, dict) else part for part in content]
    return "\n".join(part for part in parts if isinstance(part, str))
