"""One provider call of a thread, for which other threads may wait.

That whoever makes it is gone is nowhere announced: the thread has died, or an interrupt has ended
the call. So those who wait look from time to time. That a stream was dropped half way cannot be
seen at all: LiteLLM holds on to it. Then waiting ends when it has lasted too long.
"""

import threading
import time
import weakref
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from routecache_middleware.core.models import Entry, Position

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["End", "Flight"]

_LOOK_S = 0.1
_GRACE_S = 1.0
"""How long an answer that was given to its caller may take to arrive here, seconds."""


class End(Enum):
    """How a flight ended."""

    ANSWERED = auto()
    FAILED = auto()
    """The provider failed, or whoever asked it is gone."""
    UNSHAREABLE = auto()
    """There is an answer, but not for others."""


class Flight:
    """One provider call.

    Attributes:
        key: Entry key and wire form.
        call_id: LiteLLM's id of the call.
        thread: Who makes it.
        position: The captured position.
        entry: The answer, once there is one.
        followers: How many have waited for it.
        end: How it ended; None while it is under way.
    """

    __slots__ = (
        "_call",
        "_is_stream",
        "_over",
        "_until_s",
        "call_id",
        "end",
        "entry",
        "followers",
        "key",
        "position",
        "thread",
    )

    def __init__(
        self,
        key: str,
        call_id: str,
        position: Position,
        *,
        call: object,
        is_stream: bool,
    ) -> None:
        """Begin.

        Args:
            key: See the class.
            call_id: See the class.
            position: See the class.
            call: Something that lives as long as the call may still be answered.
            is_stream: Another thread may read it to its end.
        """
        self.key = key
        self.call_id = call_id
        self.position = position
        self.thread = threading.current_thread()
        self.entry: Entry | None = None
        self.followers = 0
        self.end: End | None = None
        self._over = threading.Event()
        # Asked for, and not told by a callback: those run in the midst of anything, also while
        # this thread holds a lock that they would need.
        self._call: Callable[[], Any] = weakref.ref(call)
        self._is_stream = is_stream
        self._until_s = float("inf")

    def is_abandoned(self) -> bool:
        """Whether nobody is left who could answer it."""
        if self._call() is None or time.monotonic() > self._until_s:
            return True
        return not self._is_stream and not self.thread.is_alive()

    def wait(self, until_s: float) -> None:
        """Wait until it is over, its leader is gone, or the monotonic clock says ``until_s``."""
        while (left_s := until_s - time.monotonic()) > 0:
            if self._over.wait(min(left_s, _LOOK_S)) or self.is_abandoned():
                return

    def expire(self) -> None:
        """Its caller has got the answer: it is here within a second, or never will be."""
        self._until_s = time.monotonic() + _GRACE_S

    def finish(self, end: End, entry: Entry | None = None) -> None:
        """Let everybody go."""
        self.entry, self.end = entry, end
        self._over.set()
