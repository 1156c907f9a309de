"""What else of a request counts, and the strategies that have no test file of their own."""

from typing import Any

from tests.adapters.litellm.decisions.modes import Classifier
from tests.adapters.litellm.decisions.routers import (
    TIERS,
    chat,
    complexity,
    group,
    installed,
    quality_group,
    router_of,
    semantic,
    user,
)
from tests.adapters.litellm.provider import Provider


def _adaptive(provider: Provider) -> list[Any]:
    preferences = {"quality_tier": 2, "strengths": []}
    config = {"available_models": ["small", "large"], "weights": {"quality": 0.7, "cost": 0.3}}
    return [
        group(provider, "small", adaptive_router_preferences=preferences),
        group(provider, "large", adaptive_router_preferences=preferences),
        {
            "model_name": "smart",
            "litellm_params": {
                "model": "auto_router/adaptive_router",
                "adaptive_router_config": config,
            },
        },
    ]


async def test_the_bandit_picks_anew_by_default(provider: Provider) -> None:
    """Caching its picks would freeze what it learns."""
    async with installed() as at:
        router = router_of(provider, *_adaptive(provider))
        for _ in range(3):
            await chat(router, "hi")
    assert (at.stats.misses, at.stats.hits, at.stats.bypasses) == (0, 0, 0)


async def test_the_bandits_picks_are_kept_when_told_to(provider: Provider) -> None:
    """``adaptive_decisions``; the least quality that is asked for counts."""
    async with installed(adaptive_decisions=True) as at:
        router = router_of(provider, *_adaptive(provider))
        answers = [await chat(router, "hi") for _ in range(6)]
        assert (at.stats.misses, at.stats.hits) == (1, 5)
        await chat(router, "hi", metadata={"min_quality_tier": 1})
    assert len({answer.model for answer in answers}) == 1
    assert at.stats.misses == 2


async def test_an_adaptive_complexity_router_is_kept_when_told_to(provider: Provider) -> None:
    """With the marks that its feedback needs."""
    config = {"adaptive": True, "tiers": {**TIERS, "SIMPLE": ["small", "medium"]}}
    async with installed(adaptive_decisions=True) as at:
        router = router_of(provider, complexity(config))
        marks: list[dict[str, Any]] = [{}, {}]
        for mark in marks:
            await chat(router, "hi", metadata=mark)
    assert at.stats.hits == 1
    chosen = [mark["adaptive_router_chosen_model"] for mark in marks]
    assert chosen[0] == chosen[1]
    assert marks[0]["adaptive_router_decision"] == marks[1]["adaptive_router_decision"]


async def test_a_quality_router_follows_its_index(provider: Provider) -> None:
    """The same configuration over other groups is another router."""
    marker = {
        "model_name": "smart",
        "litellm_params": {
            "model": "auto_router/quality_router",
            "quality_router_config": {
                "available_models": ["small", "large"],
                "default_model": "large",
            },
        },
    }
    large = quality_group(provider, "large", 3)
    async with installed() as at:
        for keyword in ("egg", "egg", "rice"):
            small = quality_group(provider, "small", 1, keyword)
            router = router_of(provider, small, large, marker)
            await chat(router, "prove step by step that this egg is raw, think it through")
    assert (at.stats.misses, at.stats.hits) == (2, 1)


async def test_a_router_without_messages_says_nothing(provider: Provider) -> None:
    """None of the strategies routes an embedding; nothing is kept of that."""
    async with installed() as at:
        router = router_of(provider, complexity(), group(provider, "smart"))
        for _ in range(2):
            await router.aembedding(model="smart", input="")
    assert at.stats.writes == 0


async def test_tags_count(provider: Provider) -> None:
    """They say which of several routers of a name decides, and where its groups are."""
    async with installed() as at:
        router = router_of(
            provider,
            complexity(tags=["paid"]),
            complexity({"tiers": dict.fromkeys(TIERS, "large")}, tags=["free"]),
        )
        models = [
            (await chat(router, "hi", metadata={"tags": [tag]})).model
            for tag in ("paid", "free", "paid", "free")
        ]
    assert models == ["m-small", "m-large"] * 2
    assert (at.stats.misses, at.stats.hits) == (2, 2)


async def test_two_routers_share_nothing(provider: Provider) -> None:
    """Nor do two names of one configuration."""
    async with installed() as at:
        router = router_of(provider, complexity(), complexity(name="smarter"), semantic("other"))
        for model in ("smart", "smarter", "other"):
            await router.acompletion(model=model, messages=user("hi"))
    assert (at.stats.misses, at.stats.hits) == (3, 0)


async def test_our_own_router_version_counts(provider: Provider) -> None:
    """``router_version``: for what no fingerprint can see, such as a classifier's code."""
    from routecache_middleware.core.settings import Settings  # noqa: PLC0415 - one user
    from routecache_middleware.wiring.cache import RouteCache  # noqa: PLC0415 - one user

    first = RouteCache(url="memory://", settings=Settings(router_version="1"), observers=())
    second = RouteCache(
        coordinator=first.engine.coordinator,
        settings=Settings(router_version="2"),
        observers=(),
    )
    router = router_of(provider, complexity())
    for cache, misses in ((first, 1), (second, 1)):
        async with installed(cache=cache) as at:
            await chat(router, "hi")
            assert at.stats.misses == misses
    await first.aclose()


async def test_what_a_custom_classifier_can_read_counts(provider: Provider) -> None:
    """It gets the caller's metadata; what the Router adds to it does not count."""
    config = {"classifier_type": "custom", "classifier_plugin": Classifier()}
    async with installed() as at:
        router = router_of(provider, complexity(config))
        for customer in ("a", "b", "a"):
            await chat(router, "hi", metadata={"customer": customer})
    assert (at.stats.misses, at.stats.hits) == (2, 1)


async def test_the_user_agent_counts_for_the_complexity_router(provider: Provider) -> None:
    """It decides which reminders are cut out of a prompt."""
    async with installed() as at:
        router = router_of(provider, complexity())
        for agent in ("codex_cli_rs/1", "curl/8", "curl/8"):
            await chat(router, "hi", metadata={"user_agent": agent})
    assert (at.stats.misses, at.stats.hits) == (2, 1)
