"""The part that lets calls that are not async in."""

import atexit
import logging
import os
import weakref
from typing import TYPE_CHECKING

from routecache_middleware.adapters.litellm.part import Kwargs, Part
from routecache_middleware.adapters.litellm.sync.door import SyncDoor
from routecache_middleware.adapters.litellm.sync.lanes import lane_to
from routecache_middleware.adapters.litellm.sync.litellm_rules import LiteLLMRules
from routecache_middleware.adapters.litellm.sync.routers import RouterCaching

if TYPE_CHECKING:
    from routecache_middleware.adapters.litellm.hub import Hub

__all__ = ["create"]

_logger = logging.getLogger("routecache")


def create(hub: "Hub") -> Part:
    """Return the part; ``hub.door`` is its door from now on."""
    return _Sync(hub)


class _Sync(Part):
    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._routers = RouterCaching(self._is_ours)
        lane = lane_to(hub.engine, hub.configured.url)
        if lane is None:
            _logger.warning(
                "calls of LiteLLM that are not async are not cached: coordinator %s was built "
                "elsewhere, and belongs to an event loop. Name it by url= instead.",
                hub.engine.coordinator.name,
            )
            return
        rules = LiteLLMRules(hub)
        hub.door = SyncDoor(hub.engine, lane, rules, hub.options, hub.outcomes)
        _forks.watch(hub.door)

    def install(self) -> None:
        """Let Routers ask."""
        self._routers.install()
        atexit.register(self._close)

    def uninstall(self) -> None:
        """Let nobody in any more, and finish what is under way."""
        self._routers.uninstall()
        atexit.unregister(self._close)
        self._close()

    async def aclose(self) -> None:
        """Finish what is under way; the next call begins anew."""
        if self._hub.door is not None:
            import asyncio

            await asyncio.to_thread(self._hub.door.close)

    def calling(self, kwargs: Kwargs) -> None:
        """Remember the position of calls that do not look anything up."""
        if self._hub.door is not None:
            self._hub.door.calling(kwargs)

    def succeeded_now(self, kwargs: Kwargs, duration_s: float) -> None:
        """Do not let anybody wait for an answer that is never stored."""
        if self._hub.door is not None:
            self._hub.door.succeeded(kwargs)

    def failed_now(self, kwargs: Kwargs) -> None:
        """Let those go who wait for it."""
        if self._hub.door is not None:
            self._hub.door.failed(kwargs)

    def _close(self) -> None:
        if self._hub.door is not None:
            self._hub.door.close()

    def _is_ours(self) -> bool:
        return any(getattr(part, "is_in_place", False) for part in self._hub.parts)


class _Forks:
    """Tells all doors of a fork; the hooks of a process can never be taken back."""

    def __init__(self) -> None:
        self._doors: weakref.WeakSet[SyncDoor] = weakref.WeakSet()
        self._held: list[SyncDoor] = []
        self._is_registered = False

    def watch(self, door: SyncDoor) -> None:
        self._doors.add(door)
        if not self._is_registered:
            self._is_registered = True
            os.register_at_fork(
                before=self._before,
                after_in_parent=self._after,
                after_in_child=self._begin_in_child,
            )

    def _before(self) -> None:
        self._held = list(self._doors)
        for door in self._held:
            door.before_fork()

    def _after(self) -> None:
        held, self._held = self._held, []
        for door in held:
            door.after_fork()

    def _begin_in_child(self) -> None:
        held, self._held = self._held, []
        for door in held:
            door.begin_in_child()


_forks = _Forks()
