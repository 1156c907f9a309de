"""What the administration API says: one function per endpoint."""

from dataclasses import asdict

from routecache_middleware.admin.targets import Target, WrongTargetError, read_target
from routecache_middleware.admin.values import Answer, Asked, refused
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.stats import CacheStats
from routecache_middleware.errors import CoordinatorError

__all__ = ["cluster", "invalidate", "stats"]


async def stats(asked: Asked) -> Answer:
    """All counters of this process, the hit rates, and the sections of whoever mounts this."""
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
            **{name: section() for name, section in asked.sections.items()},
        }
    )


async def cluster(asked: Asked) -> Answer:
    """Nodes and processes, as far as they can be asked."""
    try:
        return Answer(asdict(await asked.cache.cluster_stats()))
    except CoordinatorError as error:
        return refused(503, str(error))


async def invalidate(asked: Asked) -> Answer:
    """Invalidate, or say what would be; with ``dry_run`` (the default) nothing happens."""
    try:
        target = read_target(asked.body)
    except WrongTargetError as error:
        return refused(400, str(error))
    about: dict[str, object] = {"dry_run": target.is_dry_run, "covers": target.covers}
    if target.is_dry_run:
        return Answer({**about, "at_most_entries": _at_most(asked.cache.stats(), target)})
    try:
        report = await target.run(asked.cache)
    except CoordinatorError as error:
        message = "it holds in this process; recording it failed and is tried again"
        return refused(503, f"{error}: {message}")
    return Answer(
        {
            **about,
            "scope": report.scope,
            "position": report.position,
            "replicas_acknowledged": report.replicas_acknowledged,
        }
    )


def _at_most(found: CacheStats, target: Target) -> int:
    """Return an upper bound: what an invalidation covers is not counted, which would be a scan."""
    if target.is_one_entry:
        return 1
    if target.layer is not None:
        return found.layer(target.layer).entries
    return found.total_keys


def _plain(found: CacheStats) -> dict[str, object]:
    fields = asdict(found)
    layers = {layer.value: asdict(found.layer(layer)) for layer in Layer}
    for name in ("routing", "result", "metadata", "load"):
        del fields[name]
    return {"layers": layers, **fields}
