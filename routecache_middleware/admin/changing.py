"""What the administration app does, and what it finds out about a request."""

from collections.abc import Mapping
from typing import Any, TypeGuard

import msgspec

from routecache_middleware.admin.targets import Target, WrongTargetError, read_target
from routecache_middleware.admin.values import Answer, Asked, refused
from routecache_middleware.core.explanation import RequestExplanation
from routecache_middleware.core.stats import CacheStats
from routecache_middleware.errors import ConfigurationError, CoordinatorError

__all__ = ["Explained", "Invalidation", "explain", "invalidate", "warm"]

_MOST_MODELS = 1_000
_FIELDS = ("body", "headers", "method", "neighbour", "path", "query_string", "tenant")


class Invalidation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was invalidated, or would be.

    ``at_most_entries`` is an upper bound: counting would be a scan. ``matched`` of the
    ``looked_at`` entries of a sample are covered. Without ``dry_run`` it has happened.
    """

    dry_run: bool
    covers: str
    at_most_entries: int | None = None
    matched: int | None = None
    looked_at: int | None = None
    scope: str | None = None
    position: int | None = None
    replicas_acknowledged: int | None = None


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a request: in words, and in full."""

    text: str
    explanation: RequestExplanation


class _WrongRequestError(ValueError):
    """The request makes no sense; the text says what does."""


async def invalidate(asked: Asked) -> Answer:
    """Invalidate, or say what would be; with ``dry_run`` (the default) nothing happens."""
    try:
        target = read_target(asked.body, asked.services.listing.key_of)
    except WrongTargetError as error:
        return refused(400, str(error))
    if target.is_dry_run:
        return Answer(await _tried(asked, target))
    try:
        report = await target.run(asked.cache)
    except CoordinatorError as error:
        await _note(asked, "invalidate", target.covers, "not recorded yet; in force here")
        message = "it holds in this process; recording it failed and is tried again"
        return refused(503, f"{error}: {message}")
    except BaseException as error:  # called off, say: it may hold all the same
        outcome = f"ended by {type(error).__name__}; it may hold"
        await _note(asked, "invalidate", target.covers, outcome)
        raise
    await _note(asked, "invalidate", target.covers, "done")
    return Answer(
        Invalidation(
            dry_run=False,
            covers=target.covers,
            scope=report.scope,
            position=report.position,
            replicas_acknowledged=report.replicas_acknowledged,
        )
    )


async def warm(asked: Asked) -> Answer:
    """Load and store the metadata of models ahead of need."""
    load, models = asked.services.load, asked.body.get("models")
    if load is None:
        return refused(409, "nothing says how to load a model; pass load= to create_admin")
    if not _is_names(models) or len(asked.body) > 1:
        return refused(400, f"send models alone: a list of 1 to {_MOST_MODELS:,} names")
    report = await asked.cache.warm(models, load=load)
    outcome = "done" if not report.failed else f"{len(report.failed)} of them failed"
    await _note(asked, "warm", f"{report.requested} models", outcome)
    return Answer(report)


async def explain(asked: Asked) -> Answer:
    """Say what would become of a request, and why; nothing is stored or counted."""
    try:
        given = _request(asked.body)
    except _WrongRequestError as error:
        return refused(400, str(error))
    try:
        found = await asked.cache.explain(**given)
    except ConfigurationError as error:
        return refused(409, str(error))
    return Answer(Explained(text=str(found), explanation=found))


def _is_names(models: object) -> TypeGuard[list[str]]:
    if not isinstance(models, list) or not 0 < len(models) <= _MOST_MODELS:
        return False
    return all(isinstance(one, str) and one for one in models)


def _request(body: Mapping[str, object]) -> dict[str, Any]:
    """Return what ``RouteCache.explain`` takes.

    Raises:
        _WrongRequestError: It makes no sense.
    """
    for name in body:
        if name not in _FIELDS:
            known = ", ".join(_FIELDS)
            raise _WrongRequestError(f"there is no field {name[:40]!r}; known are {known}")
    path = body.get("path", "/v1/chat/completions")
    if not isinstance(path, str) or not path.startswith("/"):
        raise _WrongRequestError("path has to begin with a slash")
    given: dict[str, Any] = {"path": path, "body": _bytes("body", body.get("body", {}))}
    headers = body.get("headers", {})
    if not isinstance(headers, Mapping) or not all(isinstance(v, str) for v in headers.values()):
        raise _WrongRequestError("headers has to be an object of texts")
    given["headers"] = dict(headers)
    for name in ("method", "query_string", "tenant"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise _WrongRequestError(f"{name} has to be text")
        given[name] = value.encode("utf-8", "surrogatepass") if name == "query_string" else value
    if body.get("neighbour") is not None:
        given["neighbour"] = _bytes("neighbour", body["neighbour"])
    return given


def _bytes(name: str, value: object) -> bytes:
    """Return a request's body: as it is when given as text, else as JSON."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, Mapping):
        return msgspec.json.encode(value)
    raise _WrongRequestError(f"{name} has to be an object, or its JSON as text")


async def _tried(asked: Asked, target: Target) -> Invalidation:
    sample = await asked.services.listing.sample()
    every = [pair for found in sample.found.values() for pair in found]
    matched = sum(
        target.is_hit(key, entry) and asked.cache.engine.is_current(key, entry)
        for key, entry in every
    )
    return Invalidation(
        dry_run=True,
        covers=target.covers,
        at_most_entries=_at_most(asked.cache.stats(), target),
        matched=matched,
        looked_at=len(every),
    )


def _at_most(found: CacheStats, target: Target) -> int:
    """Return an upper bound: what an invalidation covers is not counted, which would be a scan."""
    if target.is_one_entry:
        return 1
    if target.layer is not None:
        return found.layer(target.layer).entries
    return found.total_keys


async def _note(asked: Asked, action: str, what: str, outcome: str) -> None:
    await asked.services.audit.add(
        who=asked.who, client=asked.client, action=action, what=what, outcome=outcome
    )
