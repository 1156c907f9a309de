"""What goes into a view of the administration API, and what comes out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from routecache_middleware.wiring.cache import RouteCache

__all__ = ["Answer", "Asked", "Sections", "refused"]

Sections = Mapping[str, Callable[[], object]]
"""Further parts of the statistics: name to what gives its JSON value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request.

    Attributes:
        cache: The cache that it is about.
        sections: Further parts of the statistics.
        body: What it carries; empty when it carries nothing.
    """

    cache: RouteCache
    sections: Sections = field(default_factory=dict)
    body: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response.

    Attributes:
        body: A JSON value.
        status: HTTP status code.
    """

    body: object
    status: int = 200


def refused(status: int, message: str) -> Answer:
    """Return an error in the API's shape."""
    return Answer({"error": {"message": message}}, status)
