"""What is stored for a request for several things at once: each of them is looked at by itself."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from routecache_middleware.core.batch import Batched
from routecache_middleware.core.budget import open_budget
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.core.directives import Directives
from routecache_middleware.core.keys import CacheKey, result_key
from routecache_middleware.core.models import Entry, MissReason
from routecache_middleware.core.plan import Forward, Proceed, Serve
from routecache_middleware.core.records import with_tenant
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.identify import Several
from routecache_middleware.wiring.inspecting import Inspector

__all__ = ["Inputs", "go_together", "look_at_inputs"]

_KEYS = 128  # asked for at once: about 1 MB of embeddings, as requests do it
_MANY = 128  # answers that take a millisecond to put together


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is stored for each of them.

    Attributes:
        keys: Their keys, in order; equal ones have one key.
        plans: By key, whether its answer may be served.
    """

    keys: tuple[CacheKey, ...]
    plans: dict[CacheKey, Serve | Forward]

    @property
    def served(self) -> list[Serve]:
        """Those that have an answer, in order."""
        found = map(self.plans.__getitem__, self.keys)
        return [plan for plan in found if isinstance(plan, Serve)]

    @property
    def wanted(self) -> tuple[int, ...]:
        """Places of the others, each once."""
        firsts = {key: place for place, key in reversed(list(enumerate(self.keys)))}
        missed = [key for key, plan in self.plans.items() if isinstance(plan, Forward)]
        return tuple(sorted(firsts[key] for key in missed))

    def reason(self, plan: Proceed) -> MissReason | None:
        """Why they cannot all be served; None when nothing speaks against it yet."""
        missed = [one for one in self.plans.values() if isinstance(one, Forward)]
        if not plan.may_look_up:
            return MissReason.REQUEST
        if len(missed) == len(self.plans):
            return missed[0].reason
        if not plan.may_convert:  # what was put together is nothing that anybody has sent
            return MissReason.CONVERSION
        return MissReason.PARTIAL if missed else None


async def look_at_inputs(
    engine: Engine,
    inspector: Inspector,
    found: Several,
    asked: Directives,
    *,
    model: str,
    tenant: str,
    former_tenants: Sequence[str],
) -> Inputs:
    """Look at what is stored for each, as far as the coordinator says it in time."""
    keys = tuple([result_key(item, model, tenant) for item in found.items])
    each = dict.fromkeys(keys)
    asked = replace(asked, max_stale_s=0.0)  # what is stale is asked for, with what is missing
    entries = await _read(engine, inspector, list(each))
    plans = {key: engine.judge(key, entries[key], asked) for key in each}
    for items, owner in zip(found.former_items, former_tenants, strict=True):
        old = dict(zip(keys, [result_key(item, model, owner) for item in items], strict=True))
        missed = [key for key, plan in plans.items() if isinstance(plan, Forward)]
        entries = await _read(engine, inspector, [old[key] for key in missed])
        for key in missed:
            entry = entries[old[key]]
            owned = None if entry is None else with_tenant(entry, tenant)
            if owned is not None and engine.is_current(old[key], owned):
                plans[key] = engine.judge(key, owned, asked)
    return Inputs(keys, plans)


async def _read(
    engine: Engine, inspector: Inspector, keys: Sequence[CacheKey]
) -> dict[CacheKey, Entry | None]:
    """Read a handful at a time; a coordinator that has answered gets the whole time again."""
    found: dict[CacheKey, Entry | None] = {}
    for start in range(0, len(keys), _KEYS):
        some = keys[start : start + _KEYS]
        with open_budget(engine.settings.coordinator_timeout_s):
            found |= zip(some, await inspector.entries(some), strict=True)
    return found


async def go_together(engine: Engine, dialect: Dialect, found: Several, inputs: Inputs) -> bool:
    """Whether one answer can be made of the answers to all of them."""
    bodies = [serve.entry.body for serve in inputs.served]
    assert isinstance(dialect, Batched)  # noqa: S101 - else it would not be a request for several
    is_large = sum(map(len, bodies)) > engine.settings.hash_in_thread_bytes
    if is_large or len(bodies) > _MANY:
        made = await asyncio.to_thread(dialect.put_together, bodies, found.parsed)
    else:
        made = dialect.put_together(bodies, found.parsed)
    return made is not None
