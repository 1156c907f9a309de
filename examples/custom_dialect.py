"""A wire API of your own behind the cache, in sixty lines: a translation service.

``POST /v1/translate`` with ``{"model", "text", "target"}`` is answered with ``{"translation"}``.
Call :func:`add` before the first request, then wrap the app in ``RouteCacheMiddleware`` as usual.
"""

import json
from collections.abc import Mapping

from routecache_middleware.core.dialect import Field, Judgement, ParsedRequest, Role, names
from routecache_middleware.core.models import DiscardReason, ResponseMode
from routecache_middleware.dialects.table import register

FIELDS = {
    "model": Field(Role.KEY),
    "text": Field(Role.KEY),
    "target": Field(Role.KEY, "the language to translate to, such as `de`"),
    "request_id": Field(Role.IGNORED, "never changes a translation"),
}


class Translate:
    """What the cache has to know of the API; every field it does not name counts."""

    name, verb, path_suffixes = "example.translate", "translate", ("/v1/translate",)
    fields: Mapping[str, Field] = FIELDS
    ignored_fields = names(FIELDS, Role.IGNORED)
    sampling_fields = names(FIELDS, Role.SAMPLING)

    def parse(self, payload: Mapping[str, object]) -> ParsedRequest | None:
        """Read a request; None when it is not one of ours."""
        model, text = payload.get("model"), payload.get("text")
        if not isinstance(model, str) or not isinstance(text, str):
            return None
        return ParsedRequest(model, ResponseMode.JSON, "json", is_deterministic=True)

    def keyed(self, payload: Mapping[str, object]) -> Mapping[str, object]:
        """Return the request as the key sees it: ``de`` and ``DE`` are one language."""
        target = payload.get("target")
        return {**payload, "target": target.lower()} if isinstance(target, str) else payload

    def conversation(self, payload: Mapping[str, object]) -> object:
        """Return what a router decides on."""
        return payload.get("target")

    def judge(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> Judgement:
        """Say whether an answer is complete; no bytes may make this raise."""
        try:
            is_whole = mode is request.mode and bool(json.loads(body)["translation"])
        except (ValueError, TypeError, KeyError, RecursionError):
            is_whole = False
        return Judgement(None if is_whole else DiscardReason.INCOMPLETE)

    def render(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> bytes | None:
        """Convert a stored answer: there is one form only."""
        return body if mode is request.mode else None

    def error_body(self, message: str, *, kind: str, code: str) -> bytes:
        """Return an error as this API words it."""
        return json.dumps({"error": message, "kind": kind, "code": code}).encode()


def add() -> None:
    """Make the API known."""
    register(Translate.name, Translate, suffixes=Translate.path_suffixes)
