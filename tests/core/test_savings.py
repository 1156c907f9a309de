"""What was saved: sums that add up however they are cut."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.batch import shared_out
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Entry
from routecache_middleware.core.prices import Price, Prices
from routecache_middleware.core.savings import (
    OTHER,
    CacheTime,
    LayerSavings,
    SavedRow,
    SavingsReport,
    report,
)

PRICES = Prices({"a": Price(1, 2), "b": Price(3)})
SERVED = st.tuples(
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["t1", "t2"]),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.integers(0, 5_000),
)


def entry(model: str = "a", tokens: tuple[int, int] = (10, 20), cost_ms: float = 500) -> Entry:
    return Entry(
        layer=Layer.RESULT,
        body=b"{}",
        created_s=0.0,
        freshness_lifetime_s=1.0,
        cost_ms=cost_ms,
        model_id=model,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
    )


def test_what_was_served_was_saved() -> None:
    saved, time = LayerSavings(), CacheTime()
    for _ in range(2):
        saved.served(entry(), "t")
    saved.served(entry("c", (0, 0)), "t")
    saved.shared("a", "t")
    time.took(0.25, is_hit=True)
    said = report([(Layer.RESULT, saved)], time, hits=1, prices=PRICES)
    assert said.rows[0] == SavedRow(
        layer=Layer.RESULT,
        model="a",
        tenant="t",
        requests=3,
        without_tokens=1,
        without_time=1,
        input_tokens=20,
        output_tokens=40,
        upstream_s=1.0,
        usd=100 / 1_000_000,
    )
    assert (said.requests, said.input_tokens, said.output_tokens) == (4, 20, 40)
    assert said.usd == 100 / 1_000_000
    assert said.saved_s == 1.25
    assert said.unpriced == ()  # nothing was counted that has no price


def test_a_model_without_a_price_has_tokens_and_no_money_and_that_is_said() -> None:
    saved = LayerSavings()
    saved.served(entry("c"), "t")
    said = report([(Layer.RESULT, saved)], CacheTime(), hits=1, prices=PRICES)
    assert said.rows[0].usd is None
    assert (said.usd, said.input_tokens, said.unpriced) == (0, 10, ("c",))


def test_a_cache_that_takes_longer_than_it_saves_says_so() -> None:
    time = CacheTime()
    time.took(2.0, is_hit=False)
    assert report([], time, hits=0).saved_s == -2.0


def test_tenants_and_models_beyond_the_limits_are_counted_together() -> None:
    saved = LayerSavings()
    for number in range(1_100):
        saved.served(entry(f"m{number}"), "t0")
        saved.served(entry(), f"t{number}")
    rows = list(saved.rows(Layer.RESULT, PRICES))
    assert sum(row.requests for row in rows) == 2_200
    assert len({row.tenant for row in rows}) == 1_001
    assert len({row.model for row in rows if row.tenant == "t0"}) == 101
    assert {OTHER} < {row.tenant for row in rows}


def test_hits_that_are_not_measured_count_as_long_as_the_sampled_ones() -> None:
    time = CacheTime()
    assert time.total_s(10) == 0.0
    time.sampled(0.002)
    time.sampled(0.004)
    time.took(1.0, is_hit=True)
    time.took(0.5, is_hit=False)
    time.took(-1.0, is_hit=False)  # the clock of another core
    assert time.total_s(11) == pytest.approx(1.5 + 10 * 0.003)
    assert time.total_s(0) == 1.5


@given(st.lists(SERVED, max_size=30))
def test_every_way_to_cut_the_sums_adds_up_to_the_whole(
    served: list[tuple[str, str, int, int, int]],
) -> None:
    layers = {Layer.RESULT: LayerSavings(), Layer.ROUTING: LayerSavings()}
    for number, (model, tenant, tokens_in, tokens_out, ms) in enumerate(served):
        layer = Layer.RESULT if number % 3 else Layer.ROUTING
        layers[layer].served(entry(model, (tokens_in, tokens_out), ms), tenant)
    said = report(layers.items(), CacheTime(), hits=0, prices=PRICES)
    exact = sum(
        (
            Fraction(tokens_in) * {"a": 1, "b": 3}.get(model, 0)
            + Fraction(tokens_out) * {"a": 2}.get(model, 0)
            for model, _, tokens_in, tokens_out, _ in served
        ),
        Fraction(0),
    )
    assert math.isclose(said.usd, float(exact / 1_000_000), abs_tol=1e-12)
    assert said.requests == len(served)
    assert said.input_tokens == sum(one[2] for one in served)
    assert math.isclose(said.saved_s, sum(one[4] for one in served) / 1000, abs_tol=1e-9)
    for cut in (said.by_layer(), said.by_model(), said.by_tenant()):
        assert sum(row.requests for row in cut.values()) == said.requests
        assert sum(row.input_tokens for row in cut.values()) == said.input_tokens
        assert sum(row.output_tokens for row in cut.values()) == said.output_tokens
        assert math.isclose(sum(row.usd or 0 for row in cut.values()), said.usd, abs_tol=1e-12)


@given(st.lists(SERVED, max_size=20), st.integers(0, 20))
def test_processes_together_have_saved_what_one_would_have(
    served: list[tuple[str, str, int, int, int]], cut: int
) -> None:
    def of(part: list[tuple[str, str, int, int, int]]) -> SavingsReport:
        saved, time = LayerSavings(), CacheTime()
        for model, tenant, tokens_in, tokens_out, ms in part:
            saved.served(entry(model, (tokens_in, tokens_out), ms), tenant)
            time.took(0.5, is_hit=True)
        return report([(Layer.RESULT, saved)], time, hits=len(part), prices=PRICES)

    joint = of(served[:cut]).merged(of(served[cut:]))
    alone = of(served)
    assert {(r.model, r.tenant, r.requests, r.input_tokens) for r in joint.rows} == {
        (r.model, r.tenant, r.requests, r.input_tokens) for r in alone.rows
    }
    assert math.isclose(joint.usd, alone.usd, abs_tol=1e-12)
    assert joint.cache_s == alone.cache_s
    assert joint.unpriced == alone.unpriced


@given(st.integers(0, 10**9), st.lists(st.integers(-3, 1000), min_size=1, max_size=20))
def test_shares_add_up_to_the_whole_and_none_is_negative(total: int, sizes: list[int]) -> None:
    shares = shared_out(total, sizes)
    assert sum(shares) == total
    assert len(shares) == len(sizes)
    assert min(shares) >= 0


def test_shares_follow_the_sizes() -> None:
    assert shared_out(10, [1, 4]) == [2, 8]
    assert shared_out(9, [0, 0, 0]) == [3, 3, 3]
