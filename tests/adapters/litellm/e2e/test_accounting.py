"""How a hit shows: response headers, and what LiteLLM logs and charges for it."""

import pytest

from tests.adapters.litellm.e2e.asking import APIS, Api, Told, outcome
from tests.adapters.litellm.provider import Answer, Provider
from tests.adapters.litellm.proxy import Proxy

_ALL = [
    pytest.param(api, stream, id=f"{api.name}-{'stream' if stream else 'whole'}")
    for api in APIS.values()
    for stream in (False, True)
    if not (stream and api.name in {"embeddings", "text"})
]


@pytest.mark.parametrize(("api", "stream"), _ALL)
def test_headers_say_how_it_came(
    api: Api, proxy: Proxy, provider: Provider, key: str, *, stream: bool
) -> None:
    miss = api.ask(proxy, "which headers", key=key, stream=stream)
    hit = api.ask(proxy, "which headers", key=key, stream=stream)
    assert outcome(miss) == "MISS"
    assert miss.headers["cache-status"].startswith("routecache; fwd=")
    assert "age" not in miss.headers
    assert outcome(hit) == "HIT"
    assert hit.headers["cache-status"].startswith("routecache; hit")
    assert int(hit.headers["age"]) >= 0
    assert hit.headers["x-routecache-model"] == api.group
    assert float(hit.headers.get("x-litellm-response-cost", 0)) == 0


@pytest.mark.parametrize(("api", "stream"), _ALL)
def test_a_hit_is_logged_as_one_and_costs_nothing(
    api: Api, proxy: Proxy, provider: Provider, key: str, *, stream: bool
) -> None:
    provider.always(Answer(usage=(100, 50)))
    miss = proxy.logged(api.ask(proxy, "what does it cost", key=key, stream=stream).call_id)
    hit = proxy.logged(api.ask(proxy, "what does it cost", key=key, stream=stream).call_id)
    assert provider.count() == 1
    assert miss["response_cost"] > 0
    assert not miss["cache_hit"]
    assert hit["cache_hit"] is True
    assert hit["response_cost"] == 0
    assert hit["saved_cache_cost"] == pytest.approx(miss["response_cost"])


def test_a_provider_failure_has_headers_too(proxy: Proxy, provider: Provider, key: str) -> None:
    provider.always(Answer(status=400))
    with proxy.openai(key) as client, pytest.raises(Exception, match="scripted") as caught:
        client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "fail please"}]
        )
    response = caught.value.response  # type: ignore[attr-defined]
    assert outcome(Told({}, response.headers)) in {"MISS", "BYPASS"}


@pytest.mark.parametrize(
    ("control", "calls"),
    [({"no-cache": True}, 2), ({"no-store": True}, 2), ({"s-maxage": 600}, 1), ({"ttl": 60}, 1)],
    ids=str,
)
def test_cache_controls_of_litellm_are_honoured(
    control: dict[str, object], calls: int, proxy: Proxy, provider: Provider, key: str
) -> None:
    for _ in range(2):
        APIS["chat"].ask(proxy, "control me", key=key, extra_body={"cache": control})
    assert provider.count() == calls
    assert all("cache" not in call.body for call in provider.calls)
