"""Where prices come from: the table ``[routecache.prices]``, and LiteLLM's map of models.

    [routecache.prices]
    "gpt-4o" = { input = 2.5, output = 10 }      # US dollars per million tokens
    "llama-*" = { input = 0.1 }                  # output: 0

LiteLLM's map is read from its package's file, when that is installed; LiteLLM itself, which takes
seconds to import, is not loaded.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from routecache_middleware.core.checks import is_amount
from routecache_middleware.core.prices import NO_PRICES, Price, Prices, litellm_prices
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.config import found_in

__all__ = ["LazyPrices", "load_prices"]

_logger = logging.getLogger("routecache")

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


class LazyPrices:
    """Prices that are read once, when somebody first asks, without keeping anybody waiting.

    Args:
        load: Reads them, which takes a while and may raise :class:`ConfigurationError`.
    """

    def __init__(self, load: Callable[[], Prices] = load_prices) -> None:
        self._load = load
        self._found = NO_PRICES
        self._reader: threading.Thread | None = None

    def __call__(self) -> Prices:
        """Return what is known by now; the first call begins to read, in a thread."""
        if self._reader is None:
            self._reader = threading.Thread(
                target=self._read, name="routecache-prices", daemon=True
            )
            self._reader.start()
        return self._found

    def load(self) -> Prices:
        """Read them now.

        Raises:
            ConfigurationError: As for :func:`load_prices`.
        """
        found = self._load()
        if self._found is NO_PRICES:  # a counter may not go back when somebody edits the file
            self._found = found
        return found

    def _read(self) -> None:
        try:
            self.load()
        except ConfigurationError as error:
            _logger.warning("metrics have no costs: %s", error)


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
