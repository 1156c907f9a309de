"""What models cost, per million tokens, and what so many tokens cost then. Pure.

A model without a price has none: a wrong price is worse than no price.
"""

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

__all__ = ["NO_PRICES", "Price", "Prices", "litellm_prices"]

_MILLION: Final = 1_000_000
_MOST_USD: Final = 1e9  # per million tokens: what is above is a mistake in a file


class Price(NamedTuple):
    """What a model costs.

    Attributes:
        input_usd: US dollars per million input tokens.
        output_usd: US dollars per million output tokens.
    """

    input_usd: float
    output_usd: float = 0.0

    def usd(self, input_tokens: int, output_tokens: int) -> float:
        """Return what so many tokens cost, US dollars."""
        return (input_tokens * self.input_usd + output_tokens * self.output_usd) / _MILLION


class Prices:
    """Prices by model.

    A name is looked for as it is, then among the names with ``*``, longest first, then without the
    provider before its last slash (``openai/gpt-4o``). First in one's own prices, then in a list
    that came from elsewhere.
    """

    __slots__ = ("_listed", "_own", "_patterns")

    def __init__(
        self, own: Mapping[str, Price] | None = None, listed: Mapping[str, Price] | None = None
    ) -> None:
        """Take prices.

        Args:
            own: What the operator says; ``*`` in a name stands for any text.
            listed: What a public list says; names as they are.
        """
        self._own = dict(own or {})
        self._listed = dict(listed or {})
        self._patterns = sorted((n for n in self._own if "*" in n), key=lambda n: (-len(n), n))

    def __len__(self) -> int:
        return len(self._own) + len(self._listed)

    def find(self, model: str) -> Price | None:
        """Return what a model costs; None when nobody says."""
        names = [model, model.rpartition("/")[2]] if "/" in model else [model]
        for name in names:
            price = self._own.get(name) or self._fitting(name)
            if price is not None:
                return price
        return next((self._listed[name] for name in names if name in self._listed), None)

    def _fitting(self, model: str) -> Price | None:
        # Brackets are letters here: only * is special.
        for name in self._patterns:
            if fnmatchcase(model, name.replace("[", "[[]").replace("?", "[?]")):
                return self._own[name]
        return None


NO_PRICES: Final = Prices()
"""Nobody says what anything costs."""


def litellm_prices(listed: Mapping[str, object]) -> dict[str, Price]:
    """Return the prices in LiteLLM's map of models; rows that name none, or nonsense, are left out.

    Args:
        listed: The map, as in its ``model_prices_and_context_window.json``: by model a mapping with
            ``input_cost_per_token`` and ``output_cost_per_token``, US dollars.
    """
    found = {}
    for name, row in listed.items():
        if not isinstance(row, Mapping) or "input_cost_per_token" not in row:
            continue
        pair = [row["input_cost_per_token"], row.get("output_cost_per_token", 0.0)]
        costs = [_per_million(cost) for cost in pair]
        if None not in costs:
            found[name] = Price(*[cost for cost in costs if cost is not None])
    return found


def _per_million(cost: object) -> float | None:
    if isinstance(cost, bool) or not isinstance(cost, int | float):
        return None
    usd = float(cost) * _MILLION if abs(cost) <= _MOST_USD else math.inf
    return round(usd, 9) if 0 <= usd <= _MOST_USD else None
