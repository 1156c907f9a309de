"""Gate: what lets one kind of call through to a coordinator, reads or writes."""

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from routecache_middleware.coordinators.breaker import Breaker
from routecache_middleware.coordinators.outage import Outage
from routecache_middleware.coordinators.shielded import ShieldedCalls
from routecache_middleware.core.ports import Clock
from routecache_middleware.errors import CoordinatorError

__all__ = ["NOBODY", "Gate"]

P = ParamSpec("P")
T = TypeVar("T")


class _Nobody:
    def succeeded(self) -> None:
        pass

    def failed(self, error: Exception) -> None:
        pass


NOBODY = _Nobody()
"""The judge of calls that prove nothing about others, such as probes."""


class Gate:
    """A breaker with the calls that it is about. It judges them itself."""

    __slots__ = ("_calls", "_clock", "_kind", "_outage", "_reason", "breaker")

    def __init__(self, kind: str, calls: ShieldedCalls, outage: Outage, clock: Clock) -> None:
        """Let everything through.

        Args:
            kind: What the calls are, such as ``reads``; for error texts.
            calls: How they are made.
            outage: What begins when the breaker opens.
            clock: For the breaker; its monotonic side.
        """
        self._kind = kind
        self._calls = calls
        self._outage = outage
        self._clock = clock
        self._reason = ""
        self.breaker = Breaker()

    @property
    def is_open(self) -> bool:
        """Whether calls are let through; a breaker is open when they are not."""
        return not self.breaker.is_open

    async def ask(
        self,
        timeout_s: float,
        method: Callable[P, Coroutine[Any, Any, T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Return what ``method`` returns, if it is let through.

        Raises:
            CoordinatorError: It was not let through, failed, or took too long.
        """
        if not self.breaker.admits():
            self._outage.keep_watching()
            why = f"{self._kind} failed lately ({self._reason}) and are not tried for now"
            raise CoordinatorError(why)
        return await self._calls.ask(self, timeout_s, method, *args, **kwargs)

    async def recovers(
        self, timeout_s: float, probe: Callable[[], Coroutine[Any, Any, object]] | None
    ) -> bool:
        """Whether calls are let through after this: if need be after a probe that succeeds.

        ``probe``: None where there is none; then the next call is let through on trial.
        """
        if self.is_open:
            return True
        if probe is None:
            self.breaker.allow_trial()
            return False
        try:
            await self._calls.ask(NOBODY, timeout_s, probe)
        except CoordinatorError:
            return False
        self.breaker.close()
        return True

    def close(self, error: Exception) -> None:
        """Let nothing through, because of ``error``."""
        self._reason = str(error)
        self.breaker.open()
        self._outage.begin(error)

    def succeeded(self) -> None:
        """A call was answered in time."""
        self.breaker.succeeded()

    def failed(self, error: Exception) -> None:
        """A call failed, or was not answered in time."""
        self._reason = str(error)
        if self.breaker.failed(self._clock.monotonic_s()):
            self._outage.begin(error)
