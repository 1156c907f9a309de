"""Which model of a decision may be used right now."""

import logging
from collections.abc import Callable
from dataclasses import replace

from routecache_middleware.core.models import RoutingDecision

__all__ = ["Eligible", "choose"]

Eligible = Callable[[str], bool]
"""Says whether a model may be used right now: up, not cooling down, allowed."""

_logger = logging.getLogger("routecache")
_broken: set[int] = set()


def choose(decision: RoutingDecision, eligible: Eligible | None) -> RoutingDecision | None:
    """Return the decision with its best eligible model, or None when there is none.

    A callable that raises is reported once and from then on for that call counts as "yes".
    """
    if eligible is None:
        return decision
    ranking = ((decision.selected_model, decision.score), *decision.alternatives)
    try:
        index = next((i for i, (model, _) in enumerate(ranking) if eligible(model)), None)
    except Exception as error:  # noqa: BLE001 - the callable is the user's
        if id(eligible) not in _broken:
            _broken.add(id(eligible))
            _logger.warning(
                "eligible() raised %s; the decision is used as it is", type(error).__name__
            )
        return decision
    if index is None:
        return None
    if index == 0:
        return decision
    model, score = ranking[index]
    return replace(decision, selected_model=model, score=score, alternatives=ranking[index + 1 :])
