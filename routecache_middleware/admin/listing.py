"""What is stored, from a bounded sample: no request makes anybody walk over all there is.

An entry is shown by an id, which is a keyed hash of its key: it says nothing, and only this app can
find the entry by it. No prompt, answer, header value or tenant's name is ever shown.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec

from routecache_middleware.core.explanation import (
    State,
    opaque,
    shown,
    shown_all,
    state_of,
)
from routecache_middleware.core.fingerprint import Domain, new_hash
from routecache_middleware.core.freshness import age_s
from routecache_middleware.core.keys import CacheKey, Layer, parse_key
from routecache_middleware.core.models import Entry
from routecache_middleware.core.records import read_decision
from routecache_middleware.engine.engine import Engine
from routecache_middleware.errors import CorruptEntryError

__all__ = ["LISTED", "MOST_ENTRIES", "EntryDetail", "EntryRow", "Listing", "Sample", "hash_shown"]

T = TypeVar("T")

LISTED: Final = (Layer.RESULT, Layer.ROUTING, Layer.METADATA)
"""The layers whose entries are listed. Load metrics live for seconds, and hold our own figures."""

MOST_ENTRIES: Final = 500
"""How many entries of a layer are looked at, at most."""

_MOST_SHARED: Final = 200  # they come over the network, with their bodies
_LASTS_S: Final = 2.0
_LASTS_SHARED_S: Final = 10.0
_PATIENCE_S: Final = 2.0
_MOST_IDS: Final = 5_000
_IS_HASH: Final = re.compile(r"[0-9a-f]{32}")


class EntryRow(msgspec.Struct, frozen=True, kw_only=True):
    """An entry, as it is listed."""

    id: str
    layer: Layer
    model: str
    query: str
    tenant: str
    state: State
    size_bytes: int
    age_s: float
    ttl_s: float
    shape: str
    made_in_ms: float


class EntryDetail(EntryRow, frozen=True, kw_only=True):
    """All that is said of one entry."""

    content_type: str
    mode: str
    has_usage: bool
    created_s: float
    freshness_lifetime_s: float
    stale_while_revalidate_s: float
    stale_if_error_s: float
    position: int
    tags: tuple[str, ...]
    headers: tuple[str, ...]
    router_version: str
    selected_model: str = ""
    strategy: str = ""
    score: float | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the entries, of all listed layers.

    Attributes:
        found: Layer to entries, in no particular order.
        at_s: When they were read, on the monotonic clock.
        trouble: Why some could not be read, or empty.
    """

    found: dict[Layer, Sequence[tuple[CacheKey, Entry]]]
    at_s: float
    trouble: str = ""


class Listing:
    """Samples for whoever asks, at most one every few seconds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last: Sample | None = None
        self._keys: OrderedDict[str, CacheKey] = OrderedDict()

    async def sample(self) -> Sample:
        """Return a sample that is at most a few seconds old; never raises."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # another event loop than before
            self._loop, self._lock = loop, asyncio.Lock()
        async with self._lock:
            engine, last = self._engine, self._last
            lasts_s = _LASTS_SHARED_S if engine.coordinator.is_shared else _LASTS_S
            now_s = engine.clock.monotonic_s()
            if last is None or now_s - last.at_s >= lasts_s:
                self._last = last = await self._taken(now_s)
            return last

    def row(self, key: CacheKey, entry: Entry) -> EntryRow:
        """Return what the list says of an entry, and remember its id."""
        return EntryRow(**self._of_row(key, entry))

    def key_of(self, entry_id: str) -> CacheKey | None:
        """Return the key of an entry that was listed lately."""
        return self._keys.get(entry_id)

    def detail(self, key: CacheKey, entry: Entry) -> EntryDetail:
        """Return all that is said of an entry."""
        tags = [scope.removeprefix("tag:") for scope in entry.scopes if scope.startswith("tag:")]
        return EntryDetail(
            **self._of_row(key, entry),
            content_type=shown(entry.content_type),
            mode=entry.mode.value,
            has_usage=entry.has_usage,
            created_s=entry.created_s,
            freshness_lifetime_s=entry.freshness_lifetime_s,
            stale_while_revalidate_s=entry.stale_while_revalidate_s,
            stale_if_error_s=entry.stale_if_error_s,
            position=entry.position,
            tags=shown_all(tags),
            headers=shown_all([name.decode("latin-1") for name, _ in entry.headers]),
            router_version=shown(entry.router_version),
            **_of_decision(entry),
        )

    def _of_row(self, key: CacheKey, entry: Entry) -> dict[str, Any]:
        engine = self._engine
        now_s, parts = engine.clock.now_s(), parse_key(key)
        age = age_s(entry, now_s)
        return {
            "id": self._id_of(key),
            "layer": entry.layer,
            "model": shown(entry.model_id),
            "query": hash_shown(parts.query_hash, engine.settings.secret),
            "tenant": hash_shown(parts.tenant, engine.settings.secret),
            "state": state_of(entry, is_current=engine.is_current(key, entry), now_s=now_s),
            "size_bytes": len(entry.body),
            "age_s": round(age, 3),
            "ttl_s": round(entry.freshness_lifetime_s - age, 3),
            "shape": shown(entry.shape),
            "made_in_ms": entry.cost_ms,
        }

    def _id_of(self, key: CacheKey) -> str:
        state = new_hash(Domain.PART, self._engine.settings.secret)
        state.update(b"entry " + key.encode("utf-8", "surrogatepass"))
        found = state.hexdigest()[:16]
        self._keys[found] = key
        self._keys.move_to_end(found)
        if len(self._keys) > _MOST_IDS:
            self._keys.popitem(last=False)
        return found

    async def read(self, keys: Sequence[CacheKey]) -> Sequence[Entry | None]:
        """Return entries; None for what is not there or cannot be read now. Never raises."""
        reading = asyncio.ensure_future(self._engine.inspect(keys))
        found = await _within(reading)
        return [None] * len(keys) if isinstance(found, str) else found

    async def _taken(self, now_s: float) -> Sample:
        engine = self._engine
        limit = _MOST_SHARED if engine.coordinator.is_shared else MOST_ENTRIES
        found = await _within(asyncio.ensure_future(self._read(limit)))
        if isinstance(found, str):
            return Sample(found=dict.fromkeys(LISTED, ()), at_s=now_s, trouble=found)
        return Sample(found=found, at_s=now_s)

    async def _read(self, limit: int) -> dict[Layer, Sequence[tuple[CacheKey, Entry]]]:
        await self._engine.ensure_open()
        return {layer: await self._engine.coordinator.sample(layer, limit) for layer in LISTED}


async def _within(reading: "asyncio.Future[T]") -> T | str:
    """Return what is read; or why it is not, when that fails or takes too long."""
    try:
        # Not asyncio.timeout: a coordinator may take no notice of being cancelled.
        await asyncio.wait((reading,), timeout=_PATIENCE_S)
        if reading.done():
            return reading.result()
    except Exception as error:  # noqa: BLE001 - a third party's coordinator may raise anything
        return f"the coordinator failed with {type(error.__cause__ or error).__name__}"
    finally:
        if not reading.done():
            reading.add_done_callback(_retrieve)
            reading.cancel()
    return f"the coordinator did not answer within {_PATIENCE_S:g} s"


def hash_shown(name: str, secret: bytes) -> str:
    """Return what stands for a tenant or a query: the beginning of a hash, never a name or a text.

    Who uses the library may name both as they like.
    """
    return opaque(name, secret, is_hash=_IS_HASH.fullmatch(name) is not None)


def _of_decision(entry: Entry) -> dict[str, Any]:
    if entry.layer is not Layer.ROUTING:
        return {}
    try:
        decision = read_decision(entry, 0.0)
    except CorruptEntryError:
        return {}
    return {
        "selected_model": shown(decision.selected_model),
        "strategy": shown(decision.strategy),
        "score": decision.score,
    }


def _retrieve(task: "asyncio.Future[T]") -> None:
    if not task.cancelled():
        task.exception()
