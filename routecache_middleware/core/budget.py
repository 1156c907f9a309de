"""How long one request may wait for a networked coordinator, over all of its calls.

The adapter opens a budget around what it does before the app is asked; whatever calls a networked
coordinator meanwhile spends it. The first failure spends all of it, so that a request pays for a
coordinator that hangs once and not at every step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context

__all__ = ["Budget", "current_budget", "open_budget", "unbudgeted", "use_budget"]


class Budget:
    """What is left of it.

    Attributes:
        remaining_s: Seconds that may still be waited; 0 after a failure.
    """

    __slots__ = ("remaining_s",)

    def __init__(self, total_s: float) -> None:
        self.remaining_s = total_s

    def spend(self, elapsed_s: float) -> None:
        """A call took ``elapsed_s``."""
        self.remaining_s = max(0.0, self.remaining_s - elapsed_s)

    def fail(self) -> None:
        """A call failed: nothing more is waited for."""
        self.remaining_s = 0.0


_current: ContextVar[Budget | None] = ContextVar("routecache_budget", default=None)


def current_budget() -> Budget | None:
    """Return the budget of the request that is being served, or None outside of one."""
    return _current.get()


@contextmanager
def open_budget(total_s: float | None) -> Iterator[Budget | None]:
    """Let calls in this context spend ``total_s`` seconds in all; None: no common budget.

    Inside what another request began, such as work in the background, None is what ends its budget.
    """
    budget = None if total_s is None else Budget(total_s)
    with use_budget(budget):
        yield budget


@contextmanager
def use_budget(budget: Budget | None) -> Iterator[None]:
    """Go on spending ``budget`` in this context, after other things were done without one."""
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)


def unbudgeted() -> Context:
    """Return a copy of this context without a budget, for work that no request waits for."""
    context = copy_context()
    context.run(_current.set, None)
    return context
