"""A test proxy is the real one: virtual keys, logs, and no process left behind."""

import os
from pathlib import Path

import openai
import pytest

from tests.adapters.litellm.configs import LOGGER, deployment, proxy_config
from tests.adapters.litellm.provider import Provider
from tests.adapters.litellm.proxy import start_proxy


@pytest.mark.slow
def test_serves_virtual_keys_and_ends(provider: Provider, tmp_path: Path) -> None:
    config = proxy_config(deployment("m", provider), callbacks=(LOGGER,))
    with start_proxy(config, tmp_path, workers=2) as proxy:
        proxy.set_keys({"sk-a": {"team_id": "red", "models": ["m"]}})
        with proxy.openai("sk-a") as client:
            raw = client.chat.completions.with_raw_response.create(
                model="m", messages=[{"role": "user", "content": "hi"}]
            )
        assert raw.parse().choices[0].message.content
        logged = proxy.logged(raw.headers["x-litellm-call-id"])
        assert logged["metadata"]["user_api_key_team_id"] == "red"
        proxy.set_keys({})
        with proxy.openai("sk-a") as client, pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        known = proxy.events()
        with (tmp_path / "events.jsonl").open("ab") as file:
            file.write(b'{"event": "a worker is writ')
        assert proxy.events() == known
        worker = known[0]["pid"]
    assert worker != proxy.pid
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
