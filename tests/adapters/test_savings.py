"""What requests through the middleware save, and what shadow mode says that they would."""

import json
from pathlib import Path
from typing import Any

import pytest

from routecache_middleware import LLMRequest, RoutingDecision
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.metrics import SAVED_COST, SAVED_TIME, SAVED_TOKENS, SAVED_VALUES
from routecache_middleware.core.prices import Price, Prices
from routecache_middleware.core.savings import SavingsReport
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import KEY, fetch
from tests.support.chat import ask, completion
from tests.support.embeddings import PATH, EmbeddingApp
from tests.support.embeddings import ask as asking_for

PRICES = Prices({"m": Price(1, 2)})


def saved(mw: Any) -> SavingsReport:
    report: SavingsReport = mw.cache.savings(PRICES)
    return report


async def test_a_hit_saves_the_tokens_of_its_answer(gateway: Gateway) -> None:
    mw = gateway()
    for _ in range(4):
        await fetch(mw)
    said = saved(mw)
    (row,) = said.rows
    assert (row.layer, row.model, row.requests) == (Layer.RESULT, "m", 3)
    assert (row.input_tokens, row.output_tokens, row.without_tokens) == (3, 6, 0)
    assert said.usd == pytest.approx(15e-6)
    assert len(row.tenant) == 32  # opaque
    assert row.upstream_s > 0
    assert 0 < said.cache_s < 1


async def test_the_long_way_saves_as_much_as_the_short_one(gateway: Gateway) -> None:
    mw = gateway(server_timing=True)
    for _ in range(3):
        await fetch(mw)
    assert saved(mw).input_tokens == 2
    assert mw.cache.engine.recorder.time.timed_hits == 2


async def test_of_the_shortest_hits_one_in_64_is_timed(gateway: Gateway) -> None:
    mw = gateway()
    for _ in range(130):
        await fetch(mw)
    time = mw.cache.engine.recorder.time
    assert time._sampled == 2
    assert saved(mw).cache_s > time.timed_s


async def test_stale_answers_save_as_well(gateway: Gateway, clock: FakeClock) -> None:
    mw = gateway(result_stale_while_revalidate_s=100.0)
    await fetch(mw)
    clock.advance(601)
    assert (await fetch(mw)).outcome == "STALE"
    assert saved(mw).requests == 1


async def test_decisions_save_the_routers_time_which_is_not_the_caches(gateway: Gateway) -> None:
    async def choose(_: LLMRequest) -> RoutingDecision:
        return RoutingDecision("m", decide_ms=500_000)

    mw = gateway(router=choose)
    await fetch(mw, ask(temperature=0))
    await fetch(mw, ask(temperature=0.1))
    said = saved(mw).by_layer()
    assert said["route"].upstream_s == 500
    assert (said["route"].requests, "result" in said) == (1, False)
    assert saved(mw).cache_s < 1


async def test_the_parts_of_a_batch_share_its_tokens(gateway: Gateway) -> None:
    mw = gateway(EmbeddingApp())
    for value in (["a", "bbb", "a"], ["a", "bbb", "a"], "bbb", "a"):
        await fetch(mw, asking_for(value), path=PATH, headers=[KEY])
    said = saved(mw)
    assert said.requests == 3
    whole = sum(row.input_tokens for row in said.rows)
    mw = gateway(EmbeddingApp())
    for _ in range(2):
        await fetch(mw, asking_for(["a", "bbb", "a"]), path=PATH, headers=[KEY])
    alone = saved(mw).input_tokens
    assert 0 < alone < whole < 2 * alone


async def test_parts_that_came_with_others_have_no_tokens_of_their_own(gateway: Gateway) -> None:
    mw = gateway(EmbeddingApp())
    await fetch(mw, asking_for("a"), path=PATH, headers=[KEY])
    await fetch(mw, asking_for(["a", "b"]), path=PATH, headers=[KEY])
    before = saved(mw).requests
    await fetch(mw, asking_for("b"), path=PATH, headers=[KEY])
    (row,) = saved(mw).rows
    assert row.requests == before + 1
    assert row.without_tokens == 1


async def test_shadow_mode_says_how_its_answers_would_have_compared(gateway: Gateway) -> None:
    first = completion("one")
    answers = [
        first,
        first,
        first.replace(b"chatcmpl-1", b"chatcmpl-2"),
        completion("two"),
        b'{"error": {}}',
    ]
    app = ScriptedApp(*map(json_answer, answers))
    mw = gateway(app, mode="shadow")
    for _ in answers:
        await fetch(mw)
    said = mw.cache.shadow_report()
    assert (said.equal_bytes, said.equal_text, said.different) == (1, 1, 1)
    assert said.served == 3  # an error is nothing to compare with
    assert (said.input_tokens, said.output_tokens) == (3, 6)
    assert saved(mw).requests == 0  # nothing was served


async def test_tokens_that_make_no_sense_are_not_added_up(gateway: Gateway) -> None:
    answer = json.loads(completion())
    answer["usage"] = {"prompt_tokens": -5, "completion_tokens": 10**15, "total_tokens": 1}
    mw = gateway(ScriptedApp(json_answer(json.dumps(answer).encode())))
    for _ in range(2):
        await fetch(mw)
    assert saved(mw).input_tokens == 0
    assert saved(mw).output_tokens <= 10**12


async def test_prices_come_from_the_configuration(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "prices.toml"
    file.write_text("[routecache.prices]\nm = { input = 4 }\n", encoding="utf-8")
    monkeypatch.setenv("ROUTECACHE_CONFIG", str(file))
    mw = gateway()
    for _ in range(2):
        await fetch(mw)
    assert mw.cache.savings().usd == pytest.approx(4e-6)
    metered = mw.cache.metrics()
    assert metered.value(SAVED_COST, "m") == pytest.approx(4e-6)
    assert metered.value(SAVED_TOKENS, "input", "m") == 1
    assert metered.value(SAVED_TOKENS, "output", "m") == 2
    assert metered.value(SAVED_TIME, "result") > 0
    assert metered.value(SAVED_VALUES, "result") == 1
