"""Questions to a proxy through the SDKs of OpenAI and Anthropic, and what came back, comparable."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.adapters.litellm.proxy import Proxy

__all__ = ["APIS", "TOOLS", "Api", "Told", "outcome"]

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "clock",
            "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}},
        },
    }
]


@dataclass(frozen=True)
class Told:
    """What a client was told.

    Attributes:
        plain: Everything in the answer that does not depend on how it was cut in pieces.
        headers: Of the response; names in lower case.
        pieces: Events of a stream; 0 without one.
    """

    plain: dict[str, Any]
    headers: Mapping[str, str]
    pieces: int = 0

    @property
    def call_id(self) -> str:
        """LiteLLM's id of the call."""
        return self.headers["x-litellm-call-id"]


@dataclass(frozen=True)
class Api:
    """One of the APIs that the proxy serves, and the model group that answers there."""

    name: str
    path: str
    group: str
    send: Callable[..., Any] = field(repr=False)
    fold: Callable[[Iterable[Any]], dict[str, Any]] = field(repr=False)

    def ask(
        self,
        proxy: Proxy,
        text: str,
        *,
        key: str,
        stream: bool = False,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Told:
        """Ask something.

        Args:
            proxy: Whom.
            text: What.
            key: The credential.
            stream: Whether the answer shall come as a stream.
            headers: Further request headers.
            fields: Further fields of the request; ``model`` replaces the group.
        """
        client = proxy.anthropic(key) if self.name == "messages" else proxy.openai(key)
        fields = {"model": self.group, "extra_headers": headers, **fields}
        with client:
            raw = self.send(client, text, stream, fields)
            if not stream:
                return Told(_whole(raw.parse().model_dump()), raw.headers)
            events = list(raw.parse())
        return Told(self.fold(events), raw.headers, len(events))


def outcome(told: Told) -> str:
    """How it came: ``HIT``, ``MISS``, ... or nothing."""
    return told.headers.get("x-routecache", "")


def _whole(plain: dict[str, Any]) -> dict[str, Any]:
    if plain.get("object") == "response":
        del plain["id"]  # LiteLLM encrypts it anew for whom it is sent to
    return plain


def _send_chat(client: Any, text: str, stream: bool, fields: dict[str, Any]) -> Any:  # noqa: FBT001
    if stream:
        fields.setdefault("stream_options", {"include_usage": True})
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.with_raw_response.create(
        messages=messages, stream=stream, **fields
    )


def _send_text(client: Any, text: str, stream: bool, fields: dict[str, Any]) -> Any:  # noqa: FBT001
    if stream:
        fields.setdefault("stream_options", {"include_usage": True})
    return client.completions.with_raw_response.create(prompt=text, stream=stream, **fields)


def _send_response(client: Any, text: str, stream: bool, fields: dict[str, Any]) -> Any:  # noqa: FBT001
    fields.setdefault("store", False)  # those that the provider keeps are not for the cache
    return client.responses.with_raw_response.create(input=text, stream=stream, **fields)


def _send_message(client: Any, text: str, stream: bool, fields: dict[str, Any]) -> Any:  # noqa: FBT001
    messages = [{"role": "user", "content": text}]
    return client.messages.with_raw_response.create(
        messages=messages, max_tokens=100, stream=stream, **fields
    )


def _send_embedding(client: Any, text: str, stream: bool, fields: dict[str, Any]) -> Any:  # noqa: FBT001
    assert not stream
    return client.embeddings.with_raw_response.create(input=text, **fields)


def _fold_chat(chunks: Iterable[Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"content": "", "calls": {}, "usage": None, "finish_reason": None}
    for chunk in chunks:
        told["id"], told["model"] = chunk.id, chunk.model
        told["usage"] = _usage(chunk) or told["usage"]
        for choice in chunk.choices:
            told["content"] += choice.delta.content or ""
            told["finish_reason"] = choice.finish_reason or told["finish_reason"]
            for call in choice.delta.tool_calls or ():
                one = told["calls"].setdefault(call.index, {"id": "", "name": "", "arguments": ""})
                one["id"] += call.id or ""
                one["name"] += call.function.name or ""
                one["arguments"] += call.function.arguments or ""
    return told


def _fold_text(chunks: Iterable[Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"text": "", "usage": None, "finish_reason": None}
    for chunk in chunks:
        told["id"], told["model"] = chunk.id, chunk.model
        told["usage"] = _usage(chunk) or told["usage"]
        for choice in chunk.choices:
            told["text"] += choice.text or ""
            told["finish_reason"] = choice.finish_reason or told["finish_reason"]
    return told


def _usage(chunk: Any) -> dict[str, int] | None:
    if getattr(chunk, "usage", None) is None:
        return None
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: getattr(chunk.usage, name) for name in names}


def _fold_response(events: Iterable[Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"deltas": "", "types": set()}
    for event in events:
        told["types"].add(event.type)
        if event.type == "response.output_text.delta":
            told["deltas"] += event.delta
        if event.type == "response.completed":
            told["response"] = _whole(event.response.model_dump())
    return told


def _fold_message(events: Iterable[Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"blocks": {}, "types": []}
    for event in events:
        told["types"].append(event.type)
        if event.type == "message_start":
            told["message"] = event.message.model_dump()
        elif event.type == "content_block_start":
            told["blocks"][event.index] = [event.content_block.model_dump(), ""]
        elif event.type == "content_block_delta":
            delta = event.delta
            piece = delta.text if delta.type == "text_delta" else delta.partial_json
            told["blocks"][event.index][1] += piece
        elif event.type == "message_delta":
            told["end"] = event.model_dump()
    return told


def _no_stream(events: Iterable[Any]) -> dict[str, Any]:
    raise AssertionError(f"embeddings do not stream: {events}")


APIS = {
    api.name: api
    for api in (
        Api("chat", "/chat/completions", "chat", _send_chat, _fold_chat),
        Api("text", "/completions", "text", _send_text, _fold_text),
        Api("responses", "/responses", "chat", _send_response, _fold_response),
        Api("messages", "/messages", "claude", _send_message, _fold_message),
        Api("embeddings", "/embeddings", "embed", _send_embedding, _no_stream),
    )
}
