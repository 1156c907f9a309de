"""One proxy with the fast lane for all tests of it: it takes seconds to start."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.adapters.litellm.configs import CALLBACK, LOGGER, deployment, proxy_config
from tests.adapters.litellm.e2e.conftest import Keys
from tests.adapters.litellm.fastlane.posting import LEASE_S
from tests.adapters.litellm.provider import Provider
from tests.adapters.litellm.proxy import Proxy, start_proxy


@pytest.fixture(scope="package")
def lane_proxy(_provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    prices: dict[str, Any] = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.002}
    config = proxy_config(
        deployment("chat", _provider, **prices),
        deployment("text", _provider, model="text-completion-openai/text", **prices),
        deployment("claude", _provider, model="anthropic/claude-test", **prices),
        deployment("embed", _provider, **prices),
        deployment("broken", _provider),
        callbacks=(CALLBACK, LOGGER),
        cache={"fast_lane": True, "auth_ttl_s": LEASE_S},
        router={
            "num_retries": 0,
            "disable_cooldowns": True,
            "fallbacks": [{"broken": ["embed"]}],
        },
    )
    with start_proxy(config, tmp_path_factory.mktemp("lane")) as proxy:
        yield proxy


@pytest.fixture
def proxy(lane_proxy: Proxy, provider: Provider) -> Proxy:
    assert lane_proxy.is_running, lane_proxy.log[-4000:]
    return lane_proxy


@pytest.fixture
def keys(proxy: Proxy) -> Keys:
    return Keys(proxy)
