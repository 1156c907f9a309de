"""What the administration API answers, and where."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from routecache_middleware.admin import views
from routecache_middleware.admin.values import Answer, Asked

__all__ = ["ROUTES", "Row", "View"]

View = Callable[[Asked], Awaitable[Answer]]
"""Answers one request; knows nothing of HTTP but the status."""


class Row(NamedTuple):
    """One endpoint."""

    method: str
    path: str
    view: View


ROUTES = (
    Row("GET", "/stats", views.stats),
    Row("GET", "/cluster", views.cluster),
    Row("POST", "/invalidate", views.invalidate),
)
"""All endpoints."""
