"""What of the policy is different for some models or paths."""

import inspect
import math
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.models import ResponseMode
from routecache_middleware.core.override import Override
from routecache_middleware.core.overrides import Policies, RequestPolicy, VerdictError, with_verdict
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.request import LLMRequest
from routecache_middleware.core.settings import Settings
from routecache_middleware.errors import ConfigurationError

BASE = CachePolicy(max_temperature=1.0)
CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("patterns", "model", "fits"),
    [
        ((), "anything", True),
        (("gpt-4o",), "gpt-4o", True),
        (("gpt-4o",), "gpt-4o-mini", False),
        (("gpt-4*",), "gpt-4o-mini", True),
        (("*/llama*",), "meta/llama-3", True),
        (("*",), "", True),
        (("gpt.4",), "gpt-4", False),
        (("a", "b"), "b", True),
        (("A",), "a", False),
        (("a*",), "a\nb", True),
        (("a*a",), "a", False),
        (("a*a",), "aa", True),
        (("*b*b*",), "abb", True),
        (("*b*b*",), "ab", False),
        (("a*b*c",), "acb", False),
        (("a**c",), "ac", True),
    ],
)
def test_a_pattern_is_a_name_with_stars(
    patterns: tuple[str, ...], model: str, *, fits: bool
) -> None:
    assert Override(models=frozenset(patterns)).fits(model, CHAT) is fits
    assert Override(paths=frozenset(patterns)).fits("m", model) is fits


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_a_star_stands_for_any_text(pattern: str, text: str) -> None:
    like = ".*".join(map(re.escape, pattern.split("*")))
    is_like = re.fullmatch(like, text) is not None
    assert Override(models=frozenset({pattern})).fits(text, CHAT) is is_like


@pytest.mark.parametrize("pattern", ["*gpt*mini", "*g*p*t*g*p*t*!", "gpt*gpt*gpt*t?"])
def test_a_hostile_name_takes_no_longer_than_it_is_long(pattern: str) -> None:
    """As a regular expression the first takes 0.6 s for 60,000 letters, and minutes for these."""
    rule = Override(models=frozenset({pattern}))
    began_s = time.perf_counter()
    assert not rule.fits("gpt" * 350_000, CHAT)
    assert time.perf_counter() - began_s < 0.5


def test_models_and_paths_have_to_fit_both() -> None:
    rule = Override(models=frozenset({"a"}), paths=frozenset({"/x/*"}))
    assert rule.fits("a", "/x/y")
    assert not rule.fits("b", "/x/y")
    assert not rule.fits("a", "/y")


def test_without_overrides_the_policy_holds_for_all() -> None:
    policies = Policies(BASE)
    assert policies.for_request("a", CHAT) == RequestPolicy(BASE)
    assert policies.for_request("a", CHAT) is policies.for_request("b", "/")


def test_all_that_fit_are_applied_in_order() -> None:
    overrides = (
        Override(ttl_s=60, cache_tool_calls=True),
        Override(models=frozenset({"gpt-*"}), ttl_s=600, max_temperature=math.inf),
        Override(models=frozenset({"gpt-live"}), is_cached=False),
        Override(paths=frozenset({"/live/*"}), finish_reasons=frozenset({"stop"})),
    )
    policies = Policies(CachePolicy(max_temperature=1.0, overrides=overrides))
    tools = CachePolicy(max_temperature=1.0, cache_tool_calls=True)
    unlimited = CachePolicy(cache_tool_calls=True)
    short = CachePolicy(cache_tool_calls=True, finish_reasons=frozenset({"stop"}))
    for _ in range(2):
        assert policies.for_request("claude", CHAT) == (tools, True, 60, None)
        assert policies.for_request("gpt-4o", CHAT) == (unlimited, True, 600, None)
        assert policies.for_request("gpt-live", CHAT) == (unlimited, False, 600, None)
        assert policies.for_request("gpt-4o", "/live/v1") == (short, True, 600, None)


def test_what_is_remembered_is_bounded() -> None:
    policies = Policies(CachePolicy(overrides=(Override(ttl_s=1),)))
    for number in range(3000):
        policies.for_request(str(number), CHAT)
    assert len(policies._memo) <= 1024
    before = dict(policies._memo)
    for long in ("x" * 100_000, "y" * 513):
        assert policies.for_request(long, CHAT).ttl_s == policies.for_request("m", long).ttl_s == 1
    assert policies._memo == before


@pytest.mark.parametrize(
    "values",
    [
        {"models": "gpt"},
        {"paths": [1]},
        {"is_cached": 1},
        {"ttl_s": -1},
        {"ttl_s": math.inf},
        {"max_temperature": -1},
        {"max_temperature": math.nan},
        {"cache_tool_calls": "always"},
        {"finish_reasons": "stop"},
    ],
)
def test_a_wrong_value_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(values))):
        Override(**values)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (None, RequestPolicy(BASE, ttl_s=9)),
        (True, RequestPolicy(BASE, ttl_s=9)),
        (False, RequestPolicy(BASE, is_cached=False, ttl_s=9)),
        (0, RequestPolicy(BASE, ttl_s=0, max_ttl_s=0)),
        (2.5, RequestPolicy(BASE, ttl_s=2.5, max_ttl_s=2.5)),
    ],
)
def test_a_callable_may_have_the_last_word(verdict: object, expected: RequestPolicy) -> None:
    assert with_verdict(RequestPolicy(BASE, ttl_s=9), verdict) == expected


def test_a_callable_allows_nothing_that_is_forbidden() -> None:
    forbidden = RequestPolicy(BASE, is_cached=False)
    assert with_verdict(forbidden, verdict=True) == forbidden


@pytest.mark.parametrize("verdict", ["yes", -1, math.nan, [], b""])
def test_another_word_of_a_callable_is_an_error(verdict: object) -> None:
    with pytest.raises(TypeError):
        with_verdict(RequestPolicy(BASE), verdict)


async def later() -> float:
    return 5.0


@pytest.mark.parametrize(
    ("verdict", "said"),
    [("sk-secret", "a str"), (-1.5, "-1.5"), (math.nan, "nan"), (b"", "a bytes")],
)
def test_the_error_says_what_came_and_what_may_come(verdict: object, said: str) -> None:
    """The value is not shown, unless it is a number: it may be of the prompt."""
    with pytest.raises(VerdictError, match=rf"returned {said}; .* None, True, False, or how many"):
        with_verdict(RequestPolicy(BASE), verdict)


def test_a_coroutine_is_not_left_over() -> None:
    """Else Python complains of it, at some other place."""
    coroutine = later()
    with pytest.raises(VerdictError, match=r"a coroutine; .* no async function"):
        with_verdict(RequestPolicy(BASE), coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


@pytest.mark.parametrize(
    ("held", "asked_s", "expected_s"),
    [
        (RequestPolicy(BASE), None, 600),
        (RequestPolicy(BASE), 5, 5),
        (RequestPolicy(BASE), 5000, 3600),
        (RequestPolicy(BASE, ttl_s=60), 5000, 3600),  # what an override grants is a default
        (RequestPolicy(BASE, ttl_s=7200), 9000, 7200),
        (with_verdict(RequestPolicy(BASE), 60), None, 60),
        (with_verdict(RequestPolicy(BASE), 60), 5, 5),
        (with_verdict(RequestPolicy(BASE), 60), 5000, 60),  # the last word
        (with_verdict(RequestPolicy(BASE, ttl_s=9), 60), 5000, 60),
        (with_verdict(RequestPolicy(BASE), 7200), 9000, 7200),
        (with_verdict(RequestPolicy(BASE), 0), 5000, 0),
    ],
)
def test_what_a_client_may_ask_for(
    held: RequestPolicy, asked_s: float | None, expected_s: float
) -> None:
    settings = Settings(result_ttl_s=600.0, max_client_ttl_s=3600.0)
    assert held.lifetime_s(settings, asked_s) == expected_s


REQUEST = LLMRequest("m", "d", CHAT, ResponseMode.JSON, "", "", b"{}")


def told(policy: CachePolicy, *, shown: LLMRequest | None = REQUEST, asks: bool = False) -> Any:
    """Return what holds for a request, and what was warned of."""
    warned: list[tuple[str, Exception, str]] = []
    held = Policies(policy).decided(
        "m", CHAT, lambda: shown, has_asked=asks, warn=lambda *said: warned.append(said)
    )
    return held, warned


@pytest.mark.parametrize(
    ("policy", "shown", "is_cached"),
    [
        (CachePolicy(), REQUEST, True),
        (CachePolicy(decide=lambda _: False), REQUEST, False),
        (CachePolicy(decide=lambda _: False), None, True),  # somebody else asks it
        (CachePolicy(decide=lambda _: True), REQUEST, True),
    ],
)
def test_all_have_their_say(
    policy: CachePolicy, shown: LLMRequest | None, *, is_cached: bool
) -> None:
    held, warned = told(policy, shown=shown)
    assert (held.is_cached, warned) == (is_cached, [])


@pytest.mark.parametrize("asks", [True, False])
def test_with_opt_in_the_client_has_to_ask(*, asks: bool) -> None:
    held, _ = told(CachePolicy(opt_in=True), asks=asks)
    assert held.is_cached is asks


def test_a_callable_that_fails_is_told_of_and_its_request_not_cached() -> None:
    """Also when it is the request that cannot be shown."""
    held, ((what, error, so),) = told(CachePolicy(decide=lambda _: 1 / 0))
    assert not held.is_cached
    assert (what, type(error)) == ("the policy's decide", ZeroDivisionError)
    assert "forwarded uncached" in so
    held, ((_, error, _),) = told(CachePolicy(decide=lambda _: "yes"))  # type: ignore[arg-type, return-value]
    assert (held.is_cached, type(error)) == (False, VerdictError)


@pytest.mark.parametrize(
    ("policy", "are_plain"),
    [
        (CachePolicy(), True),
        (CachePolicy(overrides=(Override(ttl_s=1, cache_tool_calls=True),)), True),
        (CachePolicy(overrides=(Override(ttl_s=1), Override(is_cached=False))), False),
        (CachePolicy(overrides=(Override(max_temperature=1),)), False),
        (CachePolicy(max_temperature=1), False),
        (CachePolicy(opt_in=True), False),
        (CachePolicy(decide=lambda _: None), False),
    ],
)
def test_which_policies_have_a_say_in_a_hit(policy: CachePolicy, *, are_plain: bool) -> None:
    assert Policies(policy).are_plain is are_plain


async def never(request: LLMRequest) -> bool:
    raise NotImplementedError


class Never:
    async def __call__(self, request: LLMRequest) -> bool:
        raise NotImplementedError


@pytest.mark.parametrize(
    "values",
    [
        {"overrides": Override()},
        {"overrides": [{"ttl_s": 5}]},
        {"decide": "yes"},
        {"decide": never},
        {"decide": Never()},
        {"opt_in": 1},
        {"allow_stored": None},
    ],
)
def test_a_wrong_policy_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(values))):
        CachePolicy(**values)


def test_a_list_of_overrides_is_frozen() -> None:
    given: Any = [Override(ttl_s=5)]
    assert CachePolicy(overrides=given).overrides == (Override(ttl_s=5),)
