"""The policy holds in front of LiteLLM, and is asked the same there as inside."""

import logging
from typing import Any

import msgspec
import pytest

from routecache_middleware import CachePolicy, LLMRequest
from routecache_middleware.adapters.litellm.fastlane.dialect import LANES, RESPONSES, LaneDialect
from routecache_middleware.adapters.litellm.options import Isolation
from routecache_middleware.adapters.litellm.tenancy import tenant_of
from routecache_middleware.core.models import BypassReason, Outcome, ResponseMode
from routecache_middleware.core.override import Override
from tests.adapters.litellm.fastlane.asking import PATHS, PLAIN
from tests.adapters.litellm.fastlane.gateway import Lane


def only(**values: Any) -> CachePolicy:
    return CachePolicy(overrides=(Override(**values),))


async def test_what_is_stored_is_not_served_once_it_is_forbidden() -> None:
    """By a decision, which may be another one each time."""
    is_allowed = True
    lane = Lane(policy=CachePolicy(decide=lambda _: is_allowed))
    await lane.ask()
    assert (await lane.ask()).outcome == "HIT"
    is_allowed = False
    assert (await lane.ask()).outcome == "BYPASS"
    assert len(lane.gateway.asked) == 2
    await lane.aclose()


@pytest.mark.parametrize(
    ("override", "fields"),
    [
        ({"is_cached": False}, {}),
        ({"paths": {"/v1/chat/*"}, "is_cached": False}, {}),
        ({"max_temperature": 0.5}, {"temperature": 0.9}),
    ],
)
async def test_what_an_override_forbids_is_left_to_litellm(
    override: dict[str, Any], fields: dict[str, Any]
) -> None:
    lane = Lane(policy=only(models={"live"}, **override))
    for _ in range(2):
        assert (await lane.ask(model="live", **fields)).outcome == "BYPASS"
    await lane.ask(**fields)
    assert (await lane.ask(**fields)).outcome == "HIT"
    await lane.aclose()


async def test_with_opt_in_all_is_left_to_litellm() -> None:
    """Who asks for the cache does so in the body, and that is LiteLLM's to read."""
    lane = Lane(policy=CachePolicy(opt_in=True))
    for fields in ({}, {"cache": {"use-cache": True}}, {"cache": {"ttl": 60}}):
        for _ in range(2):
            assert (await lane.ask(**fields)).outcome == "BYPASS"
    assert (await lane.ask(headers=[(b"routecache-ttl", b"60")])).outcome == "BYPASS"
    await lane.aclose()


@pytest.mark.parametrize("lane_of", LANES, ids=lambda one: one.name)
async def test_a_callable_sees_what_it_would_see_inside(lane_of: LaneDialect) -> None:
    asked: list[LLMRequest] = []
    lane = Lane(policy=CachePolicy(decide=asked.append), secret=b"s" * 16)
    lane.knows_of_calls(granted_s=60.0)
    await lane.ask_in(lane_of)
    assert asked == []  # nobody knows yet whose it is: the cache inside asks, and stores or not
    assert (await lane.ask_in(lane_of)).outcome == "HIT"
    (seen,) = asked
    tenant = tenant_of(
        {"metadata": {"user_api_key": "alice"}},
        isolation=Isolation.KEY,
        is_proxy=True,
        secret=b"s" * 16,
    )
    assert (seen.model, seen.path, seen.tenant) == ("m", PATHS[lane_of], tenant)
    assert (seen.mode, seen.payload) == (ResponseMode.JSON, PLAIN[lane_of])
    assert not seen.dialect.startswith("litellm")
    assert len(seen.query_hash) == 32
    await lane.aclose()


async def test_one_that_fails_is_told_once_and_costs_the_cache_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def decide(_: LLMRequest) -> bool:
        raise RuntimeError("sk-secret")

    lane = Lane(policy=CachePolicy(decide=decide))
    with caplog.at_level(logging.WARNING, "routecache"):
        answers = [await lane.ask() for _ in range(3)]
    assert [(one.status, one.outcome) for one in answers] == [
        (200, "MISS"),
        (200, "BYPASS"),
        (200, "BYPASS"),
    ]
    assert caplog.text.count("decide failed") == 1
    assert "secret" not in caplog.text
    await lane.aclose()


async def test_an_answer_lasts_as_long_as_in_the_cache_inside() -> None:
    lane = Lane()
    lane.knows_of_calls(granted_s=30.0)
    await lane.ask()
    lane.clock.advance(29)
    assert (await lane.ask()).outcome == "HIT"
    lane.clock.advance(1)
    assert (await lane.ask()).outcome == "MISS"
    await lane.aclose()


async def test_what_the_cache_inside_leaves_alone_is_left_alone() -> None:
    lane = Lane()
    lane.knows_of_calls(outcome=Outcome.BYPASS, granted_s=30.0)
    await lane.ask()
    assert (await lane.ask()).outcome == "MISS"
    await lane.aclose()


async def test_an_override_of_the_lifetime_keeps_the_short_way() -> None:
    lane = Lane(policy=only(models={"m"}, ttl_s=1_000), auth_ttl_s=5_000)
    await lane.ask()
    lane.clock.advance(999)
    assert (await lane.ask()).outcome == "HIT"
    lane.clock.advance(1)
    assert (await lane.ask()).outcome == "MISS"
    await lane.aclose()


@pytest.mark.parametrize(
    "policy", [only(models={"x"}, ttl_s=5), CachePolicy(decide=lambda _: True)]
)
async def test_a_model_that_litellm_calls_otherwise_is_left_to_it(policy: CachePolicy) -> None:
    """An alias of the key's, or a path that names another: it would be judged by a wrong name."""
    lane = Lane(policy=policy)
    lane.gateway.renames["m"] = "group"
    for _ in range(2):
        assert (await lane.ask()).outcome == "MISS"
    assert len(lane.part.leases) == 0
    assert lane.cache.stats().result.writes == 0
    lane.gateway.renames.clear()
    assert (await lane.ask()).outcome == "MISS"
    assert (await lane.ask()).outcome == "HIT"
    await lane.aclose()


async def test_without_such_a_policy_an_alias_is_as_good_as_a_name() -> None:
    lane = Lane()
    lane.gateway.renames["m"] = "group"
    await lane.ask()
    assert (await lane.ask()).outcome == "HIT"
    await lane.aclose()


@pytest.mark.parametrize("more", [{}, {"store": True}, {"store": True, "metadata": {"a": "b"}}])
async def test_what_the_provider_keeps_stays_litellms_matter(more: dict[str, Any]) -> None:
    """Even where the policy lets the cache inside keep it; and so does what hides behind it."""
    lane = Lane(policy=CachePolicy(allow_stored=True))
    body = {**PLAIN[RESPONSES], "store": None, **more}
    parsed = RESPONSES.parse(body)
    assert parsed is not None
    assert parsed.bypass is BypassReason.STORE
    for _ in range(2):
        assert (await lane.ask_in(RESPONSES, **msgspec.to_builtins(body))).outcome == "BYPASS"
    assert len(lane.gateway.asked) == 2
    await lane.aclose()
