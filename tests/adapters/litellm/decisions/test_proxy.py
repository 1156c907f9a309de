"""Decisions in the real proxy: what it puts into a request changes nothing, headers tell."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.adapters.litellm.configs import MASTER_KEY, deployment, proxy_config
from tests.adapters.litellm.decisions.modes import LLM, PROMPT
from tests.adapters.litellm.decisions.routers import COOKING, complexity, semantic
from tests.adapters.litellm.provider import Provider
from tests.adapters.litellm.proxy import Proxy, start_proxy

pytestmark = pytest.mark.slow

_KEYS: dict[str, dict[str, Any]] = {
    "sk-a": {"team_id": "red", "models": ["smart", "judged"]},
    "sk-b": {"team_id": "blue", "models": []},
}
_GROUPS = ("small", "medium", "large", "embed", "judge")


@pytest.fixture(scope="module")
def proxy(_provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One with a semantic and a complexity router; answers are not cached, decisions are."""
    groups = [deployment(name, _provider) for name in _GROUPS]
    config = proxy_config(
        *groups,
        semantic(),
        complexity(LLM, name="judged"),
        cache={"result_caching": False},
    )
    folder = tmp_path_factory.mktemp("proxy")
    with start_proxy(config, folder) as proxy:
        proxy.set_keys(_KEYS)
        yield proxy


def _ask(proxy: Proxy, key: str, model: str, text: str, **more: Any) -> Any:
    with proxy.openai(key) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": text}], **more
        )
        if more.get("stream"):
            assert list(raw.parse())
        return raw


def _decision(raw: Any) -> str:
    return str(raw.headers.get("x-routecache-decision"))


def test_a_repeated_prompt_makes_no_embedding_call(proxy: Proxy, provider: Provider) -> None:
    """Nothing that the proxy adds to a request (ids, times, spend) is in the key."""
    first = _ask(proxy, "sk-a", "smart", COOKING)
    before = provider.count("/embeddings")
    second = _ask(proxy, "sk-a", "smart", COOKING, temperature=0.2, user="ann")
    stream = _ask(proxy, "sk-a", "smart", COOKING, stream=True)
    assert provider.count("/embeddings") == before
    assert {call.model for call in provider.of("/chat/completions")} == {"small"}
    assert [_decision(raw) for raw in (first, second, stream)] == ["MISS", "HIT", "HIT"]


def test_another_key_decides_for_itself(proxy: Proxy, provider: Provider) -> None:
    """Classifier calls of two keys, and what is logged for a hit."""
    provider.always('{"tier": "COMPLEX"}', model="judge")
    raws = [_ask(proxy, key, "judged", PROMPT) for key in ("sk-a", "sk-b", "sk-a", "sk-b")]
    assert provider.count(model="judge") == 2
    assert provider.count(model="large") == 4
    logged = [proxy.logged(raw.headers["x-litellm-call-id"]) for raw in raws]
    assert {one["model_group"] for one in logged} == {logged[0]["model_group"]}
    assert [_decision(raw) for raw in raws] == ["MISS", "MISS", "HIT", "HIT"]


def test_messages_and_responses_are_routed_from_the_cache(proxy: Proxy, provider: Provider) -> None:
    """Anthropic's API and OpenAI's newer one keep their metadata elsewhere."""
    provider.always('{"tier": "COMPLEX"}', model="judge")
    for _ in range(2):
        with proxy.anthropic(MASTER_KEY) as client:
            client.messages.create(
                model="judged",
                max_tokens=50,
                system="be brief",
                messages=[{"role": "user", "content": PROMPT}],
            )
    assert provider.count(model="judge") == 1
    for _ in range(2):
        with proxy.openai() as client:
            client.responses.create(model="judged", input=PROMPT)
    assert provider.count(model="judge") == 2
    assert "Traceback" not in json.dumps(proxy.log)
