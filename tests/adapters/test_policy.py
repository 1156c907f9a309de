"""Which requests are cached at all, and for how long: overrides, a callable, who asked for it."""

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from routecache_middleware import CachePolicy, LLMRequest
from routecache_middleware.core.override import Override
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import KEY, PATH, fetch
from tests.support.chat import ask, completion

Decide = Callable[[LLMRequest], Any]
BYPASSED = "routecache; fwd=bypass; detail=policy"


def only(**values: Any) -> CachePolicy:
    return CachePolicy(overrides=(Override(**values),))


async def test_a_model_is_not_cached(gateway: Gateway) -> None:
    cached = gateway(policy=only(models={"live-*"}, is_cached=False))
    for _ in range(2):
        got = await fetch(cached, ask(model="live-1"))
        assert got.get("cache-status") == BYPASSED
    await fetch(cached, ask(model="other"))
    assert (await fetch(cached, ask(model="other"))).outcome == "HIT"


async def test_no_model_name_holds_up_the_loop(gateway: Gateway) -> None:
    policy = CachePolicy(overrides=(Override(models=frozenset({"*gpt*mini"}), ttl_s=5.0),))
    mw = gateway(policy=policy)
    began = time.perf_counter()
    await fetch(mw, ask(model="gpt" * 20_000))
    assert time.perf_counter() - began < 0.1


async def test_a_path_has_its_own_lifetime(gateway: Gateway, clock: FakeClock) -> None:
    cached = gateway(policy=only(paths={"/batch/*"}, ttl_s=1_000))
    long, usual = "/batch/v1/chat/completions", "/v1/chat/completions"
    await fetch(cached, path=long)
    await fetch(cached, path=usual)
    clock.advance(900)
    assert (await fetch(cached, path=long)).outcome == "HIT"
    assert (await fetch(cached, path=usual)).outcome == "MISS"


async def test_a_client_may_shorten_that_lifetime(gateway: Gateway, clock: FakeClock) -> None:
    cached = gateway(policy=only(ttl_s=1_000))
    await fetch(cached, headers=[KEY, (b"routecache-ttl", b"900")])
    clock.advance(899)
    assert (await fetch(cached)).outcome == "HIT"
    clock.advance(1)
    assert (await fetch(cached)).outcome == "MISS"


async def test_temperature_and_tools_by_model(gateway: Gateway) -> None:
    cached = gateway(policy=only(models={"strict"}, max_temperature=0.5))
    got = await fetch(cached, ask(model="strict", temperature=0.9))
    assert got.get("cache-status") == "routecache; fwd=bypass; detail=temperature"
    assert (await fetch(cached, ask(model="m", temperature=0.9))).outcome == "MISS"


async def test_finish_reasons_by_model(gateway: Gateway) -> None:
    answers = ScriptedApp(json_answer(completion(finish="length")))
    cached = gateway(answers, policy=only(models={"m"}, finish_reasons={"stop"}))
    await fetch(cached)
    assert cached.cache.stats().discards == {"finish-reason": 1}


@pytest.mark.parametrize(
    ("verdict", "second"),
    [(None, "HIT"), (True, "HIT"), (30, "HIT"), (False, "BYPASS"), (0, "MISS"), (5, "MISS")],
)
async def test_a_callable_has_the_last_word(
    gateway: Gateway, clock: FakeClock, verdict: object, second: str
) -> None:
    asked: list[LLMRequest] = []

    def decide(request: LLMRequest) -> Any:
        asked.append(request)
        return verdict

    cached = gateway(policy=CachePolicy(decide=decide))
    await fetch(cached, ask("why?"))
    clock.advance(10)
    assert (await fetch(cached, ask("why?"))).outcome == second
    assert [(one.model, one.prompt_text, one.dialect) for one in asked] == [
        ("m", "why?", "openai.chat")
    ] * 2
    assert asked[0].tenant
    assert "why?" not in repr(asked[0])


def raises(_: LLMRequest) -> bool:
    raise RuntimeError("sk-secret why?")


def lies(_: LLMRequest) -> str:
    return "yes"


@pytest.mark.parametrize("decide", [raises, lies])
async def test_a_callable_that_fails_costs_the_cache_only(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, decide: Decide
) -> None:
    cached = gateway(policy=CachePolicy(decide=decide))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            got = await fetch(cached)
            assert (got.status, got.get("cache-status")) == (200, BYPASSED)
    assert len(caplog.records) == 1
    assert "decide" in caplog.text
    assert "secret" not in caplog.text


async def test_each_kind_of_failure_is_logged_once_with_its_remedy(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Kind and place, never the text; and what a wrong answer would have to be."""
    answers: list[Any] = [KeyError("sk-secret"), "sk-secret", ValueError("x"), -3, KeyError("y")]

    def decide(_: LLMRequest) -> Any:
        answer = answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    cached = gateway(policy=CachePolicy(decide=decide))
    with caplog.at_level(logging.WARNING):
        while answers:
            for _ in range(3):
                assert (await fetch(cached)).get("cache-status") == BYPASSED
            answers.pop(0)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    first, second, third = said
    assert "the policy's decide failed with KeyError at " in first
    assert first.endswith("let it return None for what it cannot judge")
    assert (
        "decide failed: it returned a str; it has to return None, True, False, or how many seconds"
        in second
    )
    assert "failed with ValueError" in third
    assert "secret" not in caplog.text


async def test_kinds_that_are_made_up_do_not_fill_the_log(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    number = 0

    def decide(_: LLMRequest) -> bool:
        nonlocal number
        number += 1
        raise type(f"Error{number}", (Exception,), {})

    cached = gateway(policy=CachePolicy(decide=decide))
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            await fetch(cached)
    assert len(caplog.records) == 64


@pytest.mark.parametrize(
    ("verdict", "asked", "lifetime_s"),
    [
        (None, 900, 900),
        (30, 900, 30),
        (30, 5, 5),
        (900, 1200, 900),
        (900, None, 900),
        (30, None, 30),
    ],
)
async def test_what_a_callable_grants_no_client_exceeds(
    gateway: Gateway, clock: FakeClock, verdict: object, asked: int | None, lifetime_s: int
) -> None:
    """``max_client_ttl_s`` is for requests that nobody was asked about."""
    policy = CachePolicy(decide=lambda _: verdict)  # type: ignore[arg-type, return-value]
    cached = gateway(policy=policy, result_ttl_s=60.0, max_client_ttl_s=1000.0)
    wish = [] if asked is None else [(b"routecache-ttl", b"%d" % asked)]
    said = await cached.explain(path=PATH, body=ask(), headers=[KEY, *wish])
    assert said.ttl_s == lifetime_s
    await fetch(cached, headers=[KEY, *wish])
    clock.advance(lifetime_s - 1)
    assert (await fetch(cached)).outcome == "HIT"
    clock.advance(1)
    assert (await fetch(cached)).outcome == "MISS"


async def test_a_hit_is_judged_as_well(gateway: Gateway) -> None:
    """What a callable forbids from now on is not served from now on."""
    is_allowed = True
    cached = gateway(policy=CachePolicy(decide=lambda _: is_allowed))
    await fetch(cached)
    assert (await fetch(cached)).outcome == "HIT"
    is_allowed = False
    assert (await fetch(cached)).outcome == "BYPASS"


@pytest.mark.parametrize(
    ("asked", "header"),
    [({"cache": {"use-cache": True}}, None), ({"cache": {"ttl": 60}}, None), ({}, b"60")],
)
async def test_with_opt_in_only_what_asks_for_it_is_cached(
    gateway: Gateway, asked: dict[str, Any], header: bytes | None
) -> None:
    cached = gateway(policy=CachePolicy(opt_in=True))
    assert (await fetch(cached)).get("cache-status") == BYPASSED
    headers = [KEY] if header is None else [KEY, (b"routecache-ttl", header)]
    await fetch(cached, ask(**asked), headers=headers)
    assert (await fetch(cached, ask(**asked), headers=headers)).outcome == "HIT"
    assert (await fetch(cached)).outcome == "BYPASS"


async def test_what_the_provider_keeps_is_cached_if_the_operator_says_so(gateway: Gateway) -> None:
    kept = ask(store=True)
    assert (await fetch(gateway(), kept)).outcome == "BYPASS"
    cached = gateway(policy=CachePolicy(allow_stored=True))
    await fetch(cached, kept)
    assert (await fetch(cached, kept)).outcome == "HIT"
    searching = ask(store=True, web_search_options={})
    got = await fetch(cached, searching)
    assert got.get("cache-status") == "routecache; fwd=bypass; detail=web-search"
