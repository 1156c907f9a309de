"""A gateway in a thread, and how its parts are asked over real connections."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from routecache_middleware.core.models import Entry
from routecache_middleware.gateway.app import Gateway
from routecache_middleware.gateway.settings import GatewaySettings
from tests.clients.serving import serve

__all__ = ["CHAT", "COMPLETION", "KEY", "chat", "gateway", "running", "stored_by"]

KEY = "sk-client-0123456789"
CHAT = "/v1/chat/completions"
COMPLETION = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m-upstream",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Rome."},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }
).encode()


def gateway(
    environ: dict[str, str] | None = None, store: str | None = None, **settings: Any
) -> Gateway:
    """Return a gateway that reads no environment but the one given, and uses no proxy."""
    made = GatewaySettings(use_environment_proxy=False, **settings)
    return Gateway(made, store=store, environ=environ or {})


@contextmanager
def running(made: Gateway) -> Iterator[httpx.Client]:
    """Serve a gateway, and ask it."""
    with (
        serve(made.app) as server,
        httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client,
    ):
        yield client


def chat(client: httpx.Client, content: str = "Capital of Italy?", **fields: Any) -> httpx.Response:
    """Ask for a chat completion."""
    headers = fields.pop("headers", {"authorization": f"Bearer {KEY}"})
    body = {"model": "m", "messages": [{"role": "user", "content": content}]} | fields
    return client.post(CHAT, json=body, headers=headers)


def stored_by(made: Gateway, monkeypatch: pytest.MonkeyPatch) -> list[Entry]:
    """Return the list of what a gateway stores from now on."""
    stored: list[Entry] = []
    put = made.cache.engine.put

    async def watched(key: Any, entry: Entry, **options: Any) -> Any:
        stored.append(entry)
        return await put(key, entry, **options)

    monkeypatch.setattr(made.cache.engine, "put", watched)
    return stored
