"""Changes of a Router's models invalidate what was made by them, in all processes.

A name that no longer stands for the same is invalidated: a group whose deployments were changed,
added or removed, aliases and routing groups that lead to it, the ids of the deployments. What is
loaded first, and what is loaded again unchanged, invalidates nothing. A group with a wildcard
answers under names that nobody has listed, so its change invalidates everything.

A call that begins after the change in this process is answered anew; in other processes the promise
of the invalidation log holds. One that the coordinator does not take holds here at once, and is
recorded as soon as possible.
"""

import asyncio
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from routecache_middleware.adapters.litellm.models.watch import RouterWatch
from routecache_middleware.adapters.litellm.part import Kwargs, Part
from routecache_middleware.adapters.litellm.sync.loop_thread import run_aside
from routecache_middleware.core.invalidation import ALL, InvalidationRow, model_scope
from routecache_middleware.errors import CoordinatorError

if TYPE_CHECKING:
    from routecache_middleware.adapters.litellm.hub import Hub

__all__ = ["ModelsPart", "create"]

_logger = logging.getLogger("routecache")

_MAX_ROWS = 256
_SHOWN = 5
_WAIT_S = 0.5
# Coordinators that threads share with the event loop: not to be closed under them.
_IN_PROCESS = frozenset({"memory", "lmdb"})


class ModelsPart(Part):
    """Watches Routers.

    Attributes:
        changes: How many changes have invalidated something.
    """

    def __init__(self, hub: "Hub") -> None:
        """Build it for a process."""
        self._hub = hub
        self._engine = hub.engine
        self._watch = RouterWatch(self._changed)
        self._lock = threading.Lock()
        self._pending: set[str] = set()
        self._flushing: asyncio.Task[None] | None = None
        self._late: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.changes = 0

    def install(self) -> None:
        """Begin to watch."""
        self._watch.install(self._hub.router)

    def uninstall(self) -> None:
        """Watch no more."""
        self._watch.uninstall()

    async def aclose(self) -> None:
        """Record what has not been recorded yet."""
        await self._settle()

    async def before_request(self, principal: Any, data: Kwargs, call_type: str) -> None:
        """Let what has changed take effect before the request is routed."""
        await self._settle()

    async def before_call(self, kwargs: Kwargs, call_type: str) -> None:
        """Let what has changed take effect before an answer is looked up."""
        await self._settle()

    def _changed(self, names: frozenset[str]) -> None:
        """Invalidate, in whatever thread the models were changed."""
        self.changes += 1
        shown = ", ".join(sorted(names)[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
        _logger.info("LiteLLM's models have changed; invalidating %d: %s", len(names), shown)
        with self._lock:
            self._pending |= names
        for part in self._hub.parts:
            part.models_changed()
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._from_thread()
        else:
            self._flush()

    def _from_thread(self) -> None:
        loop = self._loop
        if loop is not None and loop.is_running():
            loop.call_soon_threadsafe(self._flush)
            return
        with suppress(TimeoutError):  # it goes on
            run_aside(self._invalidate_aside(), _WAIT_S)

    def _flush(self) -> None:
        """Begin to invalidate, in the event loop."""
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self._invalidate())

    async def _settle(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._flushing = loop, None
        if self._pending:
            self._flush()
        flushing = self._flushing
        if flushing is None or flushing is self._late or flushing.done():
            return
        _, late = await asyncio.wait((flushing,), timeout=_WAIT_S)
        if late:  # the coordinator hangs: nobody else waits for it
            self._late = flushing

    async def _invalidate_aside(self) -> None:
        await self._invalidate()
        if self._engine.coordinator.name not in _IN_PROCESS:
            await self._engine.aclose()  # its connections belong to an event loop that ends here

    async def _invalidate(self) -> None:
        while self._pending:
            with self._lock:
                names, self._pending = self._pending, set()
            is_all = len(names) > _MAX_ROWS or any("*" in name for name in names)
            scopes = [ALL] if is_all else [model_scope(name) for name in sorted(names)]
            await self._engine.ensure_open()
            # It holds in this process then, and recording it is tried again: nothing else to do.
            with suppress(CoordinatorError):
                await self._engine.invalidate([InvalidationRow(scope) for scope in scopes])


def create(hub: "Hub") -> ModelsPart:
    """Return the part."""
    return ModelsPart(hub)
