"""Settings of the proxy: from its file and the environment, and what a wrong one leads to."""

import time
from typing import Any

from tests.adapters.litellm.configs import CALLBACK, LOGGER, deployment, proxy_config
from tests.adapters.litellm.e2e.asking import APIS, outcome
from tests.adapters.litellm.e2e.conftest import Keys
from tests.adapters.litellm.provider import Provider
from tests.adapters.litellm.proxy import StartProxy

_CHAT = APIS["chat"]


def test_settings_come_from_the_file_and_the_environment_wins(
    provider: Provider, start_proxy: StartProxy
) -> None:
    """``isolation: team`` shares within a team, and keys without one stay alone."""
    config = proxy_config(
        deployment("chat", provider),
        callbacks=(CALLBACK, LOGGER),
        cache={"isolation": "none", "result_ttl_s": 3},
    )
    proxy = start_proxy(config, env={"ROUTECACHE_LITELLM_ISOLATION": "team"})
    keys = Keys(proxy)
    asked = {
        "red": keys.new(team_id="red"),
        "colleague": keys.new(team_id="red"),
        "blue": keys.new(team_id="blue"),
        "loner": keys.new(),
        "other loner": keys.new(),
    }
    told = {name: outcome(_CHAT.ask(proxy, "whose is it", key=key)) for name, key in asked.items()}
    alone = dict.fromkeys(asked, "MISS")
    assert told == {**alone, "colleague": "HIT"}
    assert " INFO " not in proxy.log.replace("INFO:  ", ""), "LiteLLM's log is as quiet as ever"
    time.sleep(3.1)
    assert outcome(_CHAT.ask(proxy, "whose is it", key=asked["red"])) != "HIT"


def test_a_wrong_setting_is_named_and_the_proxy_does_not_start(
    provider: Provider, start_proxy: StartProxy
) -> None:
    wrong: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
        "result_ttl_s": ({"result_ttl_s": -5}, {}),
        "isolation": ({"isolatoin": "team"}, {}),
        "ROUTECACHE_LITELLM_RIVAL": ({}, {"ROUTECACHE_LITELLM_RIVAL": "peace"}),
    }
    started = {
        name: start_proxy(
            proxy_config(deployment("chat", provider), callbacks=(CALLBACK,), cache=cache),
            env=env,
            is_waited_for=False,
        )
        for name, (cache, env) in wrong.items()
    }
    for name, proxy in started.items():
        assert proxy.wait_until_ended() != 0
        lines = [line for line in proxy.log.splitlines() if "this proxy cannot start" in line]
        assert len(lines) == 1, proxy.log[-3000:]
        assert name in lines[0]
