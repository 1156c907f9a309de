"""Prices of a deployment: the operator's, and those that LiteLLM's package lists."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from routecache_middleware.core.prices import NO_PRICES, Price, Prices
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring import prices as module
from routecache_middleware.wiring.prices import LazyPrices, load_prices

ROOT = Path(__file__).parents[2]


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "prices.toml"
    file.write_text(f"[routecache]\n[routecache.prices]\n{text}\n", encoding="utf-8")
    return file


def test_ones_own_prices_win_over_the_list(tmp_path: Path) -> None:
    file = written(tmp_path, '"gpt-4o" = { input = 1, output = 2.5 }\n"llama-*" = { input = 0.1 }')
    prices = load_prices(toml_path=file, environ={})
    assert prices.find("gpt-4o") == Price(1, 2.5)
    assert prices.find("llama-3") == Price(0.1)
    listed = prices.find("gpt-4o-mini")  # of LiteLLM's list
    assert listed is not None
    assert 0 < listed.input_usd < listed.output_usd


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"m" = 1', "m in .* is no price"),
        ('"m" = { output = 1 }', "is no price"),
        ('"m" = { input = 1, cached = 2 }', "is no price"),
        ('"m" = { input = -1 }', "0 or more"),
        ('"m" = { input = 1, output = "x" }', "finite numbers"),
    ],
)
def test_a_price_that_makes_no_sense_is_an_error(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_prices(toml_path=written(tmp_path, text), environ={})


def test_litellm_is_not_imported_for_its_list() -> None:
    """That takes seconds."""
    code = (
        "import sys; from routecache_middleware.wiring.prices import load_prices;"
        "print(load_prices(environ={}).find('gpt-4o') is not None, 'litellm' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.parametrize("content", [None, b"not json", b"[]"])
def test_without_the_list_there_are_no_prices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "model_prices_and_context_window_backup.json").write_bytes(content)
    spec = ModuleSpec("litellm", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    module._of_litellm.cache_clear()
    for found in (spec, None):
        monkeypatch.setattr(module, "find_spec", lambda _, found=found: found)
        assert len(load_prices(environ={})) == 0
        module._of_litellm.cache_clear()


def test_prices_are_read_once_without_keeping_anybody_waiting() -> None:
    may_go_on, reads = threading.Event(), []

    def load() -> Prices:
        may_go_on.wait(10)
        reads.append(threading.current_thread())
        return Prices({"m": Price(len(reads))})

    prices = LazyPrices(load)
    assert prices() is prices() is NO_PRICES
    may_go_on.set()
    assert until(lambda: prices() is not NO_PRICES)
    assert prices().find("m") == Price(1)
    assert [thread is threading.main_thread() for thread in reads] == [False]
    assert prices.load().find("m") == Price(2)
    assert prices().find("m") == Price(1), "a counter may not go back"


def test_prices_that_make_no_sense_cost_the_metrics_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def load() -> Prices:
        raise ConfigurationError("m is no price")

    prices = LazyPrices(load)
    assert prices() is NO_PRICES
    assert until(lambda: "m is no price" in caplog.text)
    assert prices() is NO_PRICES
    with pytest.raises(ConfigurationError):
        prices.load()


def until(condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    return condition()
