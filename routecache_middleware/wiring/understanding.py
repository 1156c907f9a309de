"""What a request asks for, and what the cache may do for it: all that needs no coordinator."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from routecache_middleware.core.body_directives import (
    BODY_FIELD,
    asked_ttl_s,
    has_asked,
    with_body,
)
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.core.directives import NO_DIRECTIVES, Directives
from routecache_middleware.core.explain import Explanation
from routecache_middleware.core.explanation import (
    HASH_DIGITS,
    RequestExplanation,
    asked_in_body,
    asked_in_head,
    opaque,
    shown,
    shown_all,
)
from routecache_middleware.core.fingerprint import KeyContext
from routecache_middleware.core.models import BypassReason, Outcome
from routecache_middleware.core.overrides import RequestPolicy
from routecache_middleware.core.plan import Bypass, Proceed, plan_request
from routecache_middleware.core.reasons import meaning
from routecache_middleware.core.request import LLMRequest
from routecache_middleware.core.splice import remove_member
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.identify import Identified, Identifier
from routecache_middleware.wiring.eligibility import Chooser, Eligible

__all__ = ["Question", "Setup", "Understood", "aside", "bypassed", "understand"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setup:
    """Who answers requests, so that they can be explained.

    Attributes:
        engine: The cache's.
        identifier: Who reads request bodies, and remembers those seen lately.
        wants: Says whether requests for a model are routed, given their dialect's verb as well;
            None: there is no router.
        eligible: Says whether a model may be used right now; None: all may.
        chooser: Asks that.
    """

    engine: Engine
    identifier: Identifier
    wants: Callable[[str, str], bool] | None = None
    eligible: Eligible | None = None
    chooser: Chooser = field(default_factory=Chooser)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request to be explained.

    Attributes:
        dialect: Its API.
        path: Its path as it came; that in ``context`` may leave the model out.
        context: What counts in its key besides the body.
        body: Its body.
        tenant: Whose answers it may see; empty: nobody's.
        is_hash: ``tenant`` was made of credentials: it is opaque already.
        former_tenants: What ``tenant`` was under each of the former secrets.
        directives: What its head asks of the cache.
        asked_ttl_s: How long its head asks an answer to be fresh, or None.
        unreadable: Why its head makes the body unreadable, or None.
        refusal: Why its head forbids caching, or None.
        is_signed: A header vouches for the bytes of the body.
        is_fixed: The app must not get another body than this one.
        is_accepted: The app would let it in, as far as is known.
        neighbour: The body of another request, to be compared with it, or None.
        is_full: Show whole hashes, and the tenant as it is.
    """

    dialect: Dialect
    path: str
    context: KeyContext
    body: bytes
    tenant: str
    is_hash: bool = False
    former_tenants: tuple[str, ...] = ()
    directives: Directives = NO_DIRECTIVES
    asked_ttl_s: float | None = None
    unreadable: BypassReason | None = None
    refusal: BypassReason | None = None
    is_signed: bool = False
    is_fixed: bool = False
    is_accepted: bool = True
    neighbour: bytes | None = None
    is_full: bool = False


@dataclass(frozen=True, slots=True)
class Understood:
    """A request whose body could be read.

    Attributes:
        found: What it asks for.
        parts: What counts in its key.
        directives: What it asks of the cache, in its head and in its body.
        plan: What the cache may do for it, or why it stands aside.
        is_routed: Its model is for the router to choose.
        said: What can be said of it so far.
    """

    found: Identified
    parts: Explanation
    directives: Directives
    plan: Proceed | Bypass
    is_routed: bool
    said: RequestExplanation


async def understand(setup: Setup, question: Question) -> Understood | RequestExplanation:
    """Read a request as the cache would.

    Returns:
        What it asks for; or all that can be said of one whose body is not, or cannot be read.
    """
    engine, identifier, wants = setup.engine, setup.identifier, setup.wants
    early = _early(engine, question, has_router=wants is not None)
    found = await _identified(engine, identifier, question)
    if not isinstance(found, Identified):
        return bypassed(_of_head(engine, question), early or found)
    is_routed = (
        wants is not None
        and not question.context.model
        and wants(found.parsed.model, question.dialect.verb)
    )
    if early is None and is_routed and question.is_signed:
        early = BypassReason.SIGNED
    if early is None:
        early = BypassReason.DISABLED if engine.mode is Mode.OFF else question.refusal
    parts = await aside(engine, question.body, _parts, identifier, question)
    asked = found.asked
    directives = with_body(question.directives, asked)
    plan: Proceed | Bypass
    if early is None:
        rules = _rules(engine, question, found)
        plan = _plan(engine, found, directives, rules)
        ttl_s = rules.lifetime_s(engine.settings, asked_ttl_s(question.asked_ttl_s, asked))
    else:  # nobody asks the policy then
        plan, ttl_s = Bypass(early), 0.0
    said = _of_body(_of_head(engine, question), found, parts, is_full=question.is_full)
    may = plan if isinstance(plan, Proceed) else _NOTHING
    said = replace(
        said,
        asked_in_body=asked_in_body(asked),
        looks_up=may.may_look_up,
        serves=may.may_serve,
        stores=may.may_store,
        shares=may.may_share,
        converts=may.may_convert,
        ttl_s=ttl_s if may.may_store else 0.0,
    )
    if isinstance(plan, Bypass):
        said = bypassed(said, plan.reason)
    return Understood(found, parts, directives, plan, is_routed, said)


def bypassed(said: RequestExplanation, reason: BypassReason) -> RequestExplanation:
    """Return an explanation that ends with the cache standing aside."""
    return replace(said, outcome=Outcome.BYPASS, reason=reason.value, because=meaning(reason))


async def aside(engine: Engine, body: bytes, do: Callable[..., T], *given: object) -> T:
    """Return what ``do`` makes of a body: in a thread if that is large, as requests do it."""
    if len(body) > engine.settings.hash_in_thread_bytes:
        return await asyncio.to_thread(do, *given)
    return do(*given)


def _rules(engine: Engine, question: Question, found: Identified) -> RequestPolicy:
    """Return the policy that holds for a request. All of an explanation goes by this."""
    return engine.policies.decided(
        found.parsed.model,
        question.path,
        lambda: _shown(question, found),
        has_asked=has_asked(asked_ttl_s(question.asked_ttl_s, found.asked), found.asked),
        warn=_say_nothing,
    )


def _say_nothing(*_: object) -> None:
    """The log is for requests."""


def _shown(question: Question, found: Identified) -> LLMRequest:
    return LLMRequest(
        model=found.parsed.model,
        dialect=question.dialect.name,
        path=question.path,
        mode=found.parsed.mode,
        query_hash=found.fingerprint.decision,
        tenant=question.tenant,
        body=_forwarded(question, found),
    )


def _forwarded(question: Question, found: Identified) -> bytes:
    if found.asked is None or question.is_signed:
        return question.body
    return remove_member(question.body, BODY_FIELD)


def _early(engine: Engine, question: Question, *, has_router: bool) -> BypassReason | None:
    """Why the body is not even looked at, or None."""
    if engine.mode is Mode.OFF and not has_router:
        return BypassReason.DISABLED
    return question.unreadable or (None if has_router else question.refusal)


async def _identified(
    engine: Engine, identifier: Identifier, question: Question
) -> Identified | BypassReason:
    if question.unreadable is not None:
        return question.unreadable
    if len(question.body) > engine.settings.max_request_bytes:
        return BypassReason.BODY_TOO_LARGE
    seen = identifier.recall(question.context, question.body)
    if seen is not None:
        return seen
    return await identifier.examine(question.dialect, question.context, question.body)


def _parts(identifier: Identifier, question: Question) -> Explanation:
    return identifier.explain(question.dialect, question.context, question.body)


def _plan(
    engine: Engine, found: Identified, directives: Directives, rules: RequestPolicy
) -> Proceed | Bypass:
    if not rules.is_cached:
        return Bypass(BypassReason.POLICY)
    settings = engine.settings
    return plan_request(found.parsed, directives, settings, rules.policy, engine.mode)


def _of_head(engine: Engine, question: Question) -> RequestExplanation:
    tenant = question.tenant
    if not question.is_full:
        tenant = opaque(tenant, engine.settings.secret, is_hash=question.is_hash)
    return RequestExplanation(
        outcome=Outcome.MISS,
        dialect=question.dialect.name,
        model=shown(question.context.model),
        tenant=shown(tenant),
        asked=asked_in_head(question.directives),
    )


def _of_body(
    said: RequestExplanation, found: Identified, parts: Explanation, *, is_full: bool
) -> RequestExplanation:
    digits = None if is_full else HASH_DIGITS
    return replace(
        said,
        model=shown(found.parsed.model),
        mode=found.parsed.mode.value,
        shape=found.parsed.shape,
        decision_hash=found.fingerprint.decision[:digits],
        result_hash=found.fingerprint.result[:digits],
        counted=shown_all(parts.counted),
        sampling=shown_all(parts.sampling),
        ignored=shown_all(parts.ignored),
        context=shown_all(parts.context),
    )


_NOTHING = Proceed(
    may_look_up=False, may_serve=False, may_store=False, may_share=False, may_convert=False
)
