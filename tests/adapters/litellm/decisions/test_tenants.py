"""Behind the proxy: whose decision it is, and what its owner may call."""

import asyncio
import logging
from typing import Any

import pytest
from litellm.proxy._types import UserAPIKeyAuth

from routecache_middleware.core.models import Outcome
from tests.adapters.litellm.decisions.modes import LLM, PROMPT
from tests.adapters.litellm.decisions.routers import (
    COOKING,
    chat,
    complexity,
    installed,
    router_of,
    semantic,
)
from tests.adapters.litellm.provider import Provider


def _caller(key: str, *, team: str | None = None, **auth: Any) -> dict[str, Any]:
    """What the proxy puts into a request."""
    return {
        "metadata": {
            "user_api_key": key,
            "user_api_key_team_id": team,
            "user_api_key_org_id": None,
            "user_api_key_auth": UserAPIKeyAuth(api_key=key, team_id=team, **auth),
        }
    }


async def test_two_keys_share_no_decision(provider: Provider) -> None:
    """T1 and T15 of the threats: by default each key has its own."""
    async with installed(is_proxy=True) as at:
        router = router_of(provider, semantic())
        for key in ("k1", "k2", "k1", "k2"):
            await chat(router, COOKING, **_caller(key))
    assert (at.stats.misses, at.stats.hits) == (2, 2)


async def test_racing_tenants_share_no_flight(provider: Provider) -> None:
    """Ten calls of two keys at a time: two classifications, not one."""
    provider.always('{"tier": "COMPLEX"}', model="m-judge")
    async with installed(is_proxy=True):
        router = router_of(provider, complexity(LLM))
        callers = [_caller(f"k{number % 2}") for number in range(10)]
        await asyncio.gather(*(chat(router, PROMPT, **caller) for caller in callers))
    assert provider.count(model="m-judge") == 2


async def test_keys_of_a_team_share_when_told_to(provider: Provider) -> None:
    """``isolation: team``; a key without a team stays alone."""
    async with installed(is_proxy=True, isolation="team") as at:
        router = router_of(provider, semantic())
        for key, team in (("k1", "a"), ("k2", "a"), ("k3", "b"), ("k4", None), ("k5", None)):
            await chat(router, COOKING, **_caller(key, team=team))
    assert (at.stats.misses, at.stats.hits) == (4, 1)


async def test_without_a_key_nothing_is_kept(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning names the remedy."""
    with caplog.at_level(logging.WARNING, logger="routecache"):
        async with installed(is_proxy=True) as at:
            router = router_of(provider, semantic())
            await chat(router, COOKING)
            await chat(router, COOKING)
    assert (at.stats.misses, at.stats.hits, at.stats.bypasses) == (0, 0, 2)
    told = [record for record in caplog.records if record.name == "routecache"]
    assert len(told) == 1
    assert "allow_anonymous" in told[0].getMessage()


async def test_a_key_that_may_call_the_router_alone_hits(provider: Provider) -> None:
    """LiteLLM checks the router's name only, and routes such a key as well."""
    caller = _caller("k1", models=["smart"])
    async with installed(is_proxy=True) as at:
        router = router_of(provider, semantic())
        await chat(router, COOKING, **caller)
        await chat(router, COOKING, **caller)
    assert at.stats.hits == 1


async def test_access_that_was_taken_away_is_decided_anew(provider: Provider) -> None:
    """The maker could call the model by name; the same key cannot any more."""
    async with installed(is_proxy=True) as at:
        router = router_of(provider, semantic())
        await chat(router, COOKING, **_caller("k1", models=["smart", "small"]))
        await chat(router, COOKING, **_caller("k1", models=["smart", "small"]))
        assert (at.stats.misses, at.stats.hits) == (1, 1)
        narrowed = _caller("k1", models=["smart", "large"])
        await chat(router, COOKING, **narrowed)
        assert (at.stats.misses, at.stats.hits) == (2, 1)
        await chat(router, COOKING, **narrowed)  # what LiteLLM then decided is its own
    assert (at.stats.misses, at.stats.hits) == (2, 2)


async def test_a_teammate_without_access_is_decided_anew(provider: Provider) -> None:
    """One key of the team may call the model, the other may not; nor may a whole team."""
    async with installed(is_proxy=True, isolation="team") as at:
        router = router_of(provider, semantic())
        await chat(router, COOKING, **_caller("k1", team="a", models=["smart", "small"]))
        await chat(router, COOKING, **_caller("k2", team="a", models=["smart"]))
        assert (at.stats.misses, at.stats.hits) == (2, 0)
        everything = ["smart", "small", "medium", "large"]
        wide = {"models": everything, "team_models": everything}
        await chat(router, PROMPT, **_caller("k1", team="a", **wide))
        narrow = {**wide, "team_models": ["smart"]}
        await chat(router, PROMPT, **_caller("k2", team="a", **narrow))
    assert at.stats.hits == 0


async def test_access_that_cannot_be_checked_is_decided_anew(provider: Provider) -> None:
    """Fail closed: LiteLLM decides, as without us."""
    async with installed(is_proxy=True) as at:
        router = router_of(provider, semantic())
        await chat(router, COOKING, **_caller("k1"))
        caller = _caller("k1")
        caller["metadata"]["user_api_key_auth"] = object()
        before = provider.count("/embeddings")
        await chat(router, COOKING, **caller)
    assert provider.count("/embeddings") == before + 1
    assert at.stats.hits == 0


async def test_the_outcome_is_told_by_call(provider: Provider) -> None:
    """What the response header of the proxy says."""
    async with installed(is_proxy=True) as at:
        router = router_of(provider, semantic())
        for call_id in ("c1", "c2"):
            await chat(router, COOKING, litellm_call_id=call_id, **_caller("k1"))
        await chat(router, COOKING, litellm_call_id="c3")
        said = [at.hub.outcomes.of(call_id).decision for call_id in ("c1", "c2", "c3", "c4")]
    assert said == [Outcome.MISS, Outcome.HIT, Outcome.BYPASS, None]


async def test_a_forged_identity_leads_into_no_other_tenant(provider: Provider) -> None:
    """A client can fill in the metadata that its endpoint does not use."""
    async with installed(is_proxy=True, isolation="team") as at:
        router = router_of(provider, semantic())
        await chat(router, COOKING, **_caller("k1", team="a"))
        forged = {"user_api_key": "k1", "user_api_key_team_id": "a"}
        for team in ("b", None):
            await chat(router, COOKING, **_caller("k2", team=team), litellm_metadata=forged)
    assert at.stats.hits == 0
