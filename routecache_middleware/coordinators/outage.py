"""What happens from the moment a coordinator turns bad until it works again, behind the requests.

It is probed, ever less often, and whoever runs it gets two log lines: one when it turns bad, one
when it has worked again for a while. One that comes and goes is one outage, not hundreds.
"""

import asyncio
import contextvars
import logging
import math
import random
from collections.abc import Awaitable, Callable

from routecache_middleware.core.ports import Clock
from routecache_middleware.errors import ConfigurationError

__all__ = ["Outage"]

_FIRST_PROBE_S = 0.25
_MAX_PROBE_S = 2.0
# How long it has to work before the outage is called over; the longer one when the last outage
# ended less than that ago.
_SETTLED_S = 1.0
_UNSTEADY_S = 10.0


class Outage:
    """The present outage of a coordinator, if there is one."""

    def __init__(
        self,
        name: str,
        probe: Callable[[], Awaitable[bool]],
        *,
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        """Prepare; nothing is wrong yet.

        Args:
            name: The coordinator's, and where it is.
            probe: Says whether everything works again. It raises nothing but ConfigurationError.
            clock: For the time between two outages; its monotonic side.
            log: Where the two lines go.
        """
        self._name = name
        self._probe = probe
        self._clock = clock
        self._log = log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._turned_bad = asyncio.Event()
        self._is_closed = False
        self._is_reported = self._is_hopeless = False
        self._ended_s = -math.inf
        self._settled_s = _SETTLED_S

    def begin(self, error: BaseException) -> None:
        """It has turned bad because of ``error``: say so, and begin to probe."""
        if self._is_closed:  # whoever calls a coordinator that was closed is not told more
            return
        if not self._is_reported:
            self._is_reported = True
            is_new = self._clock.monotonic_s() - self._ended_s > _UNSTEADY_S
            self._settled_s = _SETTLED_S if is_new else _UNSTEADY_S
            self._log.warning(
                "coordinator %s fails (%s); requests go on without it, and it is tried again "
                "in the background",
                self._name,
                _reason(error),
            )
        self._turned_bad.set()
        self.keep_watching()

    def keep_watching(self) -> None:
        """Probe in the running event loop, in case the one that did is gone."""
        loop = asyncio.get_running_loop()
        if self._is_closed:
            return
        if self._loop is loop and self._task is not None and not self._task.done():
            return
        self._loop = loop
        self._turned_bad = asyncio.Event()
        # Not in the context of the request that happens to be served, whose budget is spent.
        self._task = loop.create_task(self._watch(), context=contextvars.Context())

    def open(self) -> None:
        """Be ready to probe, after :meth:`aclose` too."""
        self._is_closed = False

    def carry_over(self) -> None:
        """See an outage that was reported to its end, in a new event loop."""
        if self._is_reported:
            self.keep_watching()

    async def aclose(self) -> None:
        """Stop probing; the outage is over as far as this process is concerned."""
        self._is_closed = True
        task, self._task = self._task, None
        if task is not None and self._loop is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait((task,))
        self._is_reported = self._is_hopeless = False

    async def _watch(self) -> None:
        delay_s = _FIRST_PROBE_S
        while True:
            await asyncio.sleep(delay_s * random.uniform(0.75, 1.0))  # noqa: S311 - no secret
            self._turned_bad.clear()
            if not await self._works():
                delay_s = min(2 * delay_s, _MAX_PROBE_S)
            elif await self._is_steady():
                break
            else:
                delay_s = _FIRST_PROBE_S
        self._is_reported = self._is_hopeless = False
        self._ended_s = self._clock.monotonic_s()
        self._log.warning("coordinator %s works again", self._name)

    async def _works(self) -> bool:
        try:
            return await self._probe()
        except ConfigurationError as error:
            if not self._is_hopeless:  # what is wrong was not known when the outage began
                self._is_hopeless = True
                self._log.warning("coordinator %s cannot work: %s", self._name, error)
            return False

    async def _is_steady(self) -> bool:
        """Whether it goes on working for a while."""
        try:
            async with asyncio.timeout(self._settled_s):
                await self._turned_bad.wait()
        except TimeoutError:
            return True
        return False


def _reason(error: BaseException) -> str:
    kind, text = type(error.__cause__ or error).__name__, str(error)
    return text if text.startswith(kind) else f"{kind}: {text}"
