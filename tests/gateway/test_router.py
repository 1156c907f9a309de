"""The router of alias models: rules, and what the cache makes of its decisions."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import ResponseMode
from routecache_middleware.core.request import LLMRequest
from routecache_middleware.gateway.router import Needs, RuleRouter, needs_of
from routecache_middleware.gateway.settings import ModelSettings, RouteSettings
from tests.gateway.kit import COMPLETION, KEY, chat, gateway, running, stored_by
from tests.support.raw_upstream import RawUpstream, answer

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 500}}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def request(payload: dict[str, Any], query_hash: str = "0" * 32, model: str = "auto") -> LLMRequest:
    return LLMRequest(
        model=model,
        dialect="openai.chat",
        path="/v1/chat/completions",
        mode=ResponseMode.JSON,
        query_hash=query_hash,
        tenant="t",
        body=json.dumps(payload).encode(),
    )


@pytest.mark.parametrize(
    ("payload", "chars", "handles"),
    [
        ({"messages": [{"role": "user", "content": "12345"}]}, 5, set()),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "123"}, IMAGE]}]},
            3,
            {"images"},
        ),
        ({"system": [{"type": "text", "text": "12"}], "messages": [{"content": "3"}]}, 3, set()),
        (
            {"messages": [{"content": [{"type": "image", "source": {"data": "x" * 99}}]}]},
            0,
            {"images"},
        ),
        ({"input": "1234", "tools": TOOLS}, 4, {"tools"}),
        ({"input": [{"content": [{"type": "input_image", "image_url": "x"}]}]}, 0, {"images"}),
        ({"prompt": ["12", "34"], "functions": [{}]}, 4, {"tools"}),
        ({"messages": [{"content": None}, 7, {"tool_calls": [{}]}], "tools": []}, 0, set()),
        ({}, 0, set()),
    ],
)
def test_what_a_request_asks_of_a_model(
    payload: dict[str, Any], chars: int, handles: set[str]
) -> None:
    assert needs_of(payload) == Needs(chars, frozenset(handles))


def test_the_cheapest_rule_that_fits_wins_and_the_others_stand_by() -> None:
    router = RuleRouter(
        [
            RouteSettings(model="large", price=10),
            RouteSettings(model="small", price=1, max_chars=10, handles=()),
            RouteSettings(model="middle", price=5, handles=("tools",), min_chars=2),
            RouteSettings(alias="else", model="other"),
        ]
    )
    short = router.decide(request({"prompt": "12345"}))
    assert (short.selected_model, short.strategy) == ("small", "rules")
    assert [name for name, _ in short.alternatives] == ["middle", "large"]
    assert short.score == 1.0
    assert router.decide(request({"prompt": "x" * 11})).selected_model == "middle"
    assert router.decide(request({"prompt": "12345", "tools": TOOLS})).selected_model == "middle"
    assert router.decide(request({"prompt": "1", "tools": TOOLS})).selected_model == "large"
    assert router.decide(request({"prompt": "1"}, model="else")).selected_model == "other"
    assert asyncio.run(router(request({"prompt": "1"}))).selected_model == "small"
    with pytest.raises(LookupError):
        router.decide(request({"prompt": "1"}, model="nobody"))


def test_two_rules_for_one_model_are_one_candidate() -> None:
    routes = [RouteSettings(model="a", price=1), RouteSettings(model="a", price=2)]
    decision = RuleRouter(routes).decide(request({"prompt": "x"}))
    assert (decision.selected_model, decision.alternatives) == ("a", ())


def test_weights_share_out_the_requests() -> None:
    router = RuleRouter([RouteSettings(model="a", weight=3), RouteSettings(model="b", weight=1)])
    chosen = Counter(
        router.decide(request({"prompt": "x"}, f"{number:032x}")).selected_model
        for number in range(4000)
    )
    assert 0.71 < chosen["a"] / 4000 < 0.79  # 3 of 4; four standard deviations are 0.027


@given(st.text(alphabet="0123456789abcdef", min_size=32, max_size=32), st.permutations("abc"))
def test_the_same_request_is_always_routed_alike(query_hash: str, order: list[str]) -> None:
    """In every process, and however the rules are ordered."""
    router = RuleRouter([RouteSettings(model=model) for model in order])
    plain = RuleRouter([RouteSettings(model=model) for model in "abc"])
    asked = request({"prompt": "x"}, query_hash)
    assert router.decide(asked).selected_model == plain.decide(asked).selected_model


def test_other_rules_are_another_version() -> None:
    one, two = (RuleRouter([RouteSettings(model="a", price=price)]) for price in (1, 2))
    asked = request({"prompt": "x"})
    assert one.decide(asked).router_version != two.decide(asked).router_version


# Through the gateway.


@pytest.fixture
def upstream() -> Iterator[RawUpstream]:
    with RawUpstream(answer(COMPLETION)) as made:
        yield made


def routed(upstream: RawUpstream, **settings: Any) -> Any:
    return gateway(
        upstream=upstream.url,
        models=(ModelSettings(name="small", rename="small-1"),),
        routes=(
            RouteSettings(model="small", price=1, max_chars=20, handles=()),
            RouteSettings(model="large", price=9, handles=("tools",)),
        ),
        **settings,
    )


def test_decisions_are_cached_and_other_models_are_not_routed(upstream: RawUpstream) -> None:
    with running(routed(upstream)) as client:
        first = chat(client, model="auto")
        again = chat(client, model="auto", temperature=0.5)  # sampling: another answer
        hit = chat(client, model="auto")
        long = chat(client, "x" * 30, model="auto")
        plain = chat(client, model="large")
    asked = [json.loads(arrived.body)["model"] for arrived in upstream.arrived]
    assert asked == ["small-1", "small-1", "large", "large"]
    assert first.headers["x-routecache-model"] == "small"
    assert first.headers["x-routecache-decision"] == "MISS"
    assert again.headers["x-routecache-decision"] == "HIT"
    assert hit.headers["x-routecache"] == "HIT"
    assert long.headers["x-routecache-model"] == "large"
    assert "x-routecache-model" not in plain.headers


def test_an_alternative_of_the_decision_stands_in(
    upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(connection: Any, arrived: Any) -> None:
        has_failed = json.loads(arrived.body)["model"] == "small-1"
        failing = answer(b"{}", status="500 No")
        (failing if has_failed else answer(COMPLETION))(connection, arrived)

    upstream.reply = reply
    made = routed(upstream)
    stored = stored_by(made, monkeypatch)
    with running(made) as client:
        assert chat(client, model="auto").status_code == 200
    assert [entry.model_id for entry in stored if entry.layer is Layer.RESULT] == ["large"]
    asked = [json.loads(arrived.body)["model"] for arrived in upstream.arrived]
    assert asked == ["small-1", "large"]


def test_an_alias_is_routed_also_when_the_cache_stands_aside(upstream: RawUpstream) -> None:
    with running(routed(upstream)) as client:
        large = chat(client, "x" * 2_000_000, model="auto")
        anonymous = chat(client, model="auto", headers={})
    assert large.headers["x-routecache"] == anonymous.headers["x-routecache"] == "BYPASS"
    asked = [json.loads(arrived.body)["model"] for arrived in upstream.arrived]
    assert asked == ["large", "small-1"]


def test_a_request_that_no_rule_fits_is_refused_with_the_reason(upstream: RawUpstream) -> None:
    content = [IMAGE]
    with running(routed(upstream)) as client:
        found = client.post(
            "/v1/chat/completions",
            json={"model": "auto", "messages": [{"role": "user", "content": content}]},
            headers={"authorization": f"Bearer {KEY}"},
        )
    assert found.status_code == 404
    assert "no rule of 'auto' fits" in found.json()["error"]["message"]
    assert upstream.arrived == []
