"""The fast lane in each API: the same rules, and what LiteLLM does differently in each."""

from collections.abc import AsyncIterator

import pytest

from routecache_middleware.adapters.litellm.fastlane.dialect import (
    CHAT,
    EMBEDDINGS,
    LANES,
    MESSAGES,
    RESPONSES,
    TEXT,
    LaneDialect,
)
from routecache_middleware.adapters.litellm.outcomes import lane_tag
from routecache_middleware.core.models import Outcome
from tests.adapters.litellm.fastlane.asking import PATHS
from tests.adapters.litellm.fastlane.gateway import Lane
from tests.support.apps import sse_answer
from tests.support.chat import chunks

ANY = pytest.mark.parametrize("api", LANES, ids=lambda api: api.name)
OTHERS = pytest.mark.parametrize(
    "api", [TEXT, EMBEDDINGS, RESPONSES, MESSAGES], ids=lambda api: api.name
)


@pytest.fixture
async def lane() -> AsyncIterator[Lane]:
    made = Lane(auth_ttl_s=60.0)
    made.knows_of_calls()
    yield made
    await made.aclose()


@ANY
async def test_a_repeat_of_an_accepted_request_is_answered_before_litellm(
    lane: Lane, api: LaneDialect
) -> None:
    first, second = await lane.ask_in(api), await lane.ask_in(api)
    assert (first.status, first.outcome, second.outcome) == (200, "MISS", "HIT")
    assert first.body == second.body
    assert first.get("content-type") == second.get("content-type")
    assert len(lane.gateway.asked) == 1


@ANY
async def test_another_key_gets_its_own_answer(lane: Lane, api: LaneDialect) -> None:
    first = await lane.ask_in(api)
    other = await lane.ask_in(api, key="bob")
    assert other.outcome == "MISS"
    assert other.body != first.body
    assert (await lane.ask_in(api, key="bob")).body == other.body
    assert (await lane.ask_in(api, key="mallory")).status == 401


@ANY
async def test_a_revoked_key_is_refused_when_its_lease_ends(lane: Lane, api: LaneDialect) -> None:
    await lane.ask_in(api)
    lane.gateway.keys.clear()
    lane.clock.advance(59)
    assert (await lane.ask_in(api)).outcome == "HIT"
    lane.clock.advance(1)
    assert (await lane.ask_in(api)).status == 401


@ANY
async def test_a_key_with_limits_always_passes_litellm(lane: Lane, api: LaneDialect) -> None:
    lane.gateway.keys["alice"] = {"rpm_limit": 1}
    for _ in range(3):
        await lane.ask_in(api)
    assert len(lane.gateway.asked) == 3


@ANY
async def test_what_another_api_answers_at_a_path_gives_no_lease(
    lane: Lane, api: LaneDialect
) -> None:
    """As where the operator has put something of their own at that path."""
    lane.gateway.call_type = "pass_through_endpoint"
    await lane.ask_in(api)
    assert len(lane.part.leases) == 0
    assert (await lane.ask_in(api)).outcome == "MISS"


async def test_a_lease_for_one_api_is_none_for_another(lane: Lane) -> None:
    for number, api in enumerate(LANES):
        assert len(lane.part.leases) == number
        await lane.ask_in(api)
    assert len(lane.gateway.asked) == len(LANES)


async def test_the_model_in_a_path_and_that_in_a_body_both_need_a_lease(lane: Lane) -> None:
    """LiteLLM answers with the former, and looks at the latter for whether it is allowed."""
    path = {"path": "/openai/deployments/one/chat/completions"}
    other = {"path": "/openai/deployments/two/chat/completions"}
    await lane.ask_in(CHAT, scope=path)
    assert (await lane.ask_in(CHAT, scope=path)).outcome == "HIT"
    assert (await lane.ask_in(CHAT, scope=other)).outcome == "MISS"
    await lane.ask_in(CHAT, scope=path, model="secret")
    lane.clock.advance(59)
    await lane.ask_in(CHAT, scope=path, max_tokens=1)  # the first lease anew
    lane.clock.advance(1)
    assert (await lane.ask_in(CHAT, scope=path)).outcome == "HIT"
    assert (await lane.ask_in(CHAT, scope=path, model="secret")).outcome == "MISS"


async def test_a_request_whose_model_only_the_path_names_passes_litellm(lane: Lane) -> None:
    path = {"path": "/engines/one/chat/completions"}
    for _ in range(2):
        assert (await lane.ask_in(CHAT, scope=path, model=None)).outcome == "BYPASS"
    assert len(lane.gateway.asked) == 2


@OTHERS
async def test_what_the_cache_inside_does_not_know_is_not_kept(
    lane: Lane, api: LaneDialect
) -> None:
    """It may come out of LiteLLM's own cache, which does not say so in these APIs."""
    lane.gateway.on_accepted = lambda _: None
    await lane.ask_in(api)
    assert (await lane.ask_in(api)).outcome == "MISS"


@ANY
async def test_an_answer_out_of_the_cache_inside_does_not_grow_younger(
    lane: Lane, api: LaneDialect
) -> None:
    lane.knows_of_calls(outcome=Outcome.HIT, age_s=500.0, ttl_s=30.0)
    await lane.ask_in(api)
    lane.clock.advance(20)
    hit = await lane.ask_in(api)
    assert (hit.outcome, hit.get("age")) == ("HIT", "520")
    lane.clock.advance(11)
    assert (await lane.ask_in(api)).outcome == "MISS"


async def test_vectors_of_several_ages_are_not_kept_together(lane: Lane) -> None:
    lane.knows_of_calls(is_partly_stored=True)
    await lane.ask_in(EMBEDDINGS)
    assert (await lane.ask_in(EMBEDDINGS)).outcome == "MISS"


async def test_whichever_part_is_made_anew_the_whole_is(lane: Lane) -> None:
    """A client has one of several inputs embedded anew, through LiteLLM's ``no-cache``."""
    lane.knows_of_calls(keys={"one", "two"})
    for key in ("one", "two"):
        await lane.ask_in(EMBEDDINGS)
        assert (await lane.ask_in(EMBEDDINGS)).outcome == "HIT"
        await lane.cache.invalidate_tag(lane_tag(key))
        assert (await lane.ask_in(EMBEDDINGS)).outcome == "MISS"


@pytest.mark.parametrize("is_cut_off", [False, True])
async def test_a_stream_that_litellm_has_ended_by_itself_is_not_kept(
    lane: Lane, *, is_cut_off: bool
) -> None:
    """It looks complete: LiteLLM has invented its finish reason."""
    lane.misses_calls(is_cut_off=is_cut_off)
    lane.gateway.answer = sse_answer(chunks())
    await lane.ask(stream=True)
    assert (await lane.ask(stream=True)).outcome == ("MISS" if is_cut_off else "HIT")


@OTHERS
async def test_each_form_of_an_answer_is_kept_as_it_was_sent(lane: Lane, api: LaneDialect) -> None:
    form = {"encoding_format": "base64"} if api is EMBEDDINGS else {"stream": True}
    await lane.ask_in(api)
    other = await lane.ask_in(api, **form)
    assert other.outcome == ("BYPASS" if api is TEXT else "MISS")
    assert len(lane.gateway.asked) == 2
    assert (await lane.ask_in(api)).outcome == "HIT"


@OTHERS
async def test_a_fallbacks_answer_is_not_kept_under_the_model_asked_for(
    lane: Lane, api: LaneDialect
) -> None:
    lane.gateway.headers = [
        (b"x-litellm-model-group", b"spare"),
        (b"x-litellm-attempted-fallbacks", b"1"),
    ]
    await lane.ask_in(api)
    assert (await lane.ask_in(api)).outcome == "MISS"


async def test_a_fallback_that_does_not_say_its_model_is_not_kept(lane: Lane) -> None:
    lane.gateway.headers = [(b"x-litellm-attempted-fallbacks", b"1")]
    for _ in range(2):
        assert (await lane.ask_in(CHAT)).outcome == "MISS"


async def test_anthropics_credential_is_one_like_any_other(lane: Lane) -> None:
    mine = [(b"x-api-key", b"alice"), (b"anthropic-version", b"2023-06-01")]
    await lane.ask_in(MESSAGES, headers=mine)
    assert (await lane.ask_in(MESSAGES, headers=mine)).outcome == "HIT"
    for name, value in ((b"x-api-key", b"bob"), (b"anthropic-version", b"2024-01-01")):
        headers = [pair for pair in mine if pair[0] != name] + [(name, value)]
        assert (await lane.ask_in(MESSAGES, headers=headers)).outcome == "MISS"


async def test_management_does_not_begin_at_a_path_of_the_lane(lane: Lane) -> None:
    for api in LANES:
        await lane.ask_in(api)
    assert len(lane.part.leases) == len(LANES)
    assert set(PATHS) == set(LANES)
