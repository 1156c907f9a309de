"""What is stored of a decision: it comes back the same, or not at all."""

from dataclasses import dataclass
from typing import Any

import pytest

from routecache_middleware.adapters.litellm.decisions.replay import (
    Replay,
    changes,
    pack,
    score_of,
    snapshot,
    unpack,
)
from routecache_middleware.adapters.litellm.decisions.request import Request


@dataclass
class _Odd:
    value: int = 1


def test_what_is_packed_comes_back() -> None:
    """With tuples as the lists that they are in a log."""
    stamps = {"metadata": {"quality_router_decision": {"quality_tier": 1, "keyword": None}}}
    replay = Replay("m", {"cause": "keyword", "signals": ("a", "b"), "score": 0.1}, 60, stamps)
    text = pack(replay)
    assert text is not None
    found = unpack(text)
    assert found == Replay(
        "m", {"cause": "keyword", "signals": ["a", "b"], "score": 0.1}, 60, stamps
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), _Odd(), "\ud800", {1, 2}])
def test_what_would_not_come_back_the_same_is_not_packed(value: object) -> None:
    """Then the decision is not kept."""
    assert pack(Replay("m", {"cause": "keyword", "novel": value})) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"model": 1, "record": {}}',
        '{"model": "m", "record": {}, "stamps": {"metadata": {"user_api_key": "k"}}}',
        '{"model": "m", "record": {}, "stamps": {"api_key": {"quality_router_decision": "k"}}}',
    ],
)
def test_what_nobody_packed_is_not_taken(text: str) -> None:
    """Nobody who can write to a coordinator gives a request another identity by it."""
    assert unpack(text) is None


def _request(**kwargs: Any) -> Request:
    return Request("smart", kwargs)


def test_only_known_marks_are_replayed() -> None:
    """A strategy that writes, changes or takes away anything else is asked each time."""
    request = _request(metadata={"mine": 1})
    before = snapshot(request)
    assert changes(before, request) == {}
    request.kwargs["metadata"]["quality_router_decision"] = {"quality_tier": 1}
    assert changes(before, request) == {
        "metadata": {"quality_router_decision": {"quality_tier": 1}}
    }
    request.kwargs["metadata"]["novel"] = 1
    assert changes(before, request) is None
    del request.kwargs["metadata"]["novel"], request.kwargs["metadata"]["mine"]
    assert changes(before, request) is None


def test_marks_are_written_where_the_strategy_writes_them() -> None:
    """Also where there was no metadata."""
    replay = Replay("m", {}, None, {"metadata": {"quality_router_decision": {"tier": 1}}})
    for request in (_request(), _request(metadata={"mine": 1}), _request(metadata=None)):
        replay.stamp(request)
    assert request.kwargs == {"metadata": None}  # as LiteLLM leaves it
    fresh = _request()
    replay.stamp(fresh)
    assert fresh.kwargs == {"metadata": {"quality_router_decision": {"tier": 1}}}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, (1.0, "")),
        ({"score": 0.25}, (0.25, "complexity")),
        ({"classifier_p_solve": 0.9}, (0.9, "probability")),
        ({"classifier_confidence": 1}, (1.0, "probability")),
    ],
)
def test_a_decision_has_the_score_of_its_record(
    record: dict[str, Any], expected: tuple[float, str]
) -> None:
    """As returned."""
    assert score_of(record) == expected
