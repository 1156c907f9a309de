"""What models cost: names, patterns, and maps that hold nonsense."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.prices import NO_PRICES, Price, Prices, litellm_prices


def test_tokens_cost_by_the_million() -> None:
    assert Price(2.5, 10).usd(1_000_000, 100_000) == 3.5
    assert Price(2.5).usd(0, 7) == 0


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4o", 1),
        ("openai/gpt-4o", 1),
        ("gpt-4o-mini-2", 3),
        ("gpt-4o-2", 2),
        ("azure/gpt-4o-mini-x", 3),
        ("listed", 5),
        ("openai/listed", 6),
        ("x/listed", 5),
        ("[a]b", 4),
        ("ab", None),
        ("", None),
        ("gpt", None),
    ],
)
def test_the_nearest_name_counts_and_ones_own_first(model: str, expected: float | None) -> None:
    own = {"gpt-4o": 1, "gpt-4o-*": 2, "gpt-4o-mini*": 3, "[a]*": 4}
    listed = {"listed": 5, "openai/listed": 6, "gpt-4o": 7}
    prices = Prices(
        {name: Price(cost) for name, cost in own.items()},
        {name: Price(cost) for name, cost in listed.items()},
    )
    assert len(prices) == 7
    assert prices.find(model) == (None if expected is None else Price(expected))
    assert NO_PRICES.find(model) is None


def test_a_public_map_is_read_and_nonsense_left_out() -> None:
    listed = {
        "good": {"input_cost_per_token": 2.5e-6, "output_cost_per_token": 1e-5, "mode": "chat"},
        "embedding": {"input_cost_per_token": 2e-8},
        "image": {"output_cost_per_image": 1},
        "text": {"input_cost_per_token": "free"},
        "true": {"input_cost_per_token": True},
        "negative": {"input_cost_per_token": -1},
        "nan": {"input_cost_per_token": math.nan},
        "huge": {"input_cost_per_token": 10**400, "output_cost_per_token": 1},
        "null": {"input_cost_per_token": 1e-6, "output_cost_per_token": None},
        "row": 7,
    }
    assert litellm_prices(listed) == {"good": Price(2.5, 10), "embedding": Price(0.02, 0)}


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(0, 1000), st.floats(0, 1000))
def test_what_two_halves_cost_the_whole_costs(
    first: int, second: int, in_usd: float, out_usd: float
) -> None:
    price = Price(in_usd, out_usd)
    whole = price.usd(first + second, first)
    assert math.isclose(whole, price.usd(first, first) + price.usd(second, 0), abs_tol=1e-9)
