"""What the administration app says: one function per endpoint. Those that change: ``changing``."""

from dataclasses import asdict
from math import isfinite

import msgspec

from routecache_middleware.admin.audit import AuditRow
from routecache_middleware.admin.configuration import in_force
from routecache_middleware.admin.distribution import distribution as spread
from routecache_middleware.admin.listing import EntryRow
from routecache_middleware.admin.values import Answer, Asked, refused
from routecache_middleware.core import metrics
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import BypassReason, MissReason
from routecache_middleware.core.reasons import meaning
from routecache_middleware.core.snapshot import MetricsSnapshot
from routecache_middleware.core.stats import CacheStats
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.telemetry.exposition import (
    OPENMETRICS_TYPE,
    TEXT_TYPE,
    render,
    render_openmetrics,
    wants_openmetrics,
)

__all__ = [
    "EVENTS",
    "AuditLog",
    "Breaker",
    "Breakers",
    "Entries",
    "Meanings",
    "audit",
    "breakers",
    "cluster",
    "config",
    "distribution",
    "entries",
    "entry",
    "exposition",
    "history",
    "live",
    "meanings",
    "stats",
]

EVENTS = "text/event-stream"
"""Media type of server-sent events."""

_GONE = "there is no such entry in the latest list; list them again"


class Entries(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the entries: ``entries`` of the ``looked_at`` that were looked at, of ``total``."""

    entries: tuple[EntryRow, ...]
    looked_at: int
    total: int
    trouble: str = ""


class AuditLog(msgspec.Struct, frozen=True, kw_only=True):
    """The latest changes, the latest first."""

    rows: tuple[AuditRow, ...]


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """Whether calls of one kind are let through to the coordinator: ``closed`` lets them."""

    name: str
    state: str


class Breakers(msgspec.Struct, frozen=True, kw_only=True):
    """All breakers, and what has failed since the cache was made, in this process."""

    coordinator: str
    breakers: tuple[Breaker, ...]
    errors: dict[str, int]


class Meanings(msgspec.Struct, frozen=True, kw_only=True):
    """What each reason means, in a sentence: why nothing was looked up, and why nothing found."""

    bypass: dict[str, str]
    miss: dict[str, str]


async def stats(asked: Asked) -> Answer:
    """All counters of this process, those of all together, and the sections of whoever mounts."""
    found = asked.cache.stats()
    return Answer(
        {
            "mode": asked.cache.mode.value,
            "coordinator": asked.cache.engine.coordinator.name,
            "hit_rates": {
                **{layer.value: found.layer(layer).hit_rate() for layer in Layer},
                "overall": found.overall_hit_rate(),
            },
            **_plain(found),
            "total": _total(await asked.cache.total_metrics()),
            **{name: section() for name, section in asked.services.sections.items()},
        }
    )


async def cluster(asked: Asked) -> Answer:
    """Nodes and processes, as far as they can be asked."""
    try:
        return Answer(await asked.cache.cluster_stats())
    except CoordinatorError as error:
        return refused(503, str(error))


async def exposition(asked: Asked) -> Answer:
    """All numbers of all processes, for Prometheus."""
    total = await asked.cache.total_metrics()
    if wants_openmetrics(asked.accept):
        return Answer(render_openmetrics(total), content_type=OPENMETRICS_TYPE)
    return Answer(render(total), content_type=TEXT_TYPE)


async def breakers(asked: Asked) -> Answer:
    """Whether reads and writes are let through to the coordinator, and what has failed."""
    engine = asked.cache.engine
    states = (
        ("reads", getattr(engine.coordinator, "is_reading", True)),
        ("writes", getattr(engine.coordinator, "is_writing", True)),
    )
    errors = {
        f"{operation} {name}": count
        for (operation, name), count in list(engine.recorder.backend_errors.items())
    }
    return Answer(
        Breakers(
            coordinator=engine.coordinator.name,
            breakers=tuple(
                Breaker(name=name, state="closed" if is_let else "open") for name, is_let in states
            ),
            errors=errors,
        )
    )


async def config(asked: Asked) -> Answer:
    """Settings and policy in force, secrets masked."""
    return Answer(in_force(asked.cache, asked.services.settings))


async def entries(asked: Asked) -> Answer:
    """Some of the entries of a layer, the latest first."""
    listing, query = asked.services.listing, asked.query
    layer, limit = Layer(query.get("layer", Layer.RESULT)), int(query.get("limit", "50"))
    sample = await listing.sample()
    found, model = sample.found[layer], query.get("model")
    rows = [listing.row(key, one) for key, one in found if model is None or one.model_id == model]
    rows.sort(key=lambda row: row.age_s)
    held = asked.cache.engine.coordinator.stats().layers.get(layer)
    total = max(len(found), 0 if held is None else held.entries)
    return Answer(
        Entries(
            entries=tuple(rows[:limit]),
            looked_at=len(found),
            total=total,
            trouble=sample.trouble,
        )
    )


async def entry(asked: Asked) -> Answer:
    """All that is said of one entry that was listed."""
    listing = asked.services.listing
    key = listing.key_of(asked.path["entry"])
    if key is None:
        return refused(404, _GONE)
    try:
        (found,) = await asked.cache.engine.inspect((key,))
    except CoordinatorError as error:
        return refused(503, str(error))
    if found is None:
        return refused(404, "the entry is not there any more")
    return Answer(listing.detail(key, found))


async def audit(asked: Asked) -> Answer:
    """What was changed through this app."""
    limit = int(asked.query.get("limit", "50"))
    return Answer(AuditLog(rows=tuple((await asked.services.audit.rows())[:limit])))


async def history(asked: Asked) -> Answer:
    """What was counted lately, as the dashboard shows it."""
    window, since_s = asked.query.get("window", "5m"), int(asked.query.get("since", "0"))
    return Answer(await asked.services.live.frame(window, since_s))


async def live(asked: Asked) -> Answer:
    """The same as server-sent events, one each second, for a quarter of a minute."""
    live = asked.services.live
    if live.is_full:
        return refused(503, "there are too many live streams; close some")
    window, since_s = asked.query.get("window", "5m"), int(asked.query.get("since", "0"))
    return Answer(live.events(window, since_s), content_type=EVENTS)


async def meanings(asked: Asked) -> Answer:  # noqa: ARG001 - as all views
    """What the reasons in the statistics mean."""
    return Answer(
        Meanings(
            bypass={reason.value: meaning(reason) for reason in BypassReason},
            miss={reason.value: meaning(reason) for reason in MissReason},
        )
    )


async def distribution(asked: Asked) -> Answer:
    """How what is stored is spread over tenants, models, sizes and ages, from a sample."""
    return Answer(await spread(asked.cache.engine, asked.services.listing))


def _total(found: MetricsSnapshot) -> dict[str, object]:
    """Return what all processes have counted, in the words of the statistics."""
    lookups: dict[str, dict[str, float]] = {layer.value: {} for layer in Layer}
    for one in found.of(metrics.LOOKUPS):
        layer, outcome, _ = one.labels
        counts = lookups.setdefault(layer, {})
        counts[outcome] = counts.get(outcome, 0) + one.value
    return {
        "workers": found.workers,
        "lookups": lookups,
        "hit_rates": {layer: _hit_rate(counts) for layer, counts in lookups.items()},
        "invalidations": found.value(metrics.INVALIDATIONS),
        "saved": {
            "input_tokens": found.value(metrics.SAVED_TOKENS, "input"),
            "output_tokens": found.value(metrics.SAVED_TOKENS, "output"),
            "usd": found.value(metrics.SAVED_COST),
            "time_s": found.value(metrics.SAVED_TIME),
        },
    }


def _hit_rate(counts: dict[str, float]) -> float:
    served = counts.get("hit", 0) + counts.get("stale", 0)
    asked = served + sum(counts.get(word, 0) for word in ("miss", "coalesced", "error"))
    return served / asked if asked else 0.0


def _plain(found: CacheStats) -> dict[str, object]:
    fields = asdict(found)
    layers = {layer.value: asdict(found.layer(layer)) for layer in Layer}
    for name in ("routing", "result", "metadata", "load"):
        del fields[name]
    if not isfinite(found.total_keys_age_s):  # nothing is known yet, and JSON has no infinity
        fields["total_keys_age_s"] = None
    return {"layers": layers, **fields}
