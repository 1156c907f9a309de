"""What the proxy's responses say of the cache."""

from collections.abc import AsyncIterator

import pytest

from routecache_middleware.adapters.litellm.hooks import RouteCacheCallback
from routecache_middleware.adapters.litellm.outcomes import CallOutcome
from routecache_middleware.adapters.litellm.results.headers import fields_of
from routecache_middleware.core.models import BypassReason, MissReason, Outcome
from tests.adapters.litellm.asking import Asking, answering
from tests.adapters.litellm.provider import Provider


@pytest.fixture
async def asking(provider: Provider) -> AsyncIterator[Asking]:
    async with answering(provider) as asking:
        yield asking


async def headers(asking: Asking, call_id: object) -> dict[str, str]:
    """What LiteLLM gets when it asks for further headers."""
    data = {"litellm_call_id": call_id}
    return await asking.hub.callback.async_post_call_response_headers_hook(data, None, None)


async def test_a_miss_and_a_hit_say_so(asking: Asking) -> None:
    await asking.chat(litellm_call_id="one")
    await asking.kept(1)
    await asking.chat(litellm_call_id="two")
    assert await headers(asking, "one") == {
        "cache-status": "routecache; fwd=miss",
        "x-routecache": "MISS",
        "x-routecache-model": "openai/gpt-4o",
    }
    hit = await headers(asking, "two")
    assert hit.pop("cache-status").startswith("routecache; hit; ttl=")
    assert hit.pop("age").isdecimal()
    assert hit == {
        "x-routecache": "HIT",
        "x-routecache-model": "openai/gpt-4o",
        "x-litellm-response-cost": "0.0",
    }


async def test_a_bypass_says_why(asking: Asking) -> None:
    await asking.chat(litellm_call_id="one", store=True)
    found = await headers(asking, "one")
    assert found["cache-status"] == "routecache; fwd=bypass; detail=store"
    assert found["x-routecache"] == "BYPASS"


@pytest.mark.parametrize("call_id", [None, "unknown", 3])
async def test_of_an_unknown_call_nothing_is_said(asking: Asking, call_id: object) -> None:
    assert await headers(asking, call_id) == {}


async def test_they_can_be_switched_off(provider: Provider) -> None:
    async with answering(provider, response_headers=False) as asking:
        await asking.chat(litellm_call_id="one")
        assert await headers(asking, "one") == {}


@pytest.mark.parametrize("reason", MissReason)
def test_every_miss_has_a_status(reason: MissReason) -> None:
    fields = fields_of(CallOutcome(Outcome.MISS, reason), "memory")
    assert fields["cache-status"].startswith("routecache; fwd=")
    assert fields["x-routecache"] == "MISS"
    assert "x-litellm-response-cost" not in fields


@pytest.mark.parametrize("outcome", [Outcome.BYPASS, Outcome.ERROR])
@pytest.mark.parametrize("reason", BypassReason)
def test_every_bypass_has_a_status(outcome: Outcome, reason: BypassReason) -> None:
    fields = fields_of(CallOutcome(outcome, reason), "memory")
    assert fields["cache-status"] == f"routecache; fwd=bypass; detail={reason}"


def test_an_answer_of_another_call_says_so_and_costs_nothing() -> None:
    fields = fields_of(CallOutcome(Outcome.COALESCED), "memory")
    assert fields["cache-status"] == "routecache; fwd=miss; collapsed"
    assert (fields["x-routecache"], fields["x-litellm-response-cost"]) == ("COALESCED", "0.0")


@pytest.mark.parametrize(
    ("decision", "said"), [(Outcome.HIT, "HIT"), (Outcome.COALESCED, "HIT"), (Outcome.MISS, "MISS")]
)
def test_a_routing_decision_is_told_even_without_an_answer(decision: Outcome, said: str) -> None:
    assert fields_of(CallOutcome(decision=decision), "memory") == {"x-routecache-decision": said}


def test_a_model_that_has_no_place_in_a_header_is_left_out() -> None:
    for model in ("modèle", "two\nlines", ""):
        assert "x-routecache-model" not in fields_of(CallOutcome(model=model), "memory")


def test_litellm_finds_the_hook_in_the_class_itself() -> None:
    """It looks nowhere else."""
    assert "async_post_call_response_headers_hook" in vars(RouteCacheCallback)
