"""Where prices come from: the table ``[routecache.prices]``, and LiteLLM's map of models.

    [routecache.prices]
    "gpt-4o" = { input = 2.5, output = 10 }      # US dollars per million tokens
    "llama-*" = { input = 0.1 }                  # output: 0

LiteLLM's map is read from its package's file, when that is installed; LiteLLM itself, which takes
seconds to import, is not loaded.
"""

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from routecache_middleware.core.checks import is_amount
from routecache_middleware.core.prices import Price, Prices, litellm_prices
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.config import found_in

__all__ = ["load_prices"]

_MAP: Final = "model_prices_and_context_window_backup.json"
_REMEDY: Final = (
    "a table of US dollars per million tokens: { input = 2.5, output = 10 }; output may be left out"
)


def load_prices(
    *,
    toml_path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    table: Mapping[str, object] | None = None,
) -> Prices:
    """Prices of this deployment; arguments as for :func:`.config.load_settings`.

    Reads files: 3 MB of LiteLLM's, once in a process.

    Raises:
        ConfigurationError: A price makes no sense, or the file cannot be read.
    """
    own: dict[str, Price] = {}
    for found in found_in("prices", toml_path=toml_path, environ=environ, table=table):
        row = found.value
        if not isinstance(row, Mapping) or "input" not in row or set(row) - {"input", "output"}:
            raise ConfigurationError(f"{found.where} is no price; it has to be {_REMEDY}")
        pair = row["input"], row.get("output", 0.0)
        if not all(map(is_amount, pair)):
            raise ConfigurationError(
                f"{found.where} is {row!r}; both have to be finite numbers, 0 or more"
            )
        own[found.name] = Price(*map(float, pair))
    return Prices(own, _of_litellm())


@cache
def _of_litellm() -> dict[str, Price]:
    """Return the prices that LiteLLM knows; none when it is not installed or its file not read."""
    spec = find_spec("litellm")  # does not run it
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        try:
            listed = msgspec.json.decode(Path(place, _MAP).read_bytes())
        except (OSError, ValueError):  # another version may have it elsewhere
            continue
        if isinstance(listed, dict):
            return litellm_prices(listed)
    return {}
