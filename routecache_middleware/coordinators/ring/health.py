"""Health of one node as one process sees it: a state machine on a clock, without any I/O.

    up --failure--> suspect --third failure in a row, or refused--> down
    suspect --success--> up
    down --a probe succeeds--> joining --its log is up to date--> up
    joining --failure--> down

``up`` and ``suspect`` are asked; the others are not.
"""

import math

from routecache_middleware.core.cluster import NodeState

__all__ = ["FAILURES", "REMOVAL_S", "Health"]

FAILURES = 3
"""So many failures in a row make a node ``down``. A refused connection does at once."""

REMOVAL_S = 120.0
"""A node that was down for so long is removed from this process's view, seconds."""

_SERVING = frozenset({NodeState.UP, NodeState.SUSPECT})


class Health:
    """One node's health. A new node has not been heard of, so it is ``down`` until it answers.

    Attributes:
        state: How it is.
        down_since_s: Monotonic time from which its removal is counted: it went down, or began to
            be watched.
    """

    __slots__ = ("_failed_s", "_failures", "down_since_s", "state")

    def __init__(self, now_s: float) -> None:
        self.restart(now_s)

    @property
    def is_serving(self) -> bool:
        """Whether it is asked."""
        return self.state in _SERVING

    def restart(self, now_s: float) -> None:
        """Nothing is known of it any more."""
        self.state = NodeState.DOWN
        self.down_since_s = now_s
        self._failures = 0
        self._failed_s = -math.inf

    def succeeded(self) -> None:
        """It answered. That alone does not bring back a node that is down: see :meth:`answers`."""
        self._failures = 0
        if self.state is NodeState.SUSPECT:
            self.state = NodeState.UP

    def failed(self, begun_s: float, now_s: float, *, was_refused: bool = False) -> None:
        """What it was asked at ``begun_s`` failed. ``was_refused``: nobody listens there.

        Failures are in a row if they were asked one after the other: one hiccup that hits many at
        the same time is one failure.
        """
        if begun_s >= self._failed_s:
            self._failures += 1
            self._failed_s = now_s
        if self.state is NodeState.DOWN:
            return
        is_down = was_refused or self._failures >= FAILURES or self.state is NodeState.JOINING
        if is_down:
            self.down_since_s = now_s
        self.state = NodeState.DOWN if is_down else NodeState.SUSPECT

    def answers(self) -> None:
        """A probe succeeded: a node that was down may be brought up to date."""
        if self.state is NodeState.DOWN:
            self.state = NodeState.JOINING

    def joined(self) -> None:
        """Its log is up to date."""
        if self.state is NodeState.JOINING:
            self._failures = 0
            self.state = NodeState.UP

    def is_removable(self, now_s: float) -> bool:
        """Whether it was down for so long that its keys should have another home."""
        return self.state is NodeState.DOWN and now_s - self.down_since_s >= REMOVAL_S
