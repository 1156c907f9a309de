"""Errors that the gateway itself answers with, in the shape of the API that was asked."""

from typing import NamedTuple

from routecache_middleware.adapters.asgi.types import Message, Scope
from routecache_middleware.dialects.table import load, match
from routecache_middleware.gateway.headers import is_anthropic

__all__ = ["Refusal", "refusal_messages"]


class Refusal(NamedTuple):
    """Why a request gets no answer of a model.

    Attributes:
        status: HTTP status code.
        kind: The error's type, a word that both APIs know or may take for an unknown one.
        code: What OpenAI's shape has besides.
        message: What a person reads; no credential, no prompt.
        headers: Further header fields.
    """

    status: int
    kind: str
    code: str
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


def refusal_messages(scope: Scope, refusal: Refusal) -> list[Message]:
    """Return the response to a request that is refused."""
    dialect = match("POST", scope["path"])
    if dialect is None:
        name = "anthropic.messages" if is_anthropic(scope["path"], scope["headers"]) else None
        dialect = load(name or "openai.chat")
    body = dialect.error_body(refusal.message, kind=refusal.kind, code=refusal.code)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *refusal.headers,
    ]
    sent = b"" if scope["method"] == "HEAD" else body
    return [
        {"type": "http.response.start", "status": refusal.status, "headers": headers},
        {"type": "http.response.body", "body": sent, "more_body": False},
    ]
