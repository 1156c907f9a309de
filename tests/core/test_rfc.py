"""Cases of RFC 9111, 5861, 9211 and 9213, each with its section: what is decided, without I/O.

POST is not cacheable to RFC 9111 by itself (RFC 9110 section 9.3.3): we are part of the gateway and
take its words for what its clients and its app ask of us.
"""

from typing import Any, NamedTuple

import http_sf
import pytest

from routecache_middleware.core import cache_status
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.dialect import ParsedRequest
from routecache_middleware.core.directives import parse_directives
from routecache_middleware.core.freshness import Freshness, classify
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import (
    BypassReason,
    DiscardReason,
    Entry,
    MissReason,
    ResponseMode,
)
from routecache_middleware.core.plan import (
    Bypass,
    Forward,
    Serve,
    plan_lookup,
    plan_request,
    plan_share,
    read_response_head,
)
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.settings import Settings
from routecache_middleware.core.targeted import ResponseDirectives, parse_response_directives

NOW_S = 1_800_000_000.0
REQUEST = ParsedRequest("m", ResponseMode.JSON, "json")


class Stored(NamedTuple):
    """A stored answer, in seconds: how old, for how long fresh, and its stale windows."""

    age: float
    lifetime: float = 600
    revalidate: float = 0
    if_error: float = 0

    def entry(self) -> Entry:
        made_s = NOW_S - self.age
        return Entry(Layer.RESULT, b"", made_s, self.lifetime, self.revalidate, self.if_error)


class Case(NamedTuple):
    """A request with its fields, a stored answer, and what comes of them.

    ``expected`` is ``hit``, the reason of a forward, or the reason of a bypass.
    """

    section: str
    cache_control: str
    stored: Stored | None
    expected: str
    pragma: str = ""


CASES = [
    Case("RFC 9111 4: a fresh answer is reused", "", Stored(1), "hit"),
    Case("RFC 9111 4: nothing stored", "", None, "absent"),
    Case("RFC 9111 4.2: fresh while its lifetime exceeds its age", "", Stored(599.9), "hit"),
    Case("RFC 9111 4.2: not when they are equal", "", Stored(600), "expired"),
    Case("RFC 9111 4.2.3: an age is never negative", "", Stored(-1), "hit"),
    Case(
        "RFC 9111 4.2.4: no stale answer unless it is allowed", "", Stored(601, 600, 60), "expired"
    ),
    Case("RFC 9111 5.2: names are case-insensitive", "No-CACHE", Stored(1), "request"),
    Case("RFC 9111 5.2: an argument may be quoted", 'max-age="1"', Stored(2), "request"),
    Case("RFC 9111 5.2: unknown directives are ignored", "only-on-tuesday", Stored(1), "hit"),
    Case("RFC 9111 5.2.1.1: not older than max-age", "max-age=10", Stored(10), "hit"),
    Case("RFC 9111 5.2.1.1: older than max-age", "max-age=10", Stored(11), "request"),
    Case("RFC 9111 5.2.1.1: max-age=0", "max-age=0", Stored(0), "request"),
    Case("RFC 9111 5.2.1.1: max-age makes nothing fresher", "max-age=9999", Stored(601), "expired"),
    Case("RFC 9111 5.2.1.2: any staleness", "max-stale", Stored(640, 600, 60), "hit"),
    Case("RFC 9111 5.2.1.2: as stale as said", "max-stale=40", Stored(640, 600, 60), "hit"),
    Case("RFC 9111 5.2.1.2: too stale", "max-stale=39", Stored(640, 600, 60), "expired"),
    Case("RFC 9111 5.2.1.2: beyond what is kept", "max-stale", Stored(660, 600, 60), "expired"),
    Case(
        "RFC 9111 5.2.1.1: max-age still counts with max-stale",
        "max-stale, max-age=30",
        Stored(640, 600, 60),
        "request",
    ),
    Case("RFC 9111 5.2.1.3: fresh for long enough", "min-fresh=100", Stored(500), "hit"),
    Case("RFC 9111 5.2.1.3: not for long enough", "min-fresh=101", Stored(500), "request"),
    Case("RFC 9111 5.2.1.4: no-cache", "no-cache", Stored(1), "request"),
    Case("RFC 9111 5.2.1.5: no-store forbids storing only", "no-store", Stored(1), "hit"),
    Case("RFC 9111 5.2.1.4, 5.2.1.5: both", "no-cache, no-store", Stored(1), "no-store"),
    Case("RFC 9111 5.2.1.6: no-transform allows the stored form", "no-transform", Stored(1), "hit"),
    Case("RFC 9111 5.2.1.7: only-if-cached, and it is", "only-if-cached", Stored(1), "hit"),
    Case("RFC 9111 5.2.1.7: only-if-cached, and it is not", "only-if-cached", None, "absent"),
    Case("RFC 9111 5.4: Pragma alone", "", Stored(1), "request", pragma="no-cache"),
    Case("RFC 9111 5.4: Pragma beside it", "max-age=60", Stored(1), "hit", pragma="no-cache"),
    Case(
        "RFC 9111 1.2.2: what is too large is very large", "max-age=99999999999", Stored(1), "hit"
    ),
    Case("RFC 9111 4.2.1: unreadable freshness is stale", "max-age=soon", Stored(1), "request"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.section)
def test_requests(case: Case) -> None:
    directives = parse_directives(case.cache_control.encode(), case.pragma.encode())
    plan = plan_request(REQUEST, directives, Settings(), CachePolicy(), Mode.ON)
    if isinstance(plan, Bypass):
        assert plan.reason == case.expected
        return
    if not plan.may_look_up:
        assert case.expected == MissReason.REQUEST
        return
    made = plan_lookup(
        None if case.stored is None else case.stored.entry(),
        is_current=True,
        now_s=NOW_S,
        max_age_s=directives.max_age_s,
        max_stale_s=directives.max_stale_s,
        min_fresh_s=directives.min_fresh_s,
    )
    assert ("hit" if isinstance(made, Serve) else made.reason) == case.expected


@pytest.mark.parametrize(
    ("cache_control", "may_store", "may_convert"),
    [
        (b"", True, True),
        (b"no-cache", True, True),  # RFC 9111 section 5.2.1.4: the answer may be stored
        (b"no-store", False, True),  # section 5.2.1.5
        (b"no-transform", True, False),  # section 5.2.1.6
    ],
)
def test_what_a_request_allows(cache_control: bytes, *, may_store: bool, may_convert: bool) -> None:
    plan = plan_request(
        REQUEST, parse_directives(cache_control), Settings(), CachePolicy(), Mode.ON
    )
    assert not isinstance(plan, Bypass)
    assert (plan.may_store, plan.may_convert) == (may_store, may_convert)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (Stored(659, 600, revalidate=60), Freshness.STALE),  # RFC 5861 section 3
        (Stored(660, 600, revalidate=60), Freshness.EXPIRED),
        (Stored(659, 600, if_error=60), Freshness.STALE),  # RFC 5861 section 4
        (Stored(660, 600, if_error=60), Freshness.EXPIRED),
        (Stored(1, 600, revalidate=60), Freshness.FRESH),
        (Stored(0, 0, revalidate=60), Freshness.STALE),
    ],
)
def test_stale_windows(stored: Stored, expected: Freshness) -> None:
    assert classify(stored.entry(), NOW_S) is expected


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (200, {}, None),
        (206, {}, DiscardReason.STATUS),  # RFC 9111 section 3: we do not understand ranges
        (301, {}, DiscardReason.STATUS),
        (200, {b"vary": b"*"}, DiscardReason.VARY),  # RFC 9111 section 4.1
        (200, {b"vary": b"accept, *"}, DiscardReason.VARY),
        (200, {b"vary": b"accept"}, None),
    ],
)
def test_responses(status: int, headers: dict[bytes, bytes], reason: DiscardReason | None) -> None:
    fields = [(b"content-type", b"application/json"), *headers.items()]
    head = read_response_head(status, fields, has_trailers=False)
    assert plan_share(head, ResponseMode.JSON) is reason


def parameters(value: bytes) -> dict[str, Any]:
    members: Any = http_sf.parse(value, tltype="list")
    assert [str(name) for name, _ in members] == ["routecache"]
    return {n: str(v) if isinstance(v, http_sf.Token) else v for n, v in members[0][1].items()}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # RFC 9211 sections 2.1, 2.4
        (cache_status.hit(376.9, "memory"), {"hit": True, "ttl": 376, "detail": "memory"}),
        (cache_status.hit(-12, "redis"), {"hit": True, "ttl": -12, "detail": "redis"}),
        # section 2.2: our key is not the URI, so never uri-miss
        (cache_status.forwarded(None), {"fwd": "miss"}),
        (cache_status.forwarded(MissReason.ABSENT), {"fwd": "miss"}),
        (cache_status.forwarded(MissReason.EXPIRED), {"fwd": "stale"}),
        (cache_status.forwarded(MissReason.REQUEST), {"fwd": "request"}),
        (
            cache_status.bypassed(BypassReason.SERVER_TOOLS),
            {"fwd": "bypass", "detail": "server-tools"},
        ),
        # section 2.6: only together with fwd
        (cache_status.collapsed(), {"fwd": "miss", "collapsed": True}),
    ],
)
def test_cache_status(value: bytes, expected: dict[str, Any]) -> None:
    assert parameters(value) == expected


@pytest.mark.parametrize("reason", [*MissReason, *BypassReason])
def test_a_hit_and_a_forward_exclude_each_other(reason: MissReason | BypassReason) -> None:
    """RFC 9211 section 2.2; and section 2.3: ``fwd`` is a token of its registry."""
    if isinstance(reason, MissReason):
        found = parameters(cache_status.forwarded(reason))
    else:
        found = parameters(cache_status.bypassed(reason))
    assert "hit" not in found
    assert found["fwd"] in {"bypass", "miss", "partial", "request", "stale"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"max-age=60", ResponseDirectives(max_age_s=60)),  # RFC 9213 section 2.1
        (b"max-age=60, stale-if-error=5", ResponseDirectives(max_age_s=60, stale_if_error_s=5)),
        (b"no-store, something", ResponseDirectives(no_store=True)),  # unknown ones are ignored
        (b"max-age=60,", None),  # not a dictionary: as if it were not there
        (b"", None),  # empty: likewise
        # Keys of a dictionary are in lower case, but directives are in any: RFC 9111 section 5.2.
        (b"Max-Age=60", ResponseDirectives(max_age_s=60)),
        (b"No-Store", ResponseDirectives(no_store=True)),
        (b"no-cache", ResponseDirectives(no_store=True)),  # 5.2.2.4: nothing validates here
        (b"max-age=60, s-maxage=5", ResponseDirectives(max_age_s=5)),  # 5.2.2.10
    ],
)
def test_targeted_fields(text: bytes, expected: ResponseDirectives | None) -> None:
    assert parse_response_directives(text) == expected


def test_what_was_invalidated_is_not_served_however_fresh() -> None:
    """RFC 9111 section 4.4."""
    made = plan_lookup(Stored(1).entry(), is_current=False, now_s=NOW_S, max_stale_s=60)
    assert made == Forward(MissReason.INVALIDATED)
