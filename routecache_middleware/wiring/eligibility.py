"""Which model of a decision may be used right now."""

import logging
from collections.abc import Callable
from dataclasses import replace

from routecache_middleware.core.models import RoutingDecision

__all__ = ["Chooser", "Eligible"]

Eligible = Callable[[str], bool]
"""Says whether a model may be used right now: up, not cooling down, allowed."""

_logger = logging.getLogger("routecache")


class Chooser:
    """Asks the user's ``eligible`` callables, and says once when one is broken."""

    __slots__ = ("_has_failed",)

    def __init__(self) -> None:
        self._has_failed = False

    def choose(
        self, decision: RoutingDecision, eligible: Eligible | None
    ) -> RoutingDecision | None:
        """Return the decision with its best eligible model, or None when there is none.

        When the callable raises, the decision is used as it is.
        """
        if eligible is None:
            return decision
        ranking = ((decision.selected_model, decision.score), *decision.alternatives)
        try:
            index = next((i for i, (model, _) in enumerate(ranking) if eligible(model)), None)
        except Exception as error:  # noqa: BLE001 - the callable is the user's
            self._failed(error)
            return decision
        if index is None:
            return None
        if index == 0:
            return decision
        model, score = ranking[index]
        rest = ranking[index + 1 :]
        return replace(decision, selected_model=model, score=score, alternatives=rest)

    def _failed(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            _logger.warning(
                "eligible() raised %s; decisions are used as they are; logged only once",
                type(error).__name__,
            )
