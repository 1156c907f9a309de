"""Keeper: takes a snapshot of all processes' numbers each second, and keeps the history of them.

Each process with an admin app keeps its own, of the same totals. Where processes share a
coordinator one of them, whoever has the lease, also writes the history there every ten seconds, in
chunks of 60 intervals, and each reads it once when it begins: so it outlives them.

None of it is on the way of a request. A coordinator that hangs costs the dashboard its freshness; a
history that cannot be written or read is the process's own.
"""

import asyncio
import secrets
from collections.abc import Coroutine
from typing import Final

from routecache_middleware.core.history import CHUNK, History, decode_chunk, encode_chunk
from routecache_middleware.core.keys import CacheKey, Layer, model_key
from routecache_middleware.core.models import Entry
from routecache_middleware.core.ports import Leader
from routecache_middleware.wiring.cache import RouteCache

__all__ = ["Keeper"]

_TICK_S: Final = 1.0
_WRITE_S: Final = 10.0
_LEASE_S: Final = 30.0
_PATIENCE_S: Final = 3.0
_OWNER: Final = "routecache.history"
_LOCK_KEY: Final = model_key(Layer.LOAD, "lock", _OWNER)


class Keeper:
    """Keeps the history of one cache.

    Attributes:
        history: What there is of it.
    """

    def __init__(self, cache: RouteCache, *, is_kept: bool) -> None:
        """Keep it in this process, and with ``is_kept`` in a coordinator that is shared."""
        self.history = History()
        self._cache = cache
        self._is_kept = is_kept
        self._token = secrets.token_hex(8)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._has_read = False
        self._written_s = 0.0

    def start(self) -> None:
        """Begin, in the running event loop; idempotent."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._task, self._waiting = loop, None, set()
            self._timer = loop.call_soon(self._tick)  # type: ignore[assignment]

    def stop(self) -> None:
        """Take no more snapshots; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None and self._loop is asyncio.get_running_loop():
            self._task.cancel()
        self._loop = self._timer = self._task = None

    async def changed(self, timeout_s: float) -> None:
        """Wait for the next snapshot, or not longer than that."""
        loop = asyncio.get_running_loop()
        waiting = loop.create_future()
        self._waiting.add(waiting)
        try:
            await asyncio.wait((waiting,), timeout=timeout_s)
        finally:
            self._waiting.discard(waiting)

    async def sample(self) -> None:
        """Take one snapshot, and write the history if that is due."""
        engine = self._cache.engine
        snapshot = await self._cache.total_metrics()
        if getattr(engine.companion, "is_known", True):
            now_s = engine.clock.now_s()
            if self._is_shared and not self._has_read:
                self._has_read = True
                await self._within(self._read(now_s))
            self.history.add(snapshot, now_s)
            if self._is_shared and now_s - self._written_s >= _WRITE_S:
                self._written_s = now_s
                await self._within(self._write(now_s))
        self.wake()

    def wake(self) -> None:
        """Let all go on who wait for the next snapshot."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    @property
    def _is_shared(self) -> bool:
        engine = self._cache.engine
        is_total = engine.coordinator.is_shared and engine.settings.share_metrics
        return self._is_kept and is_total and engine.may_write(Layer.LOAD)

    def _tick(self) -> None:
        loop = self._loop
        if loop is None:
            return
        self._timer = loop.call_later(_TICK_S, self._tick)
        is_idle = self._task is None or self._task.done()
        # A cache that was closed stays closed; who opens it is whoever uses it.
        if is_idle and self._cache.engine.is_open():
            self._task = loop.create_task(self.sample())
            self._task.add_done_callback(_retrieve)

    async def _read(self, now_s: float) -> None:
        engine = self._cache.engine
        for name, ring in self.history.rings.items():
            keys = [_key(name, number) for number in ring.numbers(now_s)]
            for entry in await engine.inspect(keys):
                if entry is not None:
                    ring.put(decode_chunk(entry.body), now_s)

    async def _write(self, now_s: float) -> None:
        """Write the chunks that have changed, unless another process does that."""
        engine = self._cache.engine
        held = await engine.coordinator.acquire(_LOCK_KEY, token=self._token, ttl_s=_LEASE_S)
        if not isinstance(held, Leader):
            return
        for name, ring in self.history.rings.items():
            span_s = CHUNK * ring.step_s
            now, before = int(now_s // span_s), int((now_s - 2 * _WRITE_S) // span_s)
            for number in {before, now}:
                lifetime_s = float(ring.step_s * ring.length + span_s)
                body, position = encode_chunk(ring.chunk(number)), engine.table.position
                entry = Entry(Layer.LOAD, body, now_s, lifetime_s, position=position)
                await engine.coordinator.store(_key(name, number), entry)

    async def _within(self, call: Coroutine[object, object, None]) -> None:
        """Wait for a call that may hang or fail; then it is done without."""
        task = asyncio.ensure_future(call)
        task.add_done_callback(_retrieve)
        try:
            await asyncio.wait((task,), timeout=_PATIENCE_S)
        finally:
            task.cancel()


def _key(name: str, number: int) -> CacheKey:
    return model_key(Layer.LOAD, f"{name}.{number}", _OWNER)


def _retrieve(task: "asyncio.Future[None]") -> None:
    if not task.cancelled():
        task.exception()  # nobody waits for it: the next second tries again
