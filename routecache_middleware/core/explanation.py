"""What the cache would do with a request, and why: records for people, logs and JSON.

Safe to log: field names, digests, figures and our own words, but no prompt, no credential and no
tenant's name. Names come from the client, so they are cut and cleaned of what JSON cannot hold.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from routecache_middleware.core.body_directives import BodyDirectives
from routecache_middleware.core.directives import Directives
from routecache_middleware.core.fingerprint import Domain, new_hash
from routecache_middleware.core.freshness import Freshness, age_s, classify
from routecache_middleware.core.models import Entry, Outcome

__all__ = [
    "HASH_DIGITS",
    "Neighbour",
    "RequestExplanation",
    "State",
    "StoredAnswer",
    "StoredDecision",
    "asked_in_body",
    "asked_in_head",
    "opaque",
    "shown",
    "shown_all",
    "state_of",
]

HASH_DIGITS = 12
"""How much of a hash is shown: enough to compare by eye."""

State = Literal["fresh", "stale", "expired", "invalidated"]

_STATES: dict[Freshness, State] = {
    Freshness.FRESH: "fresh",
    Freshness.STALE: "stale",
    Freshness.EXPIRED: "expired",
}
_MAX_NAME = 64
_MAX_NAMES = 64
_OUR_TENANTS = frozenset({"", "anonymous", "shared"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """What is stored under a key.

    Attributes:
        state: ``fresh``; ``stale``: past its lifetime, inside a stale window; ``expired``; or
            ``invalidated``.
        age_s: Seconds since it was made.
        ttl_s: Seconds of freshness left; negative when that is over.
        size_bytes: Size of the body.
        shape: Its wire form, such as ``stream+usage``.
        content_type: Its media type.
        model: The model that made it.
        made_in_ms: What it cost to make, milliseconds.
    """

    state: State
    age_s: float
    ttl_s: float
    size_bytes: int
    shape: str
    content_type: str
    model: str
    made_in_ms: float

    @classmethod
    def of(cls, entry: Entry, *, is_current: bool, now_s: float) -> "StoredAnswer":
        """Describe an entry."""
        age = age_s(entry, now_s)
        return cls(
            state=state_of(entry, is_current=is_current, now_s=now_s),
            age_s=round(age, 3),
            ttl_s=round(entry.freshness_lifetime_s - age, 3),
            size_bytes=len(entry.body),
            shape=entry.shape,
            content_type=shown(entry.content_type),
            model=shown(entry.model_id),
            made_in_ms=entry.cost_ms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDecision:
    """The routing decision that is stored for a request.

    Attributes:
        state: As of a stored answer.
        age_s: Seconds since it was made.
        ttl_s: Seconds of freshness left; negative when that is over.
        selected_model: What the router chose.
        model: What would be used of it now: that, or its best alternative that may be used; empty
            when there is none.
        score: The router's own score.
        strategy: Which strategy decided.
    """

    state: State
    age_s: float
    ttl_s: float
    selected_model: str
    model: str
    score: float
    strategy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Another request, and what tells it apart from the one explained.

    Attributes:
        is_given: Whoever asked named it; otherwise it is the nearest stored one that is known.
        differs: Where the two differ: fields (``temperature``), items of lists of objects
            (``messages[2]``), headers (``header.openai-beta``), other context (``context.path``,
            ``cache.namespace``). Empty: they have the same key.
        differences: How many there are; ``differs`` names at most 64.
        result_hash: Its own.
        model: The model it would be sent to.
        answer: What is stored for it, if anything.
        reason: Why it cannot be compared, or would never be cached; or empty.
        because: That in a sentence.
    """

    is_given: bool
    differs: tuple[str, ...] = ()
    differences: int = 0
    result_hash: str = ""
    model: str = ""
    answer: StoredAnswer | None = None
    reason: str = ""
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestExplanation:
    """What the cache would do with a request if it came now, and why. ``str()`` says it in words.

    Hashes and tenants are shortened to 12 hex digits unless they were asked for in full.

    Attributes:
        outcome: ``hit``, ``stale``, ``miss``, ``coalesced``, ``bypass`` or ``error``.
        reason: The token for why it is no hit, such as ``absent`` or ``temperature``; or empty.
        because: That in a sentence.
        dialect: Which API, such as ``openai.chat``; empty: none that is known.
        model: The requested model.
        routed_model: The model that a stored decision sends it to; empty without a router or a
            decision.
        mode: ``json`` or ``stream``; empty when the body could not be read.
        shape: The exact wire form asked for, such as ``stream+usage``.
        tenant: Whose answers it may see, opaque; empty: nobody's.
        decision_hash: Identifies the request to a router.
        result_hash: Identifies the request to a model.
        counted: Top-level fields in both hashes.
        sampling: Top-level fields in the result hash only.
        ignored: Top-level fields in neither.
        context: What else is in both hashes: ``path``, ``query``, headers by name,
            ``cache.namespace``.
        asked: What it asks of the cache in ``Cache-Control`` or ``Pragma``, as understood.
        asked_in_body: The same of LiteLLM's ``cache`` object.
        looks_up: Whether an answer would be looked for.
        serves: Whether it would be answered with what is found.
        stores: Whether a good answer would be stored.
        shares: Whether it would share an upstream call that is under way, or open one to others.
        converts: Whether an answer of another wire form would do.
        ttl_s: For how long a good answer would be fresh, seconds.
        inputs: Of a request for several things at once, such as embeddings, how many; else 0.
        known_inputs: How many of those have an answer that may be served. Together they are the
            answer, and ``answer`` is None.
        answer: What is stored for it now, useful or not, or None.
        decision: The routing decision stored for it now, useful or not, or None.
        last_discard: The token for why the last answer to it was not stored, such as
            ``tool-calls``; empty: it was, or this process does not know (any more).
        discarded_because: That in a sentence.
        is_under_way: Whether this process is making the answer right now.
        neighbour: On a miss the nearest stored answer of the same API and tenant, among those that
            this process has seen lately; or the one that was named.
        trouble: What kept part of this from being found out, or empty.
    """

    outcome: Outcome
    reason: str = ""
    because: str = ""
    dialect: str = ""
    model: str = ""
    routed_model: str = ""
    mode: str = ""
    shape: str = ""
    tenant: str = ""
    decision_hash: str = ""
    result_hash: str = ""
    counted: tuple[str, ...] = ()
    sampling: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    asked_in_body: tuple[str, ...] = ()
    looks_up: bool = False
    serves: bool = False
    stores: bool = False
    shares: bool = False
    converts: bool = False
    ttl_s: float = 0.0
    inputs: int = 0
    known_inputs: int = 0
    answer: StoredAnswer | None = None
    decision: StoredDecision | None = None
    last_discard: str = ""
    discarded_because: str = ""
    is_under_way: bool = False
    neighbour: Neighbour | None = None
    trouble: str = ""

    def __str__(self) -> str:
        head = f"{self.outcome} ({self.reason})" if self.reason else str(self.outcome)
        lines = [f"{head}: {self.because}" if self.because else head]
        if self.answer is not None:
            lines.append(f"stored: {_age(self.answer)}")
        if self.last_discard:
            lines.append(f"last answer not stored ({self.last_discard}): {self.discarded_because}")
        if self.neighbour is not None:
            lines.append(_compared(self.neighbour))
        if self.trouble:
            lines.append(f"trouble: {self.trouble}")
        return "\n".join(lines)


def state_of(entry: Entry, *, is_current: bool, now_s: float) -> State:
    """Say what an entry is good for now."""
    if not is_current:
        return "invalidated"
    return _STATES[classify(entry, now_s)]


def opaque(tenant: str, secret: bytes, *, is_hash: bool) -> str:
    """Return what stands for a tenant: the beginning of its hash.

    Args:
        tenant: Whose answers.
        secret: Deployment secret.
        is_hash: It was made of credentials, so it is a hash already. A name that the operator gave
            is hashed here, as it may be a customer's; our own words stay.
    """
    if tenant in _OUR_TENANTS:
        return tenant
    if is_hash:
        return tenant[:HASH_DIGITS]
    state = new_hash(Domain.PART, secret)
    state.update(b"tenant " + tenant.encode("utf-8", "surrogatepass"))
    return state.hexdigest()[:HASH_DIGITS]


def shown(name: str) -> str:
    """Return a name fit to be shown: short, and what every encoder takes."""
    cut = name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
    return cut.encode("utf-8", "backslashreplace").decode()


def shown_all(names: Sequence[str]) -> tuple[str, ...]:
    """Return the first 64 names fit to be shown."""
    return tuple(map(shown, names[:_MAX_NAMES]))


def asked_in_head(directives: Directives) -> tuple[str, ...]:
    """Return request directives in the words of ``Cache-Control``."""
    return tuple(_words(directives))


def asked_in_body(asked: BodyDirectives | None) -> tuple[str, ...]:
    """Return what a ``cache`` object asks, in its own words; of a namespace not its name."""
    if asked is None:
        return ()
    words = [word.replace("max-age", "s-maxage") for word in _words(asked.directives)]
    if asked.ttl_s is not None:
        words.append(f"ttl={asked.ttl_s:g}")
    if asked.namespace:
        words.append("namespace")
    if asked.is_opted_in is not None:
        words.append(f"use-cache={str(asked.is_opted_in).lower()}")
    return tuple(words)


def _words(said: Directives) -> Iterable[str]:
    flags = {
        "no-cache": said.no_cache,
        "no-store": said.no_store,
        "only-if-cached": said.only_if_cached,
        "no-transform": said.no_transform,
    }
    yield from (word for word, is_said in flags.items() if is_said)
    if said.max_age_s is not None:
        yield f"max-age={said.max_age_s}"
    if said.max_stale_s is not None:
        is_any = math.isinf(said.max_stale_s)
        yield "max-stale" if is_any else f"max-stale={said.max_stale_s:g}"
    if said.min_fresh_s:
        yield f"min-fresh={said.min_fresh_s:g}"


def _age(answer: StoredAnswer) -> str:
    return f"{answer.state}, made {answer.age_s:.0f} s ago, {answer.size_bytes:,} bytes"


def _compared(other: Neighbour) -> str:
    name = "the one named" if other.is_given else "nearest stored answer"
    held = f" ({_age(other.answer)})" if other.answer is not None else ""
    if other.reason:
        held += f" ({other.reason}: {other.because})"
    if not other.result_hash:  # it could not be read
        return f"{name}{held}"
    more = other.differences - len(other.differs)
    ends = [f"and {more} more"] if more else []
    return f"{name}{held} differs in: {', '.join([*other.differs, *ends]) or 'nothing'}"
