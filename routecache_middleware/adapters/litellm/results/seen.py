"""A call as the policy is asked about it: by what was requested, where, and with which words."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from routecache_middleware.adapters.litellm.results.apis import Api
from routecache_middleware.adapters.litellm.results.fields import Counts, counts
from routecache_middleware.adapters.litellm.results.values import plain
from routecache_middleware.core.canonical import DoubtfulJSONError, encode
from routecache_middleware.core.dialect import ParsedRequest
from routecache_middleware.core.fingerprint import Domain, new_hash
from routecache_middleware.core.request import LLMRequest

__all__ = ["Whereabouts", "requested_model", "requested_path", "seen"]

_FORM_FIELDS = frozenset({"stream", "stream_options"})
# LiteLLM's notes of who is asking, and with which key; what a client has put there lies among them.
_NOTES = frozenset({"metadata", "litellm_metadata"})


class Whereabouts(NamedTuple):
    """What of a request its arguments do not say by themselves.

    Attributes:
        model: The model that was asked for.
        path: Where, or empty.
        tenant: On whose behalf.
        secret: Deployment secret that keys hashes, at most 64 bytes.
    """

    model: str
    path: str
    tenant: str
    secret: bytes


def requested_model(kwargs: Mapping[str, Any], routed: Mapping[str, Any] | None) -> str:
    """Return the model that was asked for: with a Router the group or alias that it was given.

    After a fallback it is still the first one, as the caller knows of no other.

    Args:
        kwargs: All arguments of the call.
        routed: What a Router has noted of it, or None.
    """
    noted = routed or {}
    for group in (noted.get("original_model_group"), noted.get("model_group")):
        if isinstance(group, str) and group:
            return group
    return str(kwargs.get("model") or "")


def requested_path(kwargs: Mapping[str, Any], api: Api) -> str:
    """Return the path that a request to the proxy came by, without the proxy's root; or empty.

    LiteLLM writes it itself, and lets no client write there.
    """
    notes = kwargs.get(api.metadata)
    path = notes.get("user_api_key_request_route") if isinstance(notes, Mapping) else None
    return path if isinstance(path, str) else ""


def seen(
    kwargs: Mapping[str, Any], api: Api, parsed: ParsedRequest, where: Whereabouts
) -> LLMRequest:
    """Return the request that a policy's ``decide`` is shown.

    Its body has what goes to the model: neither credentials, addresses and headers nor what is
    LiteLLM's own, and no ``metadata``.

    Raises:
        DoubtfulJSONError: Something of it is no JSON.
    """
    given = {name: value for name, value in kwargs.items() if _is_said(name, value, api)}
    body = plain({**given, "model": where.model})
    core = {name: value for name, value in body.items() if name not in api.not_decisive}
    state = new_hash(Domain.LITELLM, where.secret)
    state.update(encode(["query", api.name]) + encode(core))
    return LLMRequest(
        model=where.model,
        dialect=api.dialect,
        path=where.path,
        mode=parsed.mode,
        query_hash=state.hexdigest(),
        tenant=where.tenant,
        body=_json(body),
    )


def _is_said(name: str, value: object, api: Api) -> bool:
    if value is None or name in _NOTES:
        return False
    if name in _FORM_FIELDS or name in api.counted or name in api.ignored:
        return True
    return counts(name) is Counts.ALWAYS


def _json(body: object) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (ValueError, RecursionError):  # a lone surrogate; its text would quote it
        pass
    raise DoubtfulJSONError("the request has text that is not Unicode")
