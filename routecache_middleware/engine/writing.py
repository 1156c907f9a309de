"""Writing: one entry, with its counting and its span; what fails is counted, and no request's."""

from time import perf_counter

from routecache_middleware.core.events import Operation, PutFinished
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import DiscardReason, Entry
from routecache_middleware.core.ports import Coordinator, Observer
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.judging import Judge
from routecache_middleware.engine.leases import Lease, Placing
from routecache_middleware.engine.recorder import Recorder

__all__ = ["Writes", "error_name"]

# Members of an Enum are slow to read from their class in Python 3.11: 75 ns each, measured.
_PUT = Operation.PUT
_STORED, _TOO_LARGE, _OUTDATED, _REFUSED, _FAILED = Placing


class Writes(Judge):
    """Part of the engine: how entries get into the coordinator."""

    coordinator: Coordinator
    observer: Observer
    recorder: Recorder
    settings: Settings

    async def put(
        self, key: CacheKey, entry: Entry, *, verb: str = "", lease: Lease | None = None
    ) -> Placing:
        """Store an entry, under a lease if one is given, and say what became of it; counts."""
        layer = entry.layer
        if layer is Layer.RESULT and len(entry.body) > self.settings.max_result_bytes:
            self.recorder.discarded(DiscardReason.TOO_LARGE, key)
            return _TOO_LARGE
        if not self.is_current(key, entry):  # it could take the place of one that is
            self.recorder.layers[layer].discards += 1
            return _OUTDATED
        span = self.observer.begin(_PUT, layer, model=entry.model_id, verb=verb)
        is_stored, failure = False, ""
        try:
            is_stored, failure = await self.write(key, entry, lease)
        except BaseException as error:
            failure = error_name(error)
            raise
        finally:
            if span.is_watched:
                size, ttl_s = len(entry.body), entry.freshness_lifetime_s
                span.finish(PutFinished(is_stored, size, ttl_s, entry.model_id, failure))
        if failure:
            return _FAILED
        return _STORED if is_stored else _REFUSED

    async def write(
        self, key: CacheKey, entry: Entry, lease: Lease | None = None
    ) -> tuple[bool, str]:
        """Store and count without tracing; says whether it was stored, and the error's name."""
        counters, began_s = self.recorder.layers[entry.layer], perf_counter()
        try:
            if lease is None:
                is_stored = await self.coordinator.store(key, entry)
            else:
                is_stored = await self.coordinator.store(
                    key, entry, token=lease.token, form=lease.form
                )
        except Exception as error:  # noqa: BLE001 - as in lookup
            counters.write_errors += 1
            self.recorder.backend_failed("put", error)
            self._wrote(entry, began_s, is_stored=False)
            return False, error_name(error)
        self._wrote(entry, began_s, is_stored=is_stored)
        if is_stored:
            self.recorder.stored(key)
        counters.writes += is_stored
        counters.discards += not is_stored  # it does not fit, or the lease was lost
        return is_stored, ""

    def _wrote(self, entry: Entry, began_s: float, *, is_stored: bool) -> None:
        took_s, size_bytes = perf_counter() - began_s, len(entry.body) if is_stored else 0
        self.recorder.wrote(entry.layer, self.coordinator.name, took_s, size_bytes)


def error_name(error: BaseException) -> str:
    """Return the class of what is behind an error: it says what is wrong, and no secret."""
    return type(error.__cause__ or error).__name__
