"""What the administration app answers, and where."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from routecache_middleware.admin import changing, saved, views
from routecache_middleware.admin.distribution import Distribution
from routecache_middleware.admin.frames import Frame
from routecache_middleware.admin.listing import EntryDetail
from routecache_middleware.admin.parameters import LAYER, LIMIT, MODEL, SINCE, WINDOW, Parameter
from routecache_middleware.admin.requests import EXPLAIN, INVALIDATE, WARM, Schema
from routecache_middleware.admin.values import Answer, Asked
from routecache_middleware.core.cluster import ClusterStats
from routecache_middleware.core.reports import WarmReport

__all__ = ["ROUTES", "Row", "View"]

View = Callable[[Asked], Awaitable[Answer]]
"""Answers one request; knows nothing of HTTP but the status."""


class Row(NamedTuple):
    """One endpoint.

    Attributes:
        method: ``GET`` or ``POST``.
        path: Where; a parameter in braces.
        view: Who answers.
        answers: The type of the answer; ``dict`` for an object that is not described further, and
            ``str`` for text, ``bytes`` for events.
        changes: Whether a token that may only look is not enough.
        query: Its query parameters.
        body: The schema of what it takes.
        fails: Status codes besides those that every endpoint has.
        most_bytes: How large a body may be.
    """

    method: str
    path: str
    view: View
    answers: type
    changes: bool = False
    query: tuple[Parameter, ...] = ()
    body: Schema | None = None
    fails: tuple[int, ...] = ()
    most_bytes: int = 65_536


ROUTES = (
    Row("GET", "/stats", views.stats, dict),
    Row("GET", "/metrics", views.exposition, str),
    Row("GET", "/savings", saved.savings, saved.Savings, fails=(409,)),
    Row("GET", "/cluster", views.cluster, ClusterStats, fails=(503,)),
    Row("GET", "/breakers", views.breakers, views.Breakers),
    Row("GET", "/config", views.config, dict),
    Row("GET", "/entries", views.entries, views.Entries, query=(LAYER, MODEL, LIMIT)),
    Row("GET", "/entries/{entry}", views.entry, EntryDetail, fails=(404, 503)),
    Row("GET", "/distribution", views.distribution, Distribution),
    Row("GET", "/history", views.history, Frame, query=(WINDOW, SINCE)),
    Row("GET", "/live", views.live, bytes, query=(WINDOW, SINCE), fails=(503,)),
    Row("GET", "/meanings", views.meanings, views.Meanings),
    Row("GET", "/audit", views.audit, views.AuditLog, query=(LIMIT,)),
    Row(
        "POST",
        "/explain",
        changing.explain,
        changing.Explained,
        body=EXPLAIN,
        fails=(409,),
        most_bytes=2_097_152,
    ),
    Row(
        "POST",
        "/invalidate",
        changing.invalidate,
        changing.Invalidation,
        changes=True,
        body=INVALIDATE,
        fails=(503,),
    ),
    Row("POST", "/warm", changing.warm, WarmReport, changes=True, body=WARM, fails=(409,)),
)
"""All endpoints."""
