"""What both lanes do with an engine."""

from collections.abc import Coroutine
from typing import Any

import msgspec

from routecache_middleware.adapters.litellm.sync.query import Query
from routecache_middleware.core.directives import NO_DIRECTIVES
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import Entry, MissReason, Outcome, Position, Scope
from routecache_middleware.core.plan import Forward, Serve
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.lookup import Lookup

__all__ = ["checked", "failed", "is_current_since", "judge", "look_up", "look_up_now"]

_RESULT = Layer.RESULT


def look_up_now(engine: Engine, query: Query) -> Lookup | None:
    """Look up without waiting; None where that cannot be."""
    if query.former or query.asked is not NO_DIRECTIVES:
        return None
    return engine.lookup_now(_RESULT, query.key, model=query.model, verb=query.verb)


def look_up(engine: Engine, query: Query) -> Coroutine[Any, Any, Lookup]:
    """Look up."""
    return engine.lookup(
        _RESULT,
        query.key,
        asked=query.asked,
        model=query.model,
        verb=query.verb,
        former=query.former,
        tenant=query.tenant,
    )


def judge(engine: Engine, main: Engine, query: Query, entry: Entry) -> Serve | Forward:
    """Whether an entry that was made for another caller may be served to this one."""
    if not main.is_current(query.key, entry):
        return Forward(MissReason.INVALIDATED)
    return engine.judge(query.key, entry, query.asked)


def is_current_since(
    engines: tuple[Engine, ...], key: CacheKey, scopes: tuple[Scope, ...], since: Position
) -> bool:
    """Whether nothing was invalidated since, as far as any of them knows."""
    return all(engine.is_current_since(key, scopes, since) for engine in engines)


def checked(main: Engine, key: CacheKey, found: Lookup) -> Lookup:
    """What was found, unless the cache's own engine knows better."""
    if not isinstance(found.plan, Serve) or main.is_current(key, found.plan.entry):
        return found
    return msgspec.structs.replace(
        found, plan=Forward(MissReason.INVALIDATED), outcome=Outcome.MISS
    )


def failed(engine: Engine) -> Lookup:
    """Return a lookup that came to nothing."""
    return Lookup(Forward(MissReason.ABSENT), Outcome.ERROR, engine.table.position, "")
