"""Settings of the proxy: from its file and the environment, and what a wrong one leads to."""

import time
from pathlib import Path
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
        "nobody:f": ({"decide": "nobody:f"}, {}),
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


def test_what_is_different_for_some_models_and_paths(
    provider: Provider, start_proxy: StartProxy
) -> None:
    """By the name that the client uses, and the path that it asks at; in the fast lane as well."""
    overrides: list[dict[str, Any]] = [
        {"models": ["alias"], "is_cached": False},
        {"paths": ["/engines/*"], "is_cached": False},
        {"models": ["short"], "ttl_s": 2},
    ]
    config = proxy_config(
        deployment("chat", provider),
        deployment("short", provider),
        callbacks=(CALLBACK,),
        cache={"overrides": overrides, "max_client_ttl_s": 900, "fast_lane": True},
        router={"model_group_alias": {"alias": "chat"}},
    )
    proxy = start_proxy(config)
    key = Keys(proxy).new()

    def told(text: str, **fields: Any) -> list[str]:
        return [outcome(_CHAT.ask(proxy, text, key=key, **fields)) for _ in range(2)]

    assert told("by its name") == ["MISS", "HIT"]
    assert told("by its name", model="alias") == ["BYPASS", "BYPASS"]
    with proxy.openai(key) as client:
        for _ in range(2):
            raw = client.with_options(
                base_url=proxy.url + "/engines/chat"
            ).chat.completions.with_raw_response.create(
                model="chat", messages=[{"role": "user", "content": "by its name"}]
            )
            assert raw.headers["x-routecache"] == "BYPASS"
            assert "detail=policy" in raw.headers["cache-status"]
    assert told("for a while", model="short") == ["MISS", "HIT"]
    time.sleep(2.1)
    assert told("for a while", model="short") == ["MISS", "HIT"]


def test_a_function_is_named_in_the_file(
    provider: Provider, start_proxy: StartProxy, tmp_path: Path
) -> None:
    """Its module stands beside ``config.yaml``; both lanes ask it."""
    (tmp_path / "rules.py").write_text(
        "def decide(request):\n    return False if 'today' in request.prompt_text else None\n"
    )
    config = proxy_config(
        deployment("chat", provider),
        callbacks=(CALLBACK,),
        cache={"decide": "rules:decide", "fast_lane": True},
    )
    proxy = start_proxy(config, folder=tmp_path)
    key = Keys(proxy).new()
    asked = {
        text: [outcome(_CHAT.ask(proxy, text, key=key)) for _ in range(3)]
        for text in ("what is new today?", "what is old?")
    }
    assert asked == {
        "what is new today?": ["BYPASS"] * 3,
        "what is old?": ["MISS", "HIT", "HIT"],
    }
