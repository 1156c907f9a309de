"""Live measurement of models: what is in flight, how fast, how often it fails.

Numbers are kept here and published to the metadata and load layers at most once a second per
model, when something happens or somebody asks.
"""

import math
import os
import secrets
from collections.abc import Mapping

from routecache_middleware.core.models import LoadMetrics
from routecache_middleware.core.ports import Clock

__all__ = ["LoadTracker", "ModelLoad"]

_MAX_MODELS = 1024  # model names come from clients
_WEIGHT = 0.2  # of the newest observation in a moving average
_RATE_WINDOW_S = 10.0


class ModelLoad:
    """The moving numbers of one model."""

    __slots__ = (
        "_counted_s",
        "_rate",
        "avg_response_time_ms",
        "error_rate",
        "finished",
        "in_flight",
        "is_changed",
        "published_s",
    )

    def __init__(self, now_s: float) -> None:
        self.in_flight = 0
        self.finished = 0
        self.avg_response_time_ms = 0.0
        self.error_rate = 0.0
        self.published_s = -math.inf
        self.is_changed = False  # since it was last published
        self._rate = 0.0
        self._counted_s = now_s

    def rate(self, now_s: float) -> float:
        """Calls started per second, decaying with a time constant of ten seconds."""
        return self._rate * math.exp(min(0.0, self._counted_s - now_s) / _RATE_WINDOW_S)

    def started(self, now_s: float) -> None:
        """An upstream call begins."""
        self._rate = self.rate(now_s) + 1.0 / _RATE_WINDOW_S
        self._counted_s = now_s
        self.in_flight += 1
        self.is_changed = True

    def ended(self, duration_ms: float, *, is_failure: bool) -> None:
        """An upstream call is over."""
        self.in_flight -= 1
        self.is_changed = True
        weight = 1.0 if self.finished == 0 else _WEIGHT
        self.finished += 1
        self.avg_response_time_ms += weight * (duration_ms - self.avg_response_time_ms)
        self.error_rate += weight * (float(is_failure) - self.error_rate)

    def abandoned(self) -> None:
        """An upstream call is over, and nothing can be said of how it went."""
        self.in_flight -= 1
        self.is_changed = True


class LoadTracker:
    """Live load of the models that this process calls."""

    __slots__ = ("_clock", "_models", "_name")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._models: dict[str, ModelLoad] = {}
        self._name = secrets.token_hex(4)

    @property
    def source(self) -> str:
        """Whose measurements these are: no other tracker, here or elsewhere, has the name."""
        return f"{os.getpid():x}.{self._name}"  # a forked child is another one

    def started(self, model_id: str) -> ModelLoad:
        """An upstream call to a model begins; give what is returned to the end of the call."""
        now_s = self._clock.monotonic_s()
        load = self._models.get(model_id)
        if load is None:
            self._forget_one_idle()
            load = self._models[model_id] = ModelLoad(now_s)
        load.started(now_s)
        return load

    def known(self) -> Mapping[str, ModelLoad]:
        """Every model measured so far."""
        return self._models

    def is_due(self, load: ModelLoad) -> bool:
        """Whether a second has passed since the numbers were last published."""
        return self._clock.monotonic_s() - load.published_s >= 1.0

    def is_wanting(self, load: ModelLoad) -> bool:
        """Whether what was last published says too little by now, or will soon be forgotten."""
        return load.is_changed or (load.in_flight > 0 and self.is_due(load))

    def published(self, model_id: str) -> None:
        """The numbers of a model are about to be written."""
        load = self._models[model_id]
        load.is_changed = False
        load.published_s = self._clock.monotonic_s()

    def metrics(self, model_id: str) -> LoadMetrics | None:
        """The numbers as they are now, or None for a model that this process never called."""
        load = self._models.get(model_id)
        if load is None:
            return None
        return LoadMetrics(
            model_id=model_id,
            in_flight=load.in_flight,
            requests_per_s=round(load.rate(self._clock.monotonic_s()), 3),
            avg_response_time_ms=round(load.avg_response_time_ms, 3),
            error_rate=round(load.error_rate, 4),
        )

    def _forget_one_idle(self) -> None:
        if len(self._models) < _MAX_MODELS:
            return
        idle = (model_id for model_id, load in self._models.items() if load.in_flight == 0)
        oldest = next(idle, None)
        if oldest is not None:
            del self._models[oldest]
