"""Who is answered in LiteLLM's place, and with what."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger

from routecache_middleware.adapters.litellm.fastlane.below import current_visit
from routecache_middleware.adapters.litellm.fastlane.leases import Accepted
from routecache_middleware.adapters.litellm.fastlane.part import create
from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.adapters.litellm.options import configure
from routecache_middleware.coordinators.guarded import GuardedCoordinator
from routecache_middleware.core.models import Outcome
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.litellm.fastlane.gateway import JSON, Lane
from tests.support.apps import json_answer, sse_answer
from tests.support.asgi import Client, settle
from tests.support.chat import ask, chunks
from tests.support.faulty import ProbedCoordinator

KEY = (b"authorization", b"Bearer alice")


@pytest.fixture
async def lane() -> AsyncIterator[Lane]:
    made = Lane(auth_ttl_s=60.0)
    yield made
    await made.aclose()


class Guard(CustomLogger):
    """Looks at every request."""

    async def async_pre_call_hook(self, *_: Any, **__: Any) -> None:
        pass


async def test_a_repeat_of_an_accepted_request_is_answered_before_litellm(lane: Lane) -> None:
    first, second = await lane.ask(), await lane.ask()
    assert (first.outcome, second.outcome) == ("MISS", "HIT")
    assert first.body == second.body
    assert len(lane.gateway.asked) == 1


async def test_another_key_gets_its_own_answer(lane: Lane) -> None:
    await lane.ask()
    other = await lane.ask(key="bob")
    assert other.outcome == "MISS"
    assert (await lane.ask(key="bob")).body == other.body
    assert (await lane.ask()).body != other.body


async def test_who_was_not_let_in_gets_nothing(lane: Lane) -> None:
    await lane.ask()
    assert (await lane.ask(key="mallory")).status == 401


async def test_a_lease_ends_with_its_time(lane: Lane) -> None:
    await lane.ask()
    lane.clock.advance(59)
    assert (await lane.ask()).outcome == "HIT"
    lane.gateway.keys.clear()  # the key is revoked
    assert (await lane.ask()).outcome == "HIT"
    lane.clock.advance(1)
    assert (await lane.ask()).status == 401


async def test_a_hit_does_not_renew_a_lease(lane: Lane) -> None:
    await lane.ask()
    for _ in range(6):
        lane.clock.advance(10)
        last = await lane.ask()
    assert last.outcome == "MISS"
    assert len(lane.gateway.asked) == 2


async def test_an_entry_outlives_a_lease_that_is_given_anew(lane: Lane) -> None:
    first = await lane.ask()
    lane.clock.advance(61)
    await lane.ask("another question")
    assert (await lane.ask()).body == first.body


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_ends_all_leases_of_a_key_at_once(lane: Lane, status: int) -> None:
    await lane.ask()
    lane.gateway.answer = json_answer(b"{}", status=status)
    await lane.ask("another question")
    lane.gateway.answer = None
    lane.gateway.keys.clear()
    assert (await lane.ask()).status == 401


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_other_failures_give_no_lease(lane: Lane, status: int) -> None:
    lane.gateway.status = status
    await lane.ask()
    assert len(lane.part.leases) == 0
    lane.gateway.status = 200
    await lane.ask()
    assert (await lane.ask()).outcome == "HIT"


async def test_a_200_without_our_hook_gives_no_lease(lane: Lane) -> None:
    """The request was answered by something that is not LiteLLM's chat endpoint."""
    lane.gateway.skips_hooks = True
    await lane.ask()
    assert (await lane.ask()).outcome == "MISS"
    assert len(lane.gateway.asked) == 2


async def test_the_strictest_word_on_a_request_counts(lane: Lane) -> None:
    """LiteLLM may call the hook for parts of a request as well."""
    lane.gateway.keys["alice"] = {"rpm_limit": 1}
    again: list[Any] = []

    def say_yes(data: dict[str, Any]) -> None:
        visit = current_visit.get()
        assert visit is not None
        visit.judge(Accepted("hash", "m", "", {}))
        again.append(visit.accepted)

    lane.gateway.on_accepted = say_yes
    await lane.ask()
    assert again == [None]
    assert len(lane.part.leases) == 0


async def test_a_hook_that_comes_after_the_response_gives_no_lease(lane: Lane) -> None:
    """Work that a request left behind, in its context, is not on its behalf any more."""
    late: list[asyncio.Task[None]] = []

    def leave_work(data: dict[str, Any]) -> None:
        async def work() -> None:
            await settle()
            await lane.hub.callback.async_pre_call_hook(object(), None, data, "acompletion")

        late.append(asyncio.ensure_future(work()))

    lane.gateway.skips_hooks = True
    lane.gateway.on_accepted = leave_work
    await lane.ask()
    await asyncio.gather(*late)
    assert len(lane.part.leases) == 0


@pytest.mark.parametrize(
    "fields",
    [{"rpm_limit": 1}, {"max_budget": 1.0}, {"metadata": {"guardrails": ["g"]}}],
    ids=["rate limit", "budget", "guardrail"],
)
async def test_a_key_with_limits_always_passes_litellm(lane: Lane, fields: dict[str, Any]) -> None:
    lane.gateway.keys["alice"] = fields
    await lane.ask()
    await lane.ask()
    assert len(lane.gateway.asked) == 2


async def test_a_key_that_is_given_a_limit_loses_its_lease_with_the_next_request(
    lane: Lane,
) -> None:
    await lane.ask()
    lane.gateway.keys["alice"] = {"rpm_limit": 1}
    await lane.ask("another question")
    assert (await lane.ask()).outcome == "MISS"


async def test_another_model_user_way_or_path_needs_a_lease_of_its_own(lane: Lane) -> None:
    await lane.ask()
    await lane.ask(model="m2")
    await lane.ask(user="u")
    await lane.ask(scope={"path": "/chat/completions"})
    await lane.ask(headers=[(b"user-agent", b"another")])
    await lane.ask(scope={"client": ("10.1.1.1", 1)})
    assert len(lane.gateway.asked) == 6
    assert (await lane.ask(user="u")).outcome == "HIT"
    assert (await lane.ask()).outcome == "HIT"


async def test_with_a_lease_a_new_question_is_asked_and_then_answered(lane: Lane) -> None:
    await lane.ask("one")
    assert (await lane.ask("two")).outcome == "MISS"
    assert (await lane.ask("two")).outcome == "HIT"


async def test_concurrent_requests_share_one_call_only_with_a_lease(lane: Lane) -> None:
    async def both() -> int:
        before = len(lane.gateway.asked)
        lane.gateway.gate.clear()
        clients = [
            Client(lane.app, ask(f"question {before}"), headers=[KEY]).start() for _ in range(3)
        ]
        await settle()
        lane.gateway.gate.set()
        for client in clients:
            assert (await client.end()).status == 200
        return len(lane.gateway.asked) - before

    assert await both() == 3  # nobody was let in yet
    assert await both() == 1
    assert lane.part._hub.cache.stats().result.coalesced == 2


async def test_a_guardrail_ends_all_leases(lane: Lane) -> None:
    await lane.ask()
    litellm.callbacks = [lane.hub.callback, Guard()]
    await lane.ask("another question")
    assert (await lane.ask()).outcome == "MISS"
    assert len(lane.part.leases) == 0


async def test_a_guardrail_is_noticed_within_a_second_of_hits(lane: Lane) -> None:
    await lane.ask()
    litellm.callbacks = [Guard()]
    await lane.ask()
    lane.part.report._collect()  # what the timer does
    assert (await lane.ask()).outcome == "MISS"


async def test_management_in_this_process_ends_all_leases(lane: Lane) -> None:
    await lane.ask()
    await lane.ask(scope={"path": "/key/info", "method": "GET"})
    assert len(lane.part.leases) == 1
    await lane.ask(scope={"path": "/key/block"})
    assert len(lane.part.leases) == 0


@pytest.mark.parametrize("header", [(b"x-litellm-tags", b"a"), (b"origin", b"https://a.example")])
async def test_a_request_that_asks_for_more_passes_litellm(
    lane: Lane, header: tuple[bytes, bytes]
) -> None:
    await lane.ask()
    assert (await lane.ask(headers=[header])).outcome == "BYPASS"
    await lane.ask(metadata={"a": "b"})
    assert len(lane.gateway.asked) == 3


async def test_only_if_cached_is_no_way_around_authentication(lane: Lane) -> None:
    answer = await lane.ask(key="mallory", headers=[(b"cache-control", b"only-if-cached")])
    assert answer.status == 401


async def test_no_cache_and_no_store_are_honoured(lane: Lane) -> None:
    await lane.ask()
    fresh = await lane.ask(headers=[(b"cache-control", b"no-cache")])
    assert fresh.outcome == "MISS"
    await lane.ask("secret", headers=[(b"cache-control", b"no-store")])
    assert (await lane.ask("secret")).outcome == "MISS"


async def test_a_stream_is_replayed_byte_for_byte(lane: Lane) -> None:
    lane.gateway.answer = sse_answer(chunks())
    live = await lane.ask(stream=True)
    stored = await lane.ask(stream=True)
    assert (live.outcome, stored.outcome) == ("MISS", "HIT")
    assert stored.body == live.body
    assert stored.get("content-type") == live.get("content-type")


async def test_a_client_that_leaves_gets_no_answer_stored_for_it(lane: Lane) -> None:
    lane.gateway.answer = sse_answer(chunks())
    client = Client(lane.app, ask(stream=True), headers=[KEY], leave_at=1, spec="2.4").start()
    await client.error()
    lane.gateway.answer = None
    assert (await lane.ask(stream=True)).outcome == "MISS"


async def test_headers_of_a_single_call_are_not_replayed(lane: Lane) -> None:
    lane.gateway.headers = [
        (b"x-litellm-call-id", b"call-1"),
        (b"x-litellm-response-cost", b"0.5"),
        (b"x-litellm-key-spend", b"7"),
        (b"x-litellm-model-id", b"d1"),
        (b"x-frame-options", b"DENY"),
        (b"set-cookie", b"a=b"),
    ]
    await lane.ask()
    hit = await lane.ask()
    names = {name for name, _ in hit.headers}
    assert {b"x-litellm-model-id", b"x-frame-options", b"age"} <= names
    assert names.isdisjoint(
        {b"x-litellm-call-id", b"x-litellm-response-cost", b"x-litellm-key-spend", b"set-cookie"}
    )


async def test_what_our_cache_inside_litellm_says_stands(lane: Lane) -> None:
    """One set of fields, and on a request that was forwarded it is the inner one's."""
    lane.gateway.headers = [(b"x-routecache", b"HIT"), (b"cache-status", b"routecache; hit")]
    first = await lane.ask()
    assert first.all("x-routecache") == ["HIT"]
    assert first.all("cache-status") == ["routecache; hit"]
    second = await lane.ask()
    assert second.all("x-routecache") == ["HIT"]
    assert "detail=memory" in second.all("cache-status")[0]


async def test_an_answer_out_of_the_cache_inside_does_not_grow_younger(lane: Lane) -> None:
    def stored_before(data: dict[str, Any]) -> None:
        found = lane.hub.outcomes.of(data["litellm_call_id"])
        found.outcome, found.age_s, found.ttl_s = Outcome.HIT, 500.0, 30.0

    lane.gateway.on_accepted = stored_before
    await lane.ask()
    lane.clock.advance(20)
    hit = await lane.ask()
    assert (hit.outcome, hit.get("age")) == ("HIT", "520")
    lane.clock.advance(11)
    assert (await lane.ask()).outcome == "MISS"


async def test_an_answer_out_of_litellms_own_cache_is_not_kept(lane: Lane) -> None:
    lane.gateway.headers = [(b"x-litellm-cache-key", b"k")]
    await lane.ask()
    assert (await lane.ask()).outcome == "MISS"


@pytest.mark.parametrize("model", ["m", "cheap", "openai/cheap-1"])
async def test_invalidating_a_model_that_was_asked_or_answered_drops_the_answer(
    lane: Lane, model: str
) -> None:
    lane.gateway.headers = [
        (b"x-litellm-model-group", b"cheap"),
        (b"x-litellm-model-name", b"openai/cheap-1"),
    ]
    await lane.ask()
    assert (await lane.ask()).outcome == "HIT"
    await lane.cache.invalidate_model(model)
    assert (await lane.ask()).outcome == "MISS"
    await lane.cache.invalidate_model("some other")
    assert (await lane.ask()).outcome == "HIT"


async def test_invalidating_the_tenant_of_the_cache_inside_drops_it_here_too(lane: Lane) -> None:
    from routecache_middleware.adapters.litellm.options import Isolation  # noqa: PLC0415
    from routecache_middleware.adapters.litellm.tenancy import tenant_of  # noqa: PLC0415

    data = {"metadata": {"user_api_key": "alice"}}
    tenant = tenant_of(data, isolation=Isolation.KEY, is_proxy=True)
    assert tenant
    await lane.ask()
    await lane.cache.invalidate_tenant(tenant)
    assert (await lane.ask()).outcome == "MISS"


async def test_a_fallbacks_answer_is_not_kept_under_the_model_asked_for(lane: Lane) -> None:
    lane.gateway.headers = [
        (b"x-litellm-model-group", b"spare"),
        (b"x-litellm-attempted-fallbacks", b"1"),
    ]
    await lane.ask()
    assert (await lane.ask()).outcome == "MISS"


async def test_hits_are_counted_and_what_is_forwarded_is_left_to_the_cache_inside(
    lane: Lane,
) -> None:
    await lane.ask()
    await lane.ask()
    await lane.ask(metadata={"a": "b"})
    counted = lane.cache.stats().result
    assert (counted.hits, counted.misses, counted.bypasses) == (1, 0, 0)


@pytest.mark.parametrize("way", ["fail", "hang"])
async def test_a_dead_coordinator_is_as_if_we_were_not_there(way: str) -> None:
    clock = FakeClock()
    store = ProbedCoordinator(clock)
    lane = Lane(
        clock=clock,
        coordinator=GuardedCoordinator(store, clock=SystemClock(), timeout_s=0.05),
        near=False,
    )
    await lane.ask()
    assert (await lane.ask()).outcome == "HIT"
    getattr(store, way)()
    for _ in range(2):
        answer = await lane.ask()
        assert answer.status == 200
        assert answer.outcome == "MISS"
    assert len(lane.gateway.asked) == 3
    store.heal()
    await lane.aclose()


async def test_without_a_time_for_leases_there_is_no_fast_lane() -> None:
    lane = Lane(auth_ttl_s=0.0)
    await lane.ask()
    assert (await lane.ask()).outcome == "MISS"
    await lane.aclose()


async def test_shared_tenancy_shares_nothing_here() -> None:
    lane = Lane(tenancy="shared")
    first = await lane.ask()
    assert (await lane.ask(key="bob")).body != first.body
    await lane.aclose()


async def test_an_odd_answer_gets_the_fields_of_no_hit(lane: Lane) -> None:
    lane.gateway.answer = json_answer(b"not json", headers=JSON)
    await lane.ask()
    assert (await lane.ask()).outcome == "MISS"


def test_it_is_off_unless_it_is_wanted_and_there_is_a_proxy() -> None:
    assert create(Hub(configure(environ={}), is_proxy=True)) is None
    assert create(Hub(configure(environ={}, fast_lane=True))) is None
    wrong = configure(environ={}, fast_lane=True, fast_lane_paths={"/v1/rerank"})
    with pytest.raises(ConfigurationError, match="/v1/rerank"):
        create(Hub(wrong, is_proxy=True))
