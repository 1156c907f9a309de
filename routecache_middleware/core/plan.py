"""What to do next with a request: four pure decisions, each a closed union.

plan_request -> plan_lookup -> plan_share -> plan_store
"""

from collections.abc import Iterable

import msgspec

from routecache_middleware.core.choices import Mode
from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.core.directives import NO_DIRECTIVES, Directives
from routecache_middleware.core.freshness import Freshness, age_s, classify
from routecache_middleware.core.models import (
    BypassReason,
    DiscardReason,
    Entry,
    MissReason,
    ResponseMode,
)
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.searching import searches_the_web
from routecache_middleware.core.settings import Settings
from routecache_middleware.core.targeted import ResponseDirectives, parse_response_directives

__all__ = [
    "Bypass",
    "Forward",
    "Proceed",
    "ResponseFacts",
    "Serve",
    "plan_lookup",
    "plan_request",
    "plan_share",
    "plan_store",
    "read_response_head",
]


class Proceed(msgspec.Struct, frozen=True, gc=False):
    """The cache takes part.

    Attributes:
        may_look_up: Ask the coordinator; false for ``no-cache`` and in ``write_only`` mode.
        may_serve: Answer from what was found; false in shadow mode, where it is only counted.
        may_store: Keep a good answer.
        may_share: Open or join a flight.
        may_convert: Make JSON of a stream and a stream of JSON; false for ``no-transform``.
    """

    may_look_up: bool
    may_serve: bool
    may_store: bool
    may_share: bool
    may_convert: bool = True


class Bypass(msgspec.Struct, frozen=True, gc=False):
    """The cache stands aside."""

    reason: BypassReason


class Serve(msgspec.Struct, frozen=True, gc=False):
    """Answer with ``entry``.

    Attributes:
        entry: What was found.
        age_s: Its age, seconds.
        ttl_s: Freshness left, seconds; negative when stale.
        is_stale: It is past its lifetime: whoever serves it has it made anew.
    """

    entry: Entry
    age_s: float
    ttl_s: float
    is_stale: bool = False


class Forward(msgspec.Struct, frozen=True, gc=False):
    """Ask the upstream.

    Attributes:
        reason: Why.
        fallback: What to answer with should the upstream fail (RFC 5861 section 4), or None.
    """

    reason: MissReason
    fallback: Serve | None = None


class ResponseFacts(msgspec.Struct, frozen=True, gc=False):
    """What the head of a response says about storing it.

    Attributes:
        status: HTTP status code.
        content_type: Value of ``content-type``, or empty.
        mode: Wire form by media type, or None when it is neither JSON nor an event stream.
        content_encoding: Value of ``content-encoding``, or empty; ``identity`` does not count.
        varies_by_anything: ``Vary`` has the member ``*`` (RFC 9110 section 12.5.5).
        has_trailers: The app announced trailers.
        directives: What ``RouteCache-Control`` says (RFC 9213), or None.
    """

    status: int
    content_type: str
    mode: ResponseMode | None
    content_encoding: str
    varies_by_anything: bool
    has_trailers: bool
    directives: ResponseDirectives | None = None


_DEFAULT_TEMPERATURE = 1.0
_ABSENT = Forward(MissReason.ABSENT)
_FULLY = Proceed(may_look_up=True, may_serve=True, may_store=True, may_share=True)
_ALONE = Proceed(may_look_up=True, may_serve=True, may_store=True, may_share=False)
_FRESH, _EXPIRED = Freshness.FRESH, Freshness.EXPIRED  # as in core.freshness
_ON = Mode.ON
_STORE = BypassReason.STORE
_SEARCHES = BypassReason.WEB_SEARCH


def plan_request(
    parsed: ParsedRequest,
    directives: Directives,
    settings: Settings,
    policy: CachePolicy,
    mode: Mode,
    *,
    model: str = "",
) -> Proceed | Bypass:
    """Whether and how the result cache takes part in this request.

    ``model``: the one that is asked, where that is not the one that was asked for.
    """
    own = _own_reason(parsed, policy, model or parsed.model)
    if own is not None:
        return Bypass(own)
    if mode is Mode.OFF or not settings.result_caching:
        return Bypass(BypassReason.DISABLED)
    if directives.no_cache and directives.no_store:
        return Bypass(BypassReason.NO_STORE)
    if policy.max_temperature is not None:
        temperature = _DEFAULT_TEMPERATURE if parsed.temperature is None else parsed.temperature
        if temperature > policy.max_temperature:
            return Bypass(BypassReason.TEMPERATURE)
    if mode is _ON and directives is NO_DIRECTIVES:  # nearly always
        return _FULLY if settings.coalescing else _ALONE
    may_look_up = mode is not Mode.WRITE_ONLY and not directives.no_cache
    may_serve = may_look_up and mode is not Mode.SHADOW
    return Proceed(
        may_look_up=may_look_up,
        may_serve=may_serve,
        may_store=mode is not Mode.READ_ONLY and not directives.no_store,
        may_share=may_serve and settings.coalescing and not directives.no_store,
        may_convert=not directives.no_transform,
    )


def _own_reason(parsed: ParsedRequest, policy: CachePolicy, model: str) -> BypassReason | None:
    """Why no answer to such a request can be reused, whatever the settings say."""
    bypass = parsed.bypass
    if bypass is not None and not (bypass is _STORE and policy.allow_stored):
        return bypass
    return _SEARCHES if searches_the_web(model) else None


def plan_lookup(
    entry: Entry | None,
    *,
    is_current: bool,
    now_s: float,
    max_age_s: float | None = None,
    max_stale_s: float | None = None,
    min_fresh_s: float = 0.0,
    may_be_stale: bool = False,
) -> Serve | Forward:
    """Whether what was found may be served.

    Args:
        entry: What the coordinator has under the key, or None.
        is_current: Whether nothing that covers it was invalidated since it was captured.
        now_s: Unix seconds.
        max_age_s: Largest acceptable age (RFC 9111 section 5.2.1.1), or None.
        max_stale_s: For how long at most it may have been stale (section 5.2.1.2), inside of the
            stale windows that it was stored with; None: the request does not say.
        min_fresh_s: For how long at least it has to stay fresh (section 5.2.1.3).
        may_be_stale: The caller knows what to do with a stale entry (RFC 5861). Who limits the age
            or the staleness, or asks for freshness, gets none beyond that.
    """
    if entry is None:
        return _ABSENT
    if not is_current:
        return Forward(MissReason.INVALIDATED)
    freshness = classify(entry, now_s)
    age = age_s(entry, now_s)
    ttl = entry.freshness_lifetime_s - age
    is_stale = freshness is not _FRESH
    if is_stale and (freshness is _EXPIRED or not max_stale_s or -ttl > max_stale_s):
        is_limited = max_age_s is not None or max_stale_s is not None or min_fresh_s > 0
        if freshness is _EXPIRED or is_limited or not may_be_stale:
            return Forward(MissReason.EXPIRED)
        return _plan_stale(entry, age, ttl)
    if (max_age_s is not None and age > max_age_s) or (min_fresh_s and ttl < min_fresh_s):
        return Forward(MissReason.REQUEST)
    return Serve(entry, age, ttl, is_stale)


def _plan_stale(entry: Entry, age: float, ttl: float) -> Serve | Forward:
    """RFC 5861: serve it now and refresh it (section 3), or only if the upstream fails (4)."""
    stale = Serve(entry, age, ttl, is_stale=True)
    if -ttl < entry.stale_while_revalidate_s:
        return stale
    return Forward(MissReason.EXPIRED, fallback=stale)


def read_response_head(
    status: int, headers: Iterable[tuple[bytes, bytes]], *, has_trailers: bool
) -> ResponseFacts:
    """Pick out of a response head what matters for sharing and storing it."""
    content_type = ""
    encodings: list[str] = []
    targeted: list[bytes] = []
    varies_by_anything = False
    for name, value in headers:
        match name.lower():
            case b"content-type":
                content_type = value.decode("latin-1")
            case b"content-encoding":
                encodings += _members(value)
            case b"vary":
                varies_by_anything |= "*" in _members(value)
            case b"routecache-control":
                targeted.append(value)
            case _:
                pass
    return ResponseFacts(
        status=status,
        content_type=content_type,
        mode=_response_mode(content_type),
        content_encoding=", ".join(coding for coding in encodings if coding != "identity"),
        varies_by_anything=varies_by_anything,
        has_trailers=has_trailers,
        directives=parse_response_directives(b",".join(targeted)) if targeted else None,
    )


def plan_share(
    facts: ResponseFacts, wanted: ResponseMode, *, is_private: bool = True
) -> DiscardReason | None:
    """Why this response must not be shared with others nor stored, judged by its head; or None.

    Args:
        facts: Its head.
        wanted: The wire form that was asked for.
        is_private: What is stored for this caller, only this caller gets.
    """
    if facts.status != 200:  # noqa: PLR2004 - only a complete 200 is ever reused
        return DiscardReason.STATUS
    if facts.content_encoding:
        return DiscardReason.CONTENT_ENCODING
    if facts.has_trailers:
        return DiscardReason.TRAILERS
    if facts.varies_by_anything:
        return DiscardReason.VARY
    if facts.mode is not wanted:
        return DiscardReason.CONTENT_TYPE
    return _veto(facts.directives, is_private=is_private)


def plan_store(
    judgement: Judgement, parsed: ParsedRequest, policy: CachePolicy
) -> DiscardReason | None:
    """Why a complete body must not be stored, or None when it may."""
    if judgement.discard is not None:
        return judgement.discard
    if not policy.finish_reasons.issuperset(judgement.finish_reasons):
        return DiscardReason.FINISH_REASON
    if judgement.has_tool_calls:
        allowed = policy.cache_tool_calls
        if allowed is False or (allowed == "auto" and not parsed.is_deterministic):
            return DiscardReason.TOOL_CALLS
    return None


def _veto(said: ResponseDirectives | None, *, is_private: bool) -> DiscardReason | None:
    if said is not None and (said.no_store or (said.private and not is_private)):
        return DiscardReason.VETOED
    return None


def _members(value: bytes) -> list[str]:
    members = (member.strip().lower() for member in value.decode("latin-1").split(","))
    return [member for member in members if member]


def _response_mode(content_type: str) -> ResponseMode | None:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "text/event-stream":
        return ResponseMode.STREAM
    return ResponseMode.JSON if media_type == "application/json" else None
