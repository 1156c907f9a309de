"""One proxy for most of the tests: it takes seconds to start; each test has keys of its own."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.adapters.litellm.configs import CALLBACK, GUARD, LOGGER, deployment, proxy_config
from tests.adapters.litellm.provider import Provider
from tests.adapters.litellm.proxy import Proxy, start_proxy

_numbers = itertools.count(1)
_PRICES: dict[str, Any] = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.002}


class Keys:
    """Virtual keys of one test; the fields are those of LiteLLM's ``UserAPIKeyAuth``."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._keys: dict[str, dict[str, Any]] = {}

    def new(self, **fields: Any) -> str:
        """Issue a key."""
        key = f"sk-{next(_numbers)}-test-key"
        self.change(key, **fields)
        return key

    def change(self, key: str, **fields: Any) -> None:
        """Give a key these fields instead."""
        self._keys[key] = fields
        self._proxy.set_keys(self._keys)

    def revoke(self, key: str) -> None:
        """Take a key away."""
        del self._keys[key]
        self._proxy.set_keys(self._keys)


@pytest.fixture(scope="session")
def shared_proxy(_provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The proxy of the session."""
    names = ("chat", "flaky", "primary", "secondary")
    config = proxy_config(
        *(deployment(name, _provider, **_PRICES) for name in names),
        deployment("text", _provider, model="text-completion-openai/text", **_PRICES),
        deployment("claude", _provider, model="anthropic/claude-test", **_PRICES),
        deployment("embed", _provider, **_PRICES),
        callbacks=(CALLBACK, LOGGER, GUARD),
        router={
            "num_retries": 2,
            "retry_after": 0,
            "disable_cooldowns": True,
            "fallbacks": [{"primary": ["secondary"]}],
        },
    )
    with start_proxy(config, tmp_path_factory.mktemp("shared")) as proxy:
        yield proxy


@pytest.fixture
def proxy(shared_proxy: Proxy, provider: Provider) -> Proxy:
    """The proxy of the session, and a provider that has seen no calls."""
    assert shared_proxy.is_running, shared_proxy.log[-4000:]
    return shared_proxy


@pytest.fixture
def keys(proxy: Proxy) -> Keys:
    """Virtual keys of the test's own, so that nothing is shared with other tests."""
    return Keys(proxy)


@pytest.fixture
def key(keys: Keys) -> str:
    """A virtual key without team or limits."""
    return keys.new()


def at_once(calls: list[Any]) -> list[Any]:
    """Make calls in threads of their own, all at the same time; their results in order."""
    results: list[Any] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(at: int) -> None:
        barrier.wait()
        try:
            results[at] = calls[at]()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results[at] = error

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results
