import logging

import pytest

from routecache_middleware.core.models import RoutingDecision
from routecache_middleware.wiring.eligibility import Chooser

DECISION = RoutingDecision("a", 0.9, (("b", 0.5), ("c", 0.1)), "s")


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ("abc", DECISION),
        ("a", DECISION),
        ("bc", RoutingDecision("b", 0.5, (("c", 0.1),), "s")),
        ("c", RoutingDecision("c", 0.1, (), "s")),
        ("", None),
    ],
)
def test_the_best_eligible_model_is_chosen(models: str, expected: RoutingDecision | None) -> None:
    assert Chooser().choose(DECISION, lambda model: model in models) == expected


def test_without_a_callable_every_model_is_eligible() -> None:
    assert Chooser().choose(DECISION, None) is DECISION


def test_no_more_models_are_asked_about_than_needed() -> None:
    asked: list[str] = []

    def eligible(model: str) -> bool:
        asked.append(model)
        return model == "b"

    Chooser().choose(DECISION, eligible)
    assert asked == ["a", "b"]


def test_a_broken_callable_is_logged_once_and_the_decision_used_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def eligible(model: str) -> bool:
        raise RuntimeError(f"canary {model}")

    chooser = Chooser()
    with caplog.at_level(logging.WARNING, "routecache"):
        for _ in range(3):
            assert chooser.choose(DECISION, eligible) is DECISION
    (record,) = caplog.records
    assert "RuntimeError" in record.getMessage()
    assert "canary" not in record.getMessage()
