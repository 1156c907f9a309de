"""Finding out, before an entry is served late, whether another process has invalidated it since."""

from collections.abc import Iterable

from routecache_middleware.core.budget import open_budget
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import Entry
from routecache_middleware.engine.engine import Engine

__all__ = ["are_still_current"]


async def are_still_current(engine: Engine, held: Iterable[tuple[CacheKey, Entry]]) -> bool:
    """Whether nothing of what was read some time ago has been invalidated, here or elsewhere.

    Reads the log's tail where others may have written to it, within a budget of its own; whoever
    cannot know may not serve, so a coordinator that fails means False. Raises nothing.
    """
    if engine.coordinator.is_shared:
        try:
            with open_budget(engine.settings.coordinator_timeout_s):
                await engine.catch_up()
        except Exception:  # noqa: BLE001 - as in Engine.lookup
            return False
    return all(engine.is_current(key, entry) for key, entry in held)
