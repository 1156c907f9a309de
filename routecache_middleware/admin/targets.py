"""What an invalidation request asks for.

::

    {"model": "gpt-4o"}                          a model: decisions, answers, metadata, load
    {"model": "gpt-4o", "tenant": "t"}           the same, of one tenant
    {"tenant": "t"}   {"tag": "x"}   {"layer": "result"}   {"all": true}
    {"query": "<hash>", "tenant": "t"}                     one decision
    {"query": "<hash>", "model": "m", "tenant": "t"}       one answer
    {"entry": "<id>"}                                      one entry that was listed

and besides ``older_than`` (Unix seconds), ``router_version``, and ``dry_run``, which is true
unless the request says false.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TypedDict

from routecache_middleware.core.invalidation import (
    ALL,
    InvalidationRow,
    key_scope,
    layer_scope,
    model_scope,
    tag_scope,
    tenant_model_scope,
    tenant_scope,
)
from routecache_middleware.core.keys import CacheKey, Layer, result_key, route_key
from routecache_middleware.core.models import Entry, Scope
from routecache_middleware.core.reports import InvalidationReport
from routecache_middleware.wiring.cache import RouteCache

__all__ = ["Target", "WrongTargetError", "read_target"]

_TARGETS = ("all", "entry", "layer", "model", "query", "tag", "tenant")
_CONDITIONS = ("dry_run", "older_than", "router_version")
_COMBINED = ({"model", "tenant"}, {"model", "query"}, {"query", "tenant"})
_COMBINED_THREE = {"model", "query", "tenant"}


class WrongTargetError(ValueError):
    """The request makes no sense; the text says what does."""


class _Conditions(TypedDict):
    older_than: float | None
    router_version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What to invalidate.

    Attributes:
        covers: That in words.
        row: That as the invalidation log has it.
        run: Does it.
        is_dry_run: Whether it is only asked about.
        is_one_entry: Whether it is one entry at most.
        layer: The layer, when it is one.
    """

    covers: str
    row: InvalidationRow
    run: Callable[[RouteCache], Awaitable[InvalidationReport]]
    is_dry_run: bool
    is_one_entry: bool = False
    layer: Layer | None = None

    def is_hit(self, key: CacheKey, entry: Entry) -> bool:
        """Whether it covers an entry that is current now."""
        scopes = (ALL, layer_scope(entry.layer), key_scope(key), *entry.scopes)
        return self.row.scope in scopes and self.row.applies_to(entry)


def read_target(
    body: Mapping[str, object], key_of: Callable[[str], CacheKey | None] = lambda _: None
) -> Target:
    """Read a request. ``key_of`` knows the entries that were listed.

    Raises:
        WrongTargetError: It names nothing, too much or something unknown.
    """
    _check_names(body)
    # A null is no absence: a client that lost a tenant would drop what is of all of them.
    named = {name: body[name] for name in _TARGETS if name in body}
    words = {name: _word(name, value) for name, value in named.items() if name != "all"}
    is_dry_run = body.get("dry_run", True)
    if not isinstance(is_dry_run, bool):
        raise WrongTargetError(f"dry_run is {is_dry_run!r}; it has to be true or false")
    conditions = _conditions(body)
    if "all" in named:
        if named["all"] is not True or words:
            raise WrongTargetError("all has to be true, and alone")
        run = partial(RouteCache.invalidate_all, **conditions)
        row = _row(ALL, conditions)
        return Target(covers="everything", row=row, run=run, is_dry_run=is_dry_run)
    _check_combination(set(words))
    if "entry" in words:
        key = key_of(words["entry"])
        if key is None:
            raise WrongTargetError("there is no such entry in the latest list; list them again")
        return _listed(key, words["entry"], conditions, is_dry_run=is_dry_run)
    return _target(words, conditions, is_dry_run=is_dry_run)


def _target(words: dict[str, str], conditions: _Conditions, *, is_dry_run: bool) -> Target:
    owner = f" of tenant {words['tenant']}" if "tenant" in words else ""
    if "query" in words:
        return _one_entry(words, conditions, owner, is_dry_run=is_dry_run)
    if "model" in words:
        model, tenant = words["model"], words.get("tenant")
        scope = model_scope(model) if tenant is None else tenant_model_scope(tenant, model)
        return Target(
            covers=f"everything of model {model}{owner}",
            row=_row(scope, conditions),
            run=lambda cache: cache.invalidate_model(model, tenant=tenant, **conditions),
            is_dry_run=is_dry_run,
        )
    if "layer" in words:
        layer = _layer(words["layer"])
        return Target(
            covers=f"layer {layer.value}",
            row=_row(layer_scope(layer), conditions),
            run=lambda cache: cache.invalidate_layer(layer, **conditions),
            is_dry_run=is_dry_run,
            layer=layer,
        )
    if "tag" in words:
        tag = words["tag"]
        return Target(
            covers=f"everything with tag {tag}",
            row=_row(tag_scope(tag), conditions),
            run=lambda cache: cache.invalidate_tag(tag, **conditions),
            is_dry_run=is_dry_run,
        )
    tenant = words["tenant"]
    return Target(
        covers=f"everything{owner}",
        row=_row(tenant_scope(tenant), conditions),
        run=lambda cache: cache.invalidate_tenant(tenant, **conditions),
        is_dry_run=is_dry_run,
    )


def _one_entry(
    words: dict[str, str], conditions: _Conditions, owner: str, *, is_dry_run: bool
) -> Target:
    query, tenant, model = words["query"], words.get("tenant", ""), words.get("model")
    if model is None:
        return Target(
            covers=f"the routing decision for query {query}{owner}",
            row=_row(key_scope(route_key(query, tenant)), conditions),
            run=lambda cache: cache.invalidate_routing_decision(query, tenant=tenant, **conditions),
            is_dry_run=is_dry_run,
            is_one_entry=True,
        )
    return Target(
        covers=f"the answer of model {model} to query {query}{owner}",
        row=_row(key_scope(result_key(query, model, tenant)), conditions),
        run=lambda cache: cache.invalidate_query_result(query, model, tenant=tenant, **conditions),
        is_dry_run=is_dry_run,
        is_one_entry=True,
    )


def _listed(key: CacheKey, name: str, conditions: _Conditions, *, is_dry_run: bool) -> Target:
    row = _row(key_scope(key), conditions)

    async def run(cache: RouteCache) -> InvalidationReport:
        receipt = await cache.engine.invalidate([row])
        return InvalidationReport(row.scope, receipt.position, receipt.replicas_acknowledged)

    return Target(
        covers=f"entry {name}", row=row, run=run, is_dry_run=is_dry_run, is_one_entry=True
    )


def _row(scope: Scope, conditions: _Conditions) -> InvalidationRow:
    return InvalidationRow(scope, conditions["older_than"], conditions["router_version"])


def _check_names(body: Mapping[str, object]) -> None:
    known = (*_TARGETS, *_CONDITIONS)
    for name in body:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            remedy = f"did you mean {close[0]}?" if close else "known are " + ", ".join(known)
            raise WrongTargetError(f"there is no field {name[:40]!r}; {remedy}")


def _check_combination(names: set[str]) -> None:
    if not names:
        raise WrongTargetError("name what to invalidate: " + ", ".join(_TARGETS))
    if len(names) > 1 and names not in _COMBINED and names != _COMBINED_THREE:
        raise WrongTargetError(f"{' and '.join(sorted(names))} do not go together")


def _word(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise WrongTargetError(f"{name} has to be text")
    return value


def _layer(word: str) -> Layer:
    try:
        return Layer(word)
    except ValueError:
        raise WrongTargetError(f"layer has to be one of {', '.join(Layer)}") from None


def _conditions(body: Mapping[str, object]) -> _Conditions:
    older_than, version = body.get("older_than"), body.get("router_version")
    is_time = isinstance(older_than, int | float) and not isinstance(older_than, bool)
    if older_than is not None and not (is_time and math.isfinite(float(str(older_than)))):
        raise WrongTargetError("older_than has to be Unix seconds")
    if not isinstance(version, str | None):
        raise WrongTargetError("router_version has to be text")
    return {
        "older_than": None if older_than is None else float(str(older_than)),
        "router_version": version,
    }
