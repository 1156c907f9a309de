"""What to do next with a request: tables of the four decisions."""

import math
from itertools import product
from typing import Any

import pytest

from routecache_middleware.core.choices import Mode
from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.core.directives import Directives
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
    Proceed,
    ResponseFacts,
    Serve,
    plan_lookup,
    plan_request,
    plan_share,
    plan_store,
    read_response_head,
)
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.settings import Settings

NOW_S = 1_700_000_000.0
JSON, STREAM = ResponseMode.JSON, ResponseMode.STREAM
PLAIN = ParsedRequest("m", JSON, "json")
NO_CACHE, NO_STORE = Directives(no_cache=True), Directives(no_store=True)
BOTH = Directives(no_cache=True, no_store=True)
NONE = Directives()


def plan(
    parsed: ParsedRequest = PLAIN,
    directives: Directives = NONE,
    settings: Settings | None = None,
    policy: CachePolicy | None = None,
    mode: Mode = Mode.ON,
) -> Proceed | Bypass:
    return plan_request(parsed, directives, settings or Settings(), policy or CachePolicy(), mode)


@pytest.mark.parametrize(
    ("mode", "directives", "look_up", "serve", "store", "share"),
    [
        (Mode.ON, NONE, True, True, True, True),
        (Mode.ON, NO_CACHE, False, False, True, False),  # RFC 9111 section 5.2.1.4
        (Mode.ON, NO_STORE, True, True, False, False),  # RFC 9111 section 5.2.1.5
        (Mode.READ_ONLY, NONE, True, True, False, True),
        (Mode.READ_ONLY, NO_CACHE, False, False, False, False),
        (Mode.READ_ONLY, NO_STORE, True, True, False, False),
        (Mode.WRITE_ONLY, NONE, False, False, True, False),
        (Mode.WRITE_ONLY, NO_CACHE, False, False, True, False),
        (Mode.WRITE_ONLY, NO_STORE, False, False, False, False),
        (Mode.SHADOW, NONE, True, False, True, False),
        (Mode.SHADOW, NO_CACHE, False, False, True, False),
        (Mode.SHADOW, NO_STORE, True, False, False, False),
    ],
)
def test_mode_and_directives_decide_what_the_cache_may_do(
    mode: Mode, directives: Directives, *, look_up: bool, serve: bool, store: bool, share: bool
) -> None:
    expected = Proceed(may_look_up=look_up, may_serve=serve, may_store=store, may_share=share)
    assert plan(directives=directives, mode=mode) == expected


def test_nothing_is_served_shared_or_joined_without_a_lookup() -> None:
    for mode, directives in product(Mode, (NONE, NO_CACHE, NO_STORE)):
        made = plan(directives=directives, mode=mode)
        if isinstance(made, Proceed):
            assert made.may_look_up >= made.may_serve >= made.may_share


def test_without_coalescing_no_flight_is_shared() -> None:
    made = plan(settings=Settings(coalescing=False))
    assert made == Proceed(may_look_up=True, may_serve=True, may_store=True, may_share=False)


@pytest.mark.parametrize("mode", Mode)
def test_when_nothing_could_come_of_it_the_cache_stands_aside(mode: Mode) -> None:
    expected = BypassReason.DISABLED if mode is Mode.OFF else BypassReason.NO_STORE
    assert plan(directives=BOTH, mode=mode) == Bypass(expected)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (plan(ParsedRequest("m", JSON, "json", bypass=BypassReason.AUDIO)), BypassReason.AUDIO),
        (plan(settings=Settings(result_caching=False)), BypassReason.DISABLED),
        (plan(mode=Mode.OFF), BypassReason.DISABLED),
    ],
)
def test_reasons_to_stand_aside(made: Proceed | Bypass, reason: BypassReason) -> None:
    assert made == Bypass(reason)


@pytest.mark.parametrize(
    ("limit", "temperature", "is_bypassed"),
    [
        (None, 2.0, False),
        (0.5, 0.5, False),
        (0.5, 0.6, True),
        (0.5, None, True),  # a request that names none counts as 1.0
        (1.0, None, False),
        (0.0, 0.0, False),
    ],
)
def test_a_temperature_limit(
    limit: float | None, temperature: float | None, *, is_bypassed: bool
) -> None:
    parsed = ParsedRequest("m", JSON, "json", temperature=temperature)
    made = plan(parsed, policy=CachePolicy(max_temperature=limit))
    assert (made == Bypass(BypassReason.TEMPERATURE)) is is_bypassed


def entry(age: float) -> Entry:
    return Entry(Layer.RESULT, b"", NOW_S - age, 10.0, stale_if_error_s=60.0)


@pytest.mark.parametrize(
    ("found", "is_current", "max_age", "expected"),
    [
        (None, True, None, Forward(MissReason.ABSENT)),
        (entry(1), False, None, Forward(MissReason.INVALIDATED)),
        (entry(99), False, None, Forward(MissReason.INVALIDATED)),
        (entry(11), True, None, Forward(MissReason.EXPIRED)),  # stale: nobody asked for that
        (entry(1), True, None, Serve(entry(1), 1.0, 9.0)),
        (entry(5), True, 5, Serve(entry(5), 5.0, 5.0)),  # RFC 9111 section 5.2.1.1
        (entry(5), True, 4, Forward(MissReason.REQUEST)),
        (entry(0.5), True, 0, Forward(MissReason.REQUEST)),
    ],
)
def test_what_was_found_is_judged(
    found: Entry | None, max_age: float | None, expected: Serve | Forward, *, is_current: bool
) -> None:
    made = plan_lookup(found, is_current=is_current, now_s=NOW_S, max_age_s=max_age)
    assert made == expected


@pytest.mark.parametrize(
    ("age", "terms", "reason"),
    [
        (5, {"min_fresh_s": 5}, None),  # RFC 9111 section 5.2.1.3
        (5, {"min_fresh_s": 5.1}, MissReason.REQUEST),
        (12, {"max_stale_s": 2}, None),  # RFC 9111 section 5.2.1.2
        (12, {"max_stale_s": 1.9}, MissReason.EXPIRED),
        (12, {"max_stale_s": math.inf}, None),
        (12, {"max_stale_s": 0}, MissReason.EXPIRED),
        (10, {"max_stale_s": 0}, MissReason.EXPIRED),
        (69.9, {"max_stale_s": math.inf}, None),
        (70, {"max_stale_s": math.inf}, MissReason.EXPIRED),  # its physical life is over
        (12, {"max_stale_s": 5, "max_age_s": 12}, None),
        (12, {"max_stale_s": 5, "max_age_s": 11}, MissReason.REQUEST),
        (12, {"max_stale_s": 5, "min_fresh_s": 1}, MissReason.REQUEST),
    ],
)
def test_a_client_says_how_fresh_an_answer_has_to_be(
    age: float, terms: dict[str, Any], reason: MissReason | None
) -> None:
    made = plan_lookup(entry(age), is_current=True, now_s=NOW_S, **terms)
    if reason is None:
        assert isinstance(made, Serve)
        assert made.ttl_s == pytest.approx(10 - age)
    else:
        assert made == Forward(reason)


@pytest.mark.parametrize(
    ("limit_s", "is_served"), [(None, True), (0.0, False), (1.9, False), (2.0, True)]
)
def test_what_is_staler_than_a_client_accepts_is_not_served_while_it_is_made_anew(
    limit_s: float | None, *, is_served: bool
) -> None:
    """RFC 9111 section 5.2.1.2 limits what RFC 5861 section 3 allows."""
    stale = Entry(Layer.RESULT, b"", NOW_S - 12, 10.0, stale_while_revalidate_s=60.0)
    made = plan_lookup(stale, is_current=True, now_s=NOW_S, max_stale_s=limit_s, may_be_stale=True)
    served = Serve(stale, 12.0, -2.0, is_stale=True)
    assert made == (served if is_served else Forward(MissReason.EXPIRED))


def test_without_transformation_nothing_is_converted() -> None:
    """RFC 9111 section 5.2.1.6."""
    made = plan(directives=Directives(no_transform=True))
    assert isinstance(made, Proceed)
    assert made.may_serve
    assert not made.may_convert
    usual = plan()
    assert isinstance(usual, Proceed)
    assert usual.may_convert


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], ("", None, "", False)),
        (
            [(b"Content-Type", b"Application/JSON; charset=utf-8")],
            ("Application/JSON; charset=utf-8", JSON, "", False),
        ),
        ([(b"content-type", b"text/event-stream")], ("text/event-stream", STREAM, "", False)),
        ([(b"content-type", b"text/plain")], ("text/plain", None, "", False)),
        ([(b"content-encoding", b" GZIP ")], ("", None, "gzip", False)),
        ([(b"content-encoding", b"identity")], ("", None, "", False)),
        (
            [(b"content-encoding", b"gzip"), (b"content-encoding", b"identity")],
            ("", None, "gzip", False),
        ),
        ([(b"content-encoding", b"br, gzip")], ("", None, "br, gzip", False)),
        ([(b"vary", b"accept"), (b"Vary", b"*")], ("", None, "", True)),
        ([(b"vary", b"accept, *")], ("", None, "", True)),  # RFC 9110 section 12.5.5
        ([(b"vary", b"accept, cookie")], ("", None, "", False)),
        ([(b"x-other", b"*")], ("", None, "", False)),
    ],
)
def test_a_response_head_is_read(
    headers: list[tuple[bytes, bytes]], expected: tuple[str, ResponseMode | None, str, bool]
) -> None:
    content_type, mode, encoding, varies = expected
    for has_trailers in (False, True):
        facts = read_response_head(201, headers, has_trailers=has_trailers)
        assert facts == ResponseFacts(201, content_type, mode, encoding, varies, has_trailers)


def facts(
    status: int = 200,
    mode: ResponseMode | None = JSON,
    encoding: str = "",
    *,
    varies: bool = False,
    trailers: bool = False,
) -> ResponseFacts:
    return ResponseFacts(status, "", mode, encoding, varies, trailers)


@pytest.mark.parametrize(
    ("head", "wanted", "reason"),
    [
        (facts(), JSON, None),
        (facts(mode=STREAM), STREAM, None),
        (facts(201), JSON, DiscardReason.STATUS),
        (facts(206), JSON, DiscardReason.STATUS),
        (facts(500), JSON, DiscardReason.STATUS),
        (facts(encoding="gzip"), JSON, DiscardReason.CONTENT_ENCODING),
        (facts(trailers=True), JSON, DiscardReason.TRAILERS),
        (facts(varies=True), JSON, DiscardReason.VARY),
        (facts(mode=None), JSON, DiscardReason.CONTENT_TYPE),
        (facts(mode=STREAM), JSON, DiscardReason.CONTENT_TYPE),
        (facts(mode=JSON), STREAM, DiscardReason.CONTENT_TYPE),
    ],
)
def test_which_responses_may_be_shared(
    head: ResponseFacts, wanted: ResponseMode, reason: DiscardReason | None
) -> None:
    assert plan_share(head, wanted) is reason


SAMPLED = ParsedRequest("m", JSON, "json")
FIXED = ParsedRequest("m", JSON, "json", is_deterministic=True)
TOOLS = Judgement(has_tool_calls=True, finish_reasons=("tool_calls",))


@pytest.mark.parametrize(
    ("judgement", "parsed", "policy", "reason"),
    [
        (Judgement(finish_reasons=("stop",)), SAMPLED, CachePolicy(), None),
        (Judgement(DiscardReason.INCOMPLETE), SAMPLED, CachePolicy(), DiscardReason.INCOMPLETE),
        (
            Judgement(finish_reasons=("stop", "content_filter")),
            SAMPLED,
            CachePolicy(),
            DiscardReason.FINISH_REASON,
        ),
        (
            Judgement(finish_reasons=("length",)),
            SAMPLED,
            CachePolicy(finish_reasons=frozenset({"stop"})),
            DiscardReason.FINISH_REASON,
        ),
        (TOOLS, SAMPLED, CachePolicy(), DiscardReason.TOOL_CALLS),
        (TOOLS, FIXED, CachePolicy(), None),
        (TOOLS, SAMPLED, CachePolicy(cache_tool_calls=True), None),
        (TOOLS, FIXED, CachePolicy(cache_tool_calls=False), DiscardReason.TOOL_CALLS),
    ],
)
def test_which_answers_may_be_stored(
    judgement: Judgement,
    parsed: ParsedRequest,
    policy: CachePolicy,
    reason: DiscardReason | None,
) -> None:
    assert plan_store(judgement, parsed, policy) is reason


WINDOWS: dict[str, Any] = {"stale_while_revalidate_s": 10.0, "stale_if_error_s": 30.0}


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [
        (59.9, "fresh"),
        (60.0, "revalidate"),
        (69.9, "revalidate"),
        (70.0, "fallback"),
        (89.9, "fallback"),
        (90.0, "nothing"),
    ],
)
def test_what_is_stale_is_served_first_and_then_only_instead_of_an_error(
    age_s: float, expected: str
) -> None:
    """RFC 5861 sections 3 and 4."""
    stored = Entry(Layer.RESULT, b"{}", NOW_S - age_s, 60.0, **WINDOWS)
    made = plan_lookup(stored, is_current=True, now_s=NOW_S, may_be_stale=True)
    match made:
        case Serve(is_stale=False):
            found = "fresh"
        case Serve(is_stale=True, ttl_s=ttl_s):
            assert ttl_s == pytest.approx(60 - age_s)
            found = "revalidate"
        case Forward(reason=MissReason.EXPIRED, fallback=Serve(is_stale=True, entry=entry)):
            assert entry is stored
            found = "fallback"
        case _:
            found = "nothing"
    assert found == expected


@pytest.mark.parametrize("options", [{}, {"may_be_stale": True, "max_age_s": 600}])
def test_nothing_stale_is_served_to_who_cannot_have_it(options: dict[str, Any]) -> None:
    """A caller that would not make it anew; a client that limits the age (RFC 9111 5.2.1.1)."""
    stored = Entry(Layer.RESULT, b"{}", NOW_S - 65.0, 60.0, **WINDOWS)
    made = plan_lookup(stored, is_current=True, now_s=NOW_S, **options)
    assert made == Forward(MissReason.EXPIRED)
