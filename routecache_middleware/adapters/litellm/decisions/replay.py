"""What a strategy's hook did, in a form in which it can be done again for another request."""

from collections.abc import Mapping
from typing import Any

import msgspec

from routecache_middleware.adapters.litellm.decisions.request import Request
from routecache_middleware.core.models import RoutingDecision

__all__ = [
    "Replay",
    "Stamps",
    "changes",
    "decision_of",
    "pack",
    "plain_record",
    "score_of",
    "snapshot",
    "unpack",
]

Stamps = dict[str, dict[str, Any]]
"""What was written into the metadata: ``metadata`` or ``litellm_metadata``, name, value."""

_PLACES = ("metadata", "litellm_metadata")
_NONE = object()
_KNOWN_STAMPS = frozenset(
    {
        "_complexity_router_return_raw_model_name",
        "adaptive_router_chosen_model",
        "adaptive_router_decision",
        "quality_router_decision",
    }
)


class Replay(msgspec.Struct, frozen=True):
    """What to do on a hit.

    Attributes:
        model: The model group; None: the strategy leaves the request alone.
        record: LiteLLM's ``routing_decision``.
        affinity_ttl_s: ``session_affinity_ttl_seconds``.
        stamps: What to write into the request's metadata.
        is_direct: Whether its maker could call the model by its own name as well.
    """

    model: str | None
    record: dict[str, Any]
    affinity_ttl_s: int | None = None
    stamps: Stamps = {}  # a default of msgspec, copied for each
    is_direct: bool = True

    def stamp(self, request: Request) -> None:
        """Write into the metadata what the strategy would have written."""
        for place, values in self.stamps.items():
            metadata = request.kwargs.setdefault(place, {})
            if isinstance(metadata, dict):
                metadata.update(values)


def snapshot(request: Request) -> dict[str, Mapping[str, Any] | None]:
    """Keep what the metadata is before a strategy is asked."""
    return {
        place: dict(metadata) if isinstance(metadata := request.kwargs.get(place), dict) else None
        for place in _PLACES
    }


def changes(before: Mapping[str, Mapping[str, Any] | None], request: Request) -> Stamps | None:
    """Return what a strategy has written into the metadata; None when it is nothing we know of."""
    stamps: Stamps = {}
    for place in _PLACES:
        metadata, former = request.kwargs.get(place), before[place] or {}
        if not isinstance(metadata, dict):
            continue
        written = {
            name: value for name, value in metadata.items() if value is not former.get(name, _NONE)
        }
        if written.keys() - _KNOWN_STAMPS or former.keys() - metadata.keys():
            return None
        if written:
            stamps[place] = _plain(written)
    return stamps


def pack(replay: Replay) -> str | None:
    """Return the text that is stored with a decision; None when it would not come back the same."""
    stored = msgspec.structs.replace(replay, record=_plain(replay.record))
    try:
        text = msgspec.json.encode(stored).decode()
        return text if unpack(text) == stored else None
    except (TypeError, ValueError):
        return None


def unpack(text: str) -> Replay | None:
    """Return what :func:`pack` made a text of; None when it did not.

    Whoever can write to the coordinator writes no other metadata by it than a strategy does.
    """
    try:
        replay = _decode(text)
    except ValueError:
        return None
    names = {name for values in replay.stamps.values() for name in values}
    return None if replay.stamps.keys() - set(_PLACES) or names - _KNOWN_STAMPS else replay


def plain_record(record: Any) -> dict[str, Any]:
    """Return LiteLLM's ``routing_decision`` as plain values, which are nobody else's."""
    found = _plain(record)
    return found if isinstance(found, dict) else {}


def score_of(record: Mapping[str, Any]) -> tuple[float, str]:
    """Return the score of a decision, and what it is."""
    for name, kind in (
        ("score", "complexity"),
        ("classifier_confidence", "probability"),
        ("classifier_p_solve", "probability"),
        ("classifier_efficient_p_solve", "probability"),
    ):
        value = record.get(name)
        if isinstance(value, int | float):
            return float(value), kind
    return 1.0, ""


def decision_of(
    replay: Replay, *, detail: str, strategy: str, router_version: str, decide_ms: float
) -> RoutingDecision:
    """Return the record to store of a decision."""
    score, score_kind = score_of(replay.record)
    return RoutingDecision(
        selected_model=replay.model or "",
        score=score,
        strategy=strategy,
        router_version=router_version,
        score_kind=score_kind,
        decide_ms=decide_ms,
        detail=detail,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


_decode = msgspec.json.Decoder(Replay).decode
