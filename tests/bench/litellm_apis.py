"""What each API of LiteLLM's proxy is asked in the benchmark, and who answers."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.adapters.litellm.provider import Answer, Provider
from tests.bench.servers import LOAD_CPU, serving
from tests.bench.targets import ANSWER_BYTES, CHAT_PATH, MODEL, REQUEST_BYTES, request_body

__all__ = ["APIS", "Api"]


@dataclass(frozen=True)
class Api:
    """One of them.

    Attributes:
        path: Where it is asked.
        body: What.
        provider: LiteLLM's word for who answers.
        is_bare: A bare server gives the answer, which can stand the load of a proxy without cache.
    """

    path: str
    body: bytes
    provider: str = "openai"
    is_bare: bool = False

    @contextlib.contextmanager
    def answering(self) -> Iterator[dict[str, Any]]:
        """Run who answers; yields the deployment's ``litellm_params``."""
        params = {"model": f"{self.provider}/{MODEL}", "api_key": "upstream"}
        if self.is_bare:
            with serving("bare", cpu=LOAD_CPU) as server:
                yield {**params, "api_base": f"http://127.0.0.1:{server.port}/v1"}
            return
        with Provider() as provider:
            provider.always(Answer(text=("why " * ANSWER_BYTES)[: ANSWER_BYTES - 200]))
            base = provider.origin if self.provider == "anthropic" else provider.url
            yield {**params, "api_base": base}


# It starts with "@", the load generator's place for a number.
_TEXT = ("@ " + "why " * REQUEST_BYTES)[: REQUEST_BYTES - 100]
_TALK = [{"role": "user", "content": _TEXT}]


def _request(**fields: Any) -> bytes:
    return json.dumps({"model": MODEL, **fields}).encode()


APIS = {
    "chat": Api(CHAT_PATH, request_body(), is_bare=True),
    "text": Api("/v1/completions", _request(prompt=_TEXT), "text-completion-openai"),
    "embeddings": Api("/v1/embeddings", _request(input=_TEXT)),
    "responses": Api("/v1/responses", _request(input=_TEXT, store=False)),
    "messages": Api("/v1/messages", _request(messages=_TALK, max_tokens=256), "anthropic"),
}
"""By name; the answer has about as many bytes as that to a chat, but for embeddings' vectors."""
