"""What a process measures besides its counters: how long, how large, how old, and for which model.

Plain integers and lists, as in :mod:`.recorder`: to record a value costs 0.15 us.
"""

from bisect import bisect_left
from typing import Final

from routecache_middleware.core.metrics import (
    ENTRY_AGE,
    ITEM_SIZE,
    LOOKUP_DURATION,
    OTHER,
    WAIT_DURATION,
    WRITE_DURATION,
)
from routecache_middleware.core.models import Outcome

__all__ = ["Histogram", "LayerMeasures", "ModelTally", "Models"]

_MOST_MODELS: Final = 50
_LONGEST_NAME: Final = 128


class Histogram:
    """How many values fell into which bucket; a value on a bound belongs to the lower one.

    Attributes:
        bounds: Upper bounds of all buckets but the last.
        counts: One number per bucket.
        total: Sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def record(self, value: float) -> None:
        """Take one value in."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class LayerMeasures:
    """What is measured of one layer.

    Attributes:
        hit_s: How long lookups took that found something fresh; also ``stale_s``, ``miss_s`` and
            ``error_s``.
        shared_s: How long was waited for somebody else's answer that came; also ``timeout_s`` and,
            when there was none to share, ``failed_s``.
        age_s: How old the entries were that lookups found to be of use.
        write_s: How long storing took.
        size_bytes: How large what was stored is.
    """

    __slots__ = (
        "age_s",
        "error_s",
        "failed_s",
        "hit_s",
        "miss_s",
        "shared_s",
        "size_bytes",
        "stale_s",
        "timeout_s",
        "write_s",
    )

    def __init__(self) -> None:
        self.hit_s, self.stale_s = (
            Histogram(LOOKUP_DURATION.bounds),
            Histogram(LOOKUP_DURATION.bounds),
        )
        self.miss_s, self.error_s = (
            Histogram(LOOKUP_DURATION.bounds),
            Histogram(LOOKUP_DURATION.bounds),
        )
        self.shared_s = Histogram(WAIT_DURATION.bounds)
        self.timeout_s = Histogram(WAIT_DURATION.bounds)
        self.failed_s = Histogram(WAIT_DURATION.bounds)
        self.age_s = Histogram(ENTRY_AGE.bounds)
        self.write_s = Histogram(WRITE_DURATION.bounds)
        self.size_bytes = Histogram(ITEM_SIZE.bounds)


class ModelTally:
    """Requests for one model with one operation, by how they were answered."""

    __slots__ = ("bypasses", "coalesced", "errors", "hits", "misses", "stale")

    def __init__(self) -> None:
        self.hits = self.stale = self.misses = self.coalesced = self.bypasses = self.errors = 0

    def outcomes(self) -> tuple[tuple[Outcome, int], ...]:
        """Each outcome with how often it was."""
        return (
            (Outcome.HIT, self.hits),
            (Outcome.STALE, self.stale),
            (Outcome.MISS, self.misses),
            (Outcome.COALESCED, self.coalesced),
            (Outcome.BYPASS, self.bypasses),
            (Outcome.ERROR, self.errors),
        )


_FIELDS: Final = {
    Outcome.HIT: "hits",
    Outcome.STALE: "stale",
    Outcome.MISS: "misses",
    Outcome.COALESCED: "coalesced",
    Outcome.BYPASS: "bypasses",
    Outcome.ERROR: "errors",
}


class Models:
    """Requests by model. Clients choose the names, so there may not be any number of them.

    Attributes:
        tallies: Model and operation to their tally; read it, and ask :meth:`tally` for what is not
            there.
        allowed: The only models to be named, when the gateway knows them; None: the first 50.
    """

    __slots__ = ("_names", "allowed", "tallies")

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str], ModelTally] = {}
        self.allowed: frozenset[str] | None = None
        self._names: set[str] = set()

    def name(self, model: str) -> str:
        """Return the name under which a model is counted: its own, or :data:`OTHER`."""
        if model in self._names:
            return model
        if not model or len(self._names) >= _MOST_MODELS or not self._may_be_named(model):
            return OTHER
        self._names.add(model)
        return model

    def tally(self, model: str, verb: str) -> ModelTally:
        """Return the tally of a model, or of all those that are not named."""
        place = self.name(model), verb
        found = self.tallies.get(place)
        if found is None:
            found = self.tallies[place] = ModelTally()
        return found

    def count(self, outcome: Outcome, model: str, verb: str) -> None:
        """Count one request."""
        tally, field = self.tally(model, verb), _FIELDS[outcome]
        setattr(tally, field, getattr(tally, field) + 1)

    def _may_be_named(self, model: str) -> bool:
        if self.allowed is not None:
            return model in self.allowed
        # What is no name, such as a sentence, may be anything: a prompt in the wrong field.
        return (
            len(model) <= _LONGEST_NAME
            and model.isascii()
            and model.isprintable()
            and (" " not in model)
        )
