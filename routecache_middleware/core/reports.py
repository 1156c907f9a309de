"""What maintenance calls report back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from routecache_middleware.core.models import Position, Scope

__all__ = ["InvalidationReport", "WarmReport"]


@dataclass(frozen=True, slots=True)
class InvalidationReport:
    """An invalidation that has been recorded.

    Attributes:
        scope: What it covers.
        position: Where it stands in the invalidation log.
        replicas_acknowledged: Replicas of the coordinator that confirmed it.
    """

    scope: Scope
    position: Position
    replicas_acknowledged: int = 0


@dataclass(frozen=True, slots=True)
class WarmReport:
    """What warming did.

    Attributes:
        requested: Models asked for, duplicates removed.
        warmed: Models whose metadata was loaded and stored.
        failed: Models that could not be loaded or stored: model to the error's class name.
        duration_s: How long it took.
    """

    requested: int
    warmed: int
    failed: Mapping[str, str] = field(default_factory=dict)
    duration_s: float = 0.0
