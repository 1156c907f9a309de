"""What there is to ask, and whom: found out from the request before anybody is asked."""

import hashlib
from collections.abc import AsyncIterator
from typing import NamedTuple

from routecache_middleware.adapters.asgi.state import RouteCacheState
from routecache_middleware.adapters.asgi.types import Scope
from routecache_middleware.core.models import ResponseMode
from routecache_middleware.core.request import LLMRequest
from routecache_middleware.dialects.table import match, path_model
from routecache_middleware.gateway.answers import Refusal
from routecache_middleware.gateway.body import Incoming, TooLargeError, model_of, renamed
from routecache_middleware.gateway.catalogue import Catalogue, Target

__all__ = ["Content", "Question", "content_for", "question_of", "state_of"]

Content = bytes | AsyncIterator[bytes]

_SHOWN_CHARS = 100


class Question(NamedTuple):
    """What there is to ask.

    Attributes:
        chain: Whom, one after the other.
        model: The model that the request names, or empty where that does not matter.
        content: The body, whole or piece by piece.
    """

    chain: tuple[Target, ...]
    model: str
    content: Content


async def question_of(catalogue: Catalogue, scope: Scope, incoming: Incoming) -> Question | Refusal:
    """Return what a request asks for.

    Where the model does not matter, its body is not waited for.

    Raises:
        ClientLeftError: It was never complete.
    """
    body = await incoming.begin()
    if catalogue.is_single and catalogue.default is not None:
        return Question((catalogue.default,), "", incoming.pieces() if body is None else body)
    model = path_model(scope["path"])
    if _is_json(scope):
        try:
            body = await incoming.whole() if body is None else body
        except TooLargeError:
            return Refusal(
                413, "invalid_request_error", "request_too_large", "the request body is too large"
            )
        model = model or await model_of(body) or ""
    chain = _chain(catalogue, scope, _routed(catalogue, scope, model, body or b""))
    if not chain:
        return _unknown(catalogue, model)
    if body is None:  # what is passed on piece by piece cannot be sent a second time
        return Question(chain[:1], model, incoming.pieces())
    return Question(chain, model, body)


async def content_for(question: Question, target: Target, path: str) -> Content | Refusal:
    """Return the body for one of those who are asked: each knows the model by a name of its own."""
    wanted = target.rename or target.model
    if not question.model or wanted in {"", question.model}:
        return question.content
    if path_model(path) or not isinstance(question.content, bytes):
        return Refusal(
            400,
            "invalid_request_error",
            "model_in_path",
            f"the path names the model {question.model[:_SHOWN_CHARS]!r}, so that it cannot be "
            "asked for under another name",
        )
    return await renamed(question.content, wanted)


def state_of(scope: Scope) -> RouteCacheState | None:
    """Return what the cache above says of a request; None when it has nothing to do with it."""
    found = (scope.get("state") or {}).get("routecache")
    return found if isinstance(found, RouteCacheState) else None


def _is_json(scope: Scope) -> bool:
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return scope["method"] == "POST" and any(b"json" in kind.lower() for kind in kinds)


def _routed(catalogue: Catalogue, scope: Scope, model: str, body: bytes) -> str:
    """Return the model to ask for: that of a rule, for an alias that the cache has let pass."""
    if model not in catalogue.aliases:
        return model
    asked = LLMRequest(
        model=model,
        dialect="",
        path=scope["path"],
        mode=ResponseMode.JSON,
        query_hash=hashlib.blake2b(body, digest_size=16).hexdigest(),
        tenant="",
        body=body,
    )
    try:
        return catalogue.router.decide(asked).selected_model
    except LookupError:
        return model


def _chain(catalogue: Catalogue, scope: Scope, model: str) -> tuple[Target, ...]:
    if not model:
        return () if catalogue.default is None else (catalogue.default,)
    state = state_of(scope)
    decision = None if state is None else state.decision
    others = () if decision is None else tuple(name for name, _ in decision.alternatives)
    chain = catalogue.chain(model, others)
    dialect = match(scope["method"], scope["path"])
    if dialect is not None and dialect.verb == "embeddings":
        return chain[:1]  # another model's vectors do not compare with this one's
    return chain


def _unknown(catalogue: Catalogue, model: str) -> Refusal:
    names = ", ".join(catalogue.listed) or "none"
    shown = repr(model[:_SHOWN_CHARS])
    what = "the request names no model"
    if model in catalogue.aliases:
        what = f"no rule of {shown} fits this request"
    elif model:
        what = f"the gateway has no model {shown}"
    return Refusal(
        404, "not_found_error", "model_not_found", f"{what}; those that can be named are: {names}"
    )
