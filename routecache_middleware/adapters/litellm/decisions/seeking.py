"""One request on its way to a decision: kept, shared with others, or the strategy's own."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import msgspec

from routecache_middleware.adapters.litellm.decisions.access import has_direct_access
from routecache_middleware.adapters.litellm.decisions.complexity import Watch, watching
from routecache_middleware.adapters.litellm.decisions.kinds import Kind
from routecache_middleware.adapters.litellm.decisions.known import Known
from routecache_middleware.adapters.litellm.decisions.replay import (
    Replay,
    changes,
    decision_of,
    pack,
    plain_record,
    snapshot,
    unpack,
)
from routecache_middleware.adapters.litellm.decisions.request import Request
from routecache_middleware.core.budget import use_budget
from routecache_middleware.core.choices import DecisionScope
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import Entry, Outcome, RoutingDecision
from routecache_middleware.core.records import Provenance, decision_entry, read_decision

__all__ = ["Case", "Routed", "Seeking"]


class Case(msgspec.Struct, frozen=True):
    """What is asked, of whom, and for whom.

    Attributes:
        kind: Which strategy.
        strategy: LiteLLM's object.
        router: The Router, or None where it cannot be found out.
        known: What is known of the strategy.
        request: What it is asked.
        scope: What the key covers.
        key: The key.
        tenant: Whose it is.
        router_version: Of our settings.
    """

    kind: Kind
    strategy: Any
    router: Any
    known: Known
    request: Request
    scope: DecisionScope
    key: CacheKey
    tenant: str
    router_version: str


class Routed(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        replay: How to do the same for another request; None: it cannot be done.
        decision: What to store; None: not to be kept.
        outcome: How it came.
        created_s: When a stored one was made, Unix seconds.
    """

    replay: Replay | None
    decision: RoutingDecision | None
    outcome: Outcome = Outcome.MISS
    created_s: float = 0.0


class Seeking:
    """A :class:`routecache_middleware.engine.wanted.Wanted` for one request.

    Attributes:
        has_made: Whether the strategy was asked for this request, and answered.
        response: What it answered.
        error: What it raised.
    """

    layer: ClassVar[Layer] = Layer.ROUTING
    tags: tuple[str, ...] = ()
    ttl_s: float | None = None
    refresh = False
    store = True

    def __init__(self, case: Case, ask: Callable[[], Awaitable[Any]]) -> None:
        self.case = case
        self.key = case.key
        self.tenant = case.tenant
        self.has_made = False
        self.response: Any = None
        self.error: BaseException | None = None
        self._ask = ask
        self._refused_s = 0.0

    def refuse(self, routed: Routed) -> None:
        """A stored decision will not do: look for a newer one, or make one."""
        self._refused_s = max(self._refused_s, routed.created_s)

    def read(self, entry: Entry, age_s: float) -> Routed | None:
        """Take the decision out of an entry."""
        if entry.created_s <= self._refused_s:
            return None
        decision = read_decision(entry, age_s)
        replay = unpack(decision.detail)
        if replay is None or replay.model != decision.selected_model:
            return None
        return Routed(replay, decision, Outcome.HIT, entry.created_s)

    async def make(self) -> Routed:
        """Ask the strategy."""
        case, watch = self.case, Watch()
        before = snapshot(case.request)
        token = watching.set(watch)
        started_s = time.perf_counter()
        try:
            with use_budget(None):  # ours is for our own waits
                self.response = await self._ask()
        except BaseException as error:
            self.error = error
            raise
        finally:
            watching.reset(token)
        self.has_made = True
        elapsed_ms = (time.perf_counter() - started_s) * 1000
        case.known.learn(elapsed_ms)
        return self._routed(changes(before, case.request), elapsed_ms, watch)

    def write(self, value: Routed, made: Provenance) -> Entry | None:
        """Put a decision into an entry, if it is one to keep."""
        return None if value.decision is None else decision_entry(value.decision, made)

    def models(self, value: Routed | None) -> tuple[str, ...]:
        """The group that was chosen."""
        replay = None if value is None else value.replay
        return () if replay is None or replay.model is None else (replay.model,)

    def mark(self, value: Routed, outcome: Outcome) -> Routed:
        """Say how it came."""
        return msgspec.structs.replace(value, outcome=outcome)

    def _routed(self, stamps: Any, elapsed_ms: float, watch: Watch) -> Routed:
        case, response = self.case, self.response
        if stamps is None:
            return Routed(None, None)
        if response is None:
            return Routed(Replay(None, {}, None, stamps), None)
        record = plain_record(response.routing_decision)
        replay = Replay(
            response.model,
            record,
            response.session_affinity_ttl_seconds,
            stamps,
            has_direct_access(case.request, response.model, case.router),
        )
        expected = case.kind.params(case.strategy, response.model, record, case.request)
        if dict(response.litellm_params or {}) != dict(expected or {}):
            return Routed(None, None)
        is_kept = not watch.has_failed and case.kind.is_kept(record, case.scope)
        detail = pack(replay) if is_kept else None
        if detail is None:
            return Routed(replay, None)
        decision = decision_of(
            replay,
            detail=detail,
            strategy=f"litellm.{case.kind.name}",
            router_version=case.router_version,
            decide_ms=elapsed_ms,
        )
        return Routed(replay, decision)
