"""LiteLLM's own cache is on besides: it is said once, and the option ``rival`` decides.

Whose answer it is shows in who shares: LiteLLM's cache knows no tenants.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest

from tests.adapters.litellm.configs import CALLBACK, LOGGER, deployment, proxy_config
from tests.adapters.litellm.e2e.asking import APIS, outcome
from tests.adapters.litellm.e2e.conftest import Keys
from tests.adapters.litellm.provider import Provider
from tests.adapters.litellm.proxy import Proxy, start_proxy

pytestmark = pytest.mark.slow  # four proxies

_CHAT = APIS["chat"]
_CASES = [(order, rival) for order in ("before", "after") for rival in ("win", "stand-back")]

Case = tuple[str, str]


@pytest.fixture(scope="module")
def proxies(
    _provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[Case, Proxy]]:
    """One for each case, started together."""
    with ExitStack() as stack:
        started = {}
        for order, rival in _CASES:
            config = proxy_config(
                deployment("chat", _provider),
                callbacks=(CALLBACK, LOGGER),
                cache={"rival": rival, "fast_lane": True},
                litellm={"cache": True, "cache_params": {"type": "local"}},
            )
            if order == "before":
                config["litellm_settings"] = dict(reversed(config["litellm_settings"].items()))
            folder = tmp_path_factory.mktemp("rival")
            started[order, rival] = stack.enter_context(
                start_proxy(config, folder, is_waited_for=False)
            )
        for proxy in started.values():
            proxy.wait_until_healthy(timeout_s=180)
        yield started


@pytest.mark.parametrize("order", ["before", "after"])
def test_ours_wins(order: str, proxies: Mapping[Case, Proxy], provider: Provider) -> None:
    proxy = proxies[order, "win"]
    keys = Keys(proxy)
    one, other = keys.new(), keys.new()
    told = [outcome(_CHAT.ask(proxy, "who wins", key=key)) for key in (one, one, other)]
    assert told == ["MISS", "HIT", "MISS"]
    assert provider.count() == 2
    assert _warnings(proxy) == 1, proxy.log[-3000:]


@pytest.mark.parametrize("order", ["before", "after"])
def test_ours_stands_back(order: str, proxies: Mapping[Case, Proxy], provider: Provider) -> None:
    proxy = proxies[order, "stand-back"]
    keys = Keys(proxy)
    one, other = keys.new(), keys.new()
    told = [outcome(_CHAT.ask(proxy, "who wins", key=key)) for key in (one, one, other)]
    assert "HIT" not in told
    assert provider.count() == 1
    assert _warnings(proxy) == 1, proxy.log[-3000:]


def _warnings(proxy: Proxy) -> int:
    """Lines of ours about the rival."""
    return sum("cache: true" in line for line in proxy.log.splitlines())
