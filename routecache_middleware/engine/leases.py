"""A lease held by this process: renewed while the upstream works, given back whatever happens.

What becomes of those who wait in other processes depends on what became of the answer:

* It was stored: they are told, and read it.
* It failed (an error, nothing, half an answer): they are told, and one of them tries. If that one
  fails too, everybody goes alone for a second, as in :mod:`.flights`.
* It cannot be stored, and the next one probably could not either: nobody waits for ten seconds.
* Anything else is the matter of this process alone, such as its mode, its memory or a client that
  left: they are told, and one of them tries.
"""

import asyncio
import contextvars
from contextlib import suppress
from enum import Enum, auto

from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import DiscardReason
from routecache_middleware.core.ports import Coordinator
from routecache_middleware.engine.background import Background

__all__ = [
    "FAILING_S",
    "UNSHAREABLE_S",
    "Lease",
    "Placing",
    "after_discard_s",
    "after_failure_s",
    "after_placing_s",
]

FAILING_S = 1.0
"""How long everybody goes alone when also the one who was promoted has failed, seconds."""

UNSHAREABLE_S = 10.0
"""How long nobody waits for an answer that cannot be stored, seconds."""

_FAILURES = frozenset(
    {
        DiscardReason.STATUS,
        DiscardReason.INCOMPLETE,
        DiscardReason.ERROR_BODY,
        DiscardReason.EMPTY,
    }
)
_OWN_MATTERS = frozenset(
    {
        DiscardReason.CAPTURE_FULL,
        DiscardReason.MODE,
        DiscardReason.NO_STORE,
        DiscardReason.DISABLED,
    }
)


class Placing(Enum):
    """What became of an entry that was to be stored."""

    STORED = auto()
    TOO_LARGE = auto()
    INVALIDATED = auto()
    """While it was made."""
    REFUSED = auto()
    """It does not fit, or the lease was lost."""
    FAILED = auto()
    """The coordinator failed."""


def after_discard_s(reason: DiscardReason, *, is_promoted: bool) -> float:
    """How long nobody should wait for another answer after one was discarded for ``reason``."""
    if reason in _FAILURES:
        return after_failure_s(is_promoted=is_promoted)
    return 0.0 if reason in _OWN_MATTERS else UNSHAREABLE_S


def after_failure_s(*, is_promoted: bool) -> float:
    """How long nobody should wait after a failure: a first one leaves somebody else a try."""
    return FAILING_S if is_promoted else 0.0


def after_placing_s(placing: Placing) -> float:
    """How long nobody should wait for another entry after that became of one.

    One that was invalidated is made again by the next; one that does not fit never will.
    """
    is_in_vain = placing is Placing.TOO_LARGE or placing is Placing.REFUSED
    return UNSHAREABLE_S if is_in_vain else 0.0


class Lease:
    """The right to fill a key for all processes.

    Attributes:
        key: What is to be filled.
        form: The wire form that is made.
        token: What fences the store.
        is_promoted: Somebody else was making the answer before and failed.
        is_lost: It expired and somebody else may have it: what was made is not stored.
    """

    __slots__ = (
        "_background",
        "_coordinator",
        "_renewing",
        "_ttl_s",
        "form",
        "is_lost",
        "is_promoted",
        "key",
        "token",
    )

    def __init__(
        self,
        coordinator: Coordinator,
        background: Background,
        key: CacheKey,
        *,
        form: str,
        token: str,
        ttl_s: float,
        is_promoted: bool,
    ) -> None:
        """Hold what was just acquired, and renew it at a third of its life, until given back."""
        self._coordinator = coordinator
        self._background = background
        self._ttl_s = ttl_s
        self.key = key
        self.form = form
        self.token = token
        self.is_promoted = is_promoted
        self.is_lost = False
        # In an empty context: the span and the budget of the request that began it are not its own.
        self._renewing: asyncio.Task[None] | None = asyncio.get_running_loop().create_task(
            self._renew(), context=contextvars.Context()
        )

    def give_back(self, parallel_s: float = 0.0) -> None:
        """Let others have it, in the background; idempotent, and the first call counts.

        ``parallel_s``: for so many seconds nobody waits for anybody.
        """
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()
            self._background.run(self._release(parallel_s))

    async def _renew(self) -> None:
        while not self.is_lost:
            await asyncio.sleep(self._ttl_s / 3)
            with suppress(Exception):  # there are two more tries before it expires
                self.is_lost = not await self._coordinator.renew(
                    self.key, token=self.token, ttl_s=self._ttl_s, form=self.form
                )

    async def _release(self, parallel_s: float) -> None:
        with suppress(Exception):  # it expires by itself
            await self._coordinator.release(
                self.key, token=self.token, form=self.form, parallel_s=parallel_s
            )
