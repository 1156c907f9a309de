"""What goes into a view of the administration app, and what comes out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from routecache_middleware.wiring.cache import RouteCache

if TYPE_CHECKING:
    from routecache_middleware.admin.services import Services

__all__ = ["Answer", "Asked", "Sections", "refused"]

Sections = Mapping[str, Callable[[], object]]
"""Further parts of the statistics: name to what gives its JSON value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request.

    Attributes:
        services: What the app is made of.
        body: What it carries; empty when it carries nothing.
        query: Its query parameters, checked.
        path: The parameters in its path.
        accept: Its ``Accept`` field.
        who: Who asks, for the audit log.
        client: From where, likewise.
    """

    services: "Services"
    body: Mapping[str, object] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)
    accept: str = ""
    who: str = ""
    client: str = ""

    @property
    def cache(self) -> RouteCache:
        """The cache that it is about."""
        return self.services.cache


@dataclass(frozen=True, slots=True)
class Answer:
    """A response.

    Attributes:
        body: A JSON value; or text, or an iterator of bytes, when ``content_type`` says so.
        status: HTTP status code.
        content_type: Its media type.
        retry_after_s: When to ask again; 0 for no word of that.
    """

    body: object
    status: int = 200
    content_type: str = "application/json"
    retry_after_s: int = 0


def refused(status: int, message: str, *, retry_after_s: int = 0) -> Answer:
    """Return an error in the app's shape."""
    return Answer({"error": {"message": message}}, status, retry_after_s=retry_after_s)
