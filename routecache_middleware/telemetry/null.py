"""The observer that does nothing, and the one operation it hands out."""

from math import inf
from typing import Final

from routecache_middleware.core.events import (
    Finished,
    Operation,
    RequestFinished,
)

__all__ = ["NULL_OBSERVER", "NULL_OPERATION", "NullObserver", "NullOperation"]


class NullOperation:
    """An operation that nobody watches. Stateless, so one instance serves all."""

    __slots__ = ()

    traceparent: Final = ""
    is_watched: Final = False

    def finish(self, record: Finished) -> None:
        """Do nothing."""


NULL_OPERATION: Final = NullOperation()


class NullObserver:
    """An observer that does nothing."""

    __slots__ = ()

    quiet_until_s: Final = inf

    def begin(
        self,
        operation: Operation,  # noqa: ARG002 - the port's signature
        target: str,  # noqa: ARG002
        *,
        model: str = "",  # noqa: ARG002
        verb: str = "",  # noqa: ARG002
    ) -> NullOperation:
        """Return the operation that nobody watches."""
        return NULL_OPERATION

    def request(self, record: RequestFinished) -> None:
        """Do nothing."""


NULL_OBSERVER: Final = NullObserver()
