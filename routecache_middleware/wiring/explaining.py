"""What the cache would do with a request if it came now, and why, without doing it.

Nothing is counted, traced, stored or made; neither router nor app is asked. What a coordinator does
on every read it does here too: a memory store takes what was looked at for used. Nothing that a
request holds makes it raise, and what a coordinator does not say in time is left out, saying so.
"""

from collections.abc import Sequence
from dataclasses import replace

from msgspec import structs

from routecache_middleware.core.budget import open_budget
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.explanation import RequestExplanation, shown
from routecache_middleware.core.keys import CacheKey, Layer, result_key, route_key
from routecache_middleware.core.models import BypassReason, Entry, MissReason, Outcome
from routecache_middleware.core.plan import Forward, Proceed, Serve, plan_lookup
from routecache_middleware.core.reasons import meaning
from routecache_middleware.core.records import scopes_of, with_tenant
from routecache_middleware.core.searching import searches_the_web
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.identify import Identified, Several
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.comparing import Comparison
from routecache_middleware.wiring.inspecting import Inspector
from routecache_middleware.wiring.several import go_together, look_at_inputs
from routecache_middleware.wiring.understanding import (
    Question,
    Setup,
    Understood,
    aside,
    bypassed,
    understand,
)

__all__ = ["explain"]

_UNDECIDED = (
    "No routing decision is stored, so the router is asked first; the answer depends on it."
)
_UNASKED = (
    "No routing decision is stored, and the router is not asked where only a stored answer will do."
)
_SERVED = "The stored answer is served."
_SERVED_STALE = "The stored answer is served although it is past its lifetime, and is made anew."
_REFUSED = "The client takes only a stored answer (only-if-cached), so it gets status 504."
_TOGETHER = "The stored answers to all {count} inputs are served, put together."
_SOME = "{known} of {count} inputs have a stored answer; "
_REST = "the others are asked for."
_FIXED = "as a header names this body, all are asked for."
_SHARED = "The answer is being made right now, for another request, which this one would share."


async def explain(setup: Setup, question: Question) -> RequestExplanation:
    """Explain a request; never raises for what is in it, nor for a coordinator that fails."""
    inspector = Inspector(setup.engine)
    try:
        understood = await understand(setup, question)
        if isinstance(understood, RequestExplanation):
            return _unless_refused(setup, question, understood)
        with open_budget(setup.engine.settings.coordinator_timeout_s):
            said = await _Inquiry(setup, inspector, question, understood).run()
        return _unless_refused(setup, question, said)
    except Exception as error:  # noqa: BLE001 - a dialect of the user's, or a wrong setting
        said = RequestExplanation(outcome=Outcome.BYPASS, dialect=question.dialect.name)
        kind = type(error).__name__
        trouble = f"{kind}: {error}" if isinstance(error, ConfigurationError) else kind
        return replace(bypassed(said, BypassReason.INTERNAL_ERROR), trouble=trouble)


def _unless_refused(
    setup: Setup, question: Question, said: RequestExplanation
) -> RequestExplanation:
    """Say of a request that takes only a stored answer that it is not forwarded."""
    is_served = said.outcome in (Outcome.HIT, Outcome.STALE)
    if is_served or not _takes_stored_only(setup.engine, question):
        return said
    return replace(said, outcome=Outcome.MISS, because=f"{said.because} {_REFUSED}")


def _takes_stored_only(engine: Engine, question: Question) -> bool:
    return question.directives.only_if_cached and engine.mode not in (Mode.SHADOW, Mode.OFF)


class _Inquiry:
    """One request to be explained, whose body could be read."""

    def __init__(
        self, setup: Setup, inspector: Inspector, question: Question, understood: Understood
    ) -> None:
        self._engine = setup.engine
        self._inspector = inspector
        self._others = Comparison(setup, inspector, question, understood.parts)
        self._question = question
        self._known = understood
        self._said = understood.said

    async def run(self) -> RequestExplanation:
        plan, found = self._known.plan, self._known.found
        model: str | None = found.parsed.model
        if self._known.is_routed and self._question.tenant:
            model = await self._decide(found)
            if model and (reason := self._forbids(model)):
                self._end(Outcome.BYPASS, reason)
                return replace(self._said, trouble=self._inspector.trouble)
        if isinstance(plan, Proceed) and model is not None:
            await self._look(plan, found, model)
        elif isinstance(plan, Proceed) and self._inspector.trouble:  # nothing more is asked
            self._end(Outcome.ERROR, BypassReason.COORDINATOR_ERROR)
        if self._engine.mode is Mode.SHADOW and isinstance(plan, Proceed):
            self._end(Outcome.BYPASS, BypassReason.SHADOW)
        if self._question.neighbour is not None:
            self._say(neighbour=await self._others.given(self._question.neighbour))
        return replace(self._said, trouble=self._inspector.trouble)

    def _forbids(self, model: str) -> BypassReason | None:
        """Why the answers of the model that the router chose are not cached, or None."""
        if not self._engine.policies.allow(model, self._question.path):
            return BypassReason.POLICY
        return BypassReason.WEB_SEARCH if searches_the_web(model) else None

    async def _decide(self, found: Identified) -> str | None:
        """Find out where the request is routed; None when the router has to say."""
        key = route_key(found.fingerprint.decision, self._question.tenant)
        (entry,) = await self._inspector.entries([key])
        # In write_only mode decisions are not reused either.
        is_reused = self._engine.may_read(Layer.ROUTING)
        model = self._others.chosen(key, entry) if is_reused else None
        self._say(
            routed_model=shown(model or ""),
            decision=self._inspector.describe_decision(key, entry, model or ""),
        )
        plan = self._known.plan
        if isinstance(plan, Proceed) and model is None:
            is_asked = not _takes_stored_only(self._engine, self._question)
            reason, because = MissReason.ABSENT, _UNDECIDED if is_asked else _UNASKED
            if is_reused and self._inspector.decision(key, entry) is not None:
                reason, because = MissReason.INELIGIBLE, meaning(MissReason.INELIGIBLE)
            elif not plan.may_look_up:
                reason = MissReason.REQUEST
            self._end(Outcome.MISS, reason)
            self._say(because=because)
        return model

    async def _look(self, plan: Proceed, found: Identified, model: str) -> None:
        """Look for the answer as a request would, and on a miss for what comes near."""
        if not self._question.is_accepted:
            self._say(looks_up=False, serves=False, shares=False)
            self._end(Outcome.MISS, MissReason.UNAUTHORISED)
            return
        key = result_key(found.fingerprint.result, model, self._question.tenant)
        if isinstance(found, Several):
            await self._look_at_inputs(plan, key, found, model)
            return
        keys = (key, *self._former_keys(found, model))
        entries = await self._inspector.entries(keys)
        if self._inspector.trouble and plan.may_look_up:
            self._end(Outcome.ERROR, BypassReason.COORDINATOR_ERROR)
            return
        served = await self._judge(plan, keys, entries)
        if served is not None:
            outcome = Outcome.STALE if served.is_stale else Outcome.HIT
            because = _SERVED_STALE if served.is_stale else _SERVED
            self._say(outcome=outcome, reason="", because=because)
            return
        self._look_at_flight(plan, key, found, model)
        self._look_back(key)
        if self._question.neighbour is None:
            self._say(neighbour=await self._others.nearest())

    async def _look_at_inputs(
        self, plan: Proceed, key: CacheKey, found: Several, model: str
    ) -> None:
        """Look for the answer to each input, as such a request would."""
        question, asked = self._question, self._known.directives
        inputs = await look_at_inputs(
            self._engine,
            self._inspector,
            found,
            asked,
            model=model,
            tenant=question.tenant,
            former_tenants=question.former_tenants,
        )
        if self._inspector.trouble and plan.may_look_up:
            self._end(Outcome.ERROR, BypassReason.COORDINATOR_ERROR)
            return
        known, count = len(inputs.served), len(inputs.keys)
        self._say(inputs=count, known_inputs=known)
        reason = inputs.reason(plan)
        if reason is None and await go_together(self._engine, question.dialect, found, inputs):
            because = _TOGETHER.format(count=count)
            self._say(outcome=Outcome.HIT, reason="", because=because)
            return
        self._end(Outcome.MISS, reason or MissReason.CONVERSION)
        mark = ""
        if reason is MissReason.PARTIAL:
            ends = _FIXED if question.is_fixed else _REST
            self._say(because=_SOME.format(known=known, count=count) + ends)
            if not question.is_fixed:
                mark = "|" + ",".join(map(str, inputs.wanted))
                if asked.max_age_s is not None or asked.min_fresh_s:
                    plan = structs.replace(plan, may_share=False)  # others' parts may be older
        self._look_at_flight(plan, key, found, model, mark)
        self._look_back(key)

    async def _judge(
        self, plan: Proceed, keys: Sequence[CacheKey], entries: Sequence[Entry | None]
    ) -> Serve | None:
        """Say which answer would be served; None: none, and why is said."""
        judged = self._planned(plan, keys[0], keys[0], entries[0])
        answer = self._inspector.describe(keys[0], entries[0])
        for key, entry in zip(keys[1:], entries[1:], strict=True):  # under former secrets
            if entry is not None and not isinstance(judged, Serve):
                owned = with_tenant(entry, self._question.tenant)
                judged = self._planned(plan, keys[0], key, owned)
                answer = self._inspector.describe(key, owned)
        self._say(answer=answer)
        reason = MissReason.REQUEST
        if isinstance(judged, Forward):
            reason = judged.reason if plan.may_look_up else reason
        elif plan.may_look_up:
            if await self._has_form(plan, judged.entry):
                return judged
            reason = MissReason.CONVERSION
        self._end(Outcome.MISS, reason)
        return None

    def _planned(
        self, plan: Proceed, key: CacheKey, held_under: CacheKey, entry: Entry | None
    ) -> Serve | Forward:
        """As the engine's lookup has it: what was held under a former key is current under both."""
        engine, asked = self._engine, self._known.directives
        is_current = entry is not None and all(
            engine.is_current(each, entry) for each in {key, held_under}
        )
        return plan_lookup(
            entry,
            is_current=is_current,
            now_s=engine.clock.now_s(),
            max_age_s=asked.max_age_s,
            max_stale_s=asked.max_stale_s,
            min_fresh_s=asked.min_fresh_s,
            may_be_stale=plan.may_store and key == held_under,
        )

    async def _has_form(self, plan: Proceed, entry: Entry) -> bool:
        """Whether an answer has the wire form that is asked for, or can be given it."""
        parsed = self._known.found.parsed
        if entry.shape == parsed.shape:
            return True
        if not plan.may_convert:
            return False
        render = self._question.dialect.render
        body = await aside(self._engine, entry.body, render, entry.body, entry.mode, parsed)
        return body is not None

    def _look_at_flight(
        self, plan: Proceed, key: CacheKey, found: Identified, model: str, mark: str = ""
    ) -> None:
        """See whether the answer is being made; ``mark``: which inputs are asked for."""
        engine = self._engine
        flight = f"{key}|{found.parsed.shape}{mark}"
        live = engine.live.find(flight)
        if live is None:
            return
        self._say(is_under_way=True)
        scopes = scopes_of(self._question.tenant, (model,))
        is_joinable = engine.is_current_since(key, scopes, live.position)
        is_alone = engine.live.is_parallel(flight, engine.clock.monotonic_s())
        if plan.may_share and is_joinable and not is_alone:
            self._say(outcome=Outcome.COALESCED, because=_SHARED)

    def _look_back(self, key: CacheKey) -> None:
        """Say why the last answer was not stored, if this process has seen that."""
        reason = self._engine.recorder.last_discard(key)
        if reason is not None:
            self._say(last_discard=reason.value, discarded_because=meaning(reason))

    def _former_keys(self, found: Identified, model: str) -> list[CacheKey]:
        pairs = zip(found.former, self._question.former_tenants, strict=True)
        return [result_key(former.result, model, tenant) for former, tenant in pairs]

    def _say(self, **more: object) -> None:
        self._said = replace(self._said, **more)  # type: ignore[arg-type]

    def _end(self, outcome: Outcome, reason: MissReason | BypassReason) -> None:
        self._say(outcome=outcome, reason=reason.value, because=meaning(reason))
