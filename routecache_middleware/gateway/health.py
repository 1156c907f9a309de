"""``GET /routecache/health``: whether the gateway takes requests; for balancers and probes.

``status``, and the 200, are the gateway's own. A gateway whose store is down still answers, with
what the upstream says, and to take it out of service would make that worse: so ``store`` is told
besides, as the requests so far and the probes since have found it. Upstreams are not looked at.

It says nothing else, and asks nobody, so that anybody may ask.
"""

from enum import StrEnum

from routecache_middleware.adapters.asgi.types import Message, Scope
from routecache_middleware.core.ports import Coordinator

__all__ = ["HEALTH_PATH", "StoreState", "asks_health", "health", "store_state"]

HEALTH_PATH = "/routecache/health"


class StoreState(StrEnum):
    """What requests can expect of the store."""

    UP = "up"
    DEGRADED = "degraded"
    """It is read or written, not both."""
    DOWN = "down"
    """Requests go on without it, until it answers again."""


def store_state(coordinator: Coordinator) -> StoreState:
    """Return how a coordinator does; asks nobody. What has no breaker cannot be down."""
    works = (
        getattr(coordinator, "is_reading", True),
        getattr(coordinator, "is_writing", True),
    )
    if all(works):
        return StoreState.UP
    return StoreState.DEGRADED if any(works) else StoreState.DOWN


def asks_health(scope: Scope) -> bool:
    """Whether a request asks for it."""
    return scope["path"] == HEALTH_PATH and scope["method"] in {"GET", "HEAD"}


def health(scope: Scope, store: StoreState) -> list[Message]:
    """Return the response."""
    body = b'{"status":"ok","store":"%s"}' % store.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    sent = b"" if scope["method"] == "HEAD" else body
    return [
        {"type": "http.response.start", "status": 200, "headers": headers},
        {"type": "http.response.body", "body": sent, "more_body": False},
    ]
