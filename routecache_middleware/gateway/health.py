"""``GET /routecache/health``: whether the gateway takes requests; for balancers and probes.

It says nothing else, so that anybody may ask. It does not look at upstreams nor at the store: a
gateway without either still answers, and to take it out of service would make that worse.
"""

from routecache_middleware.adapters.asgi.types import Message, Scope

__all__ = ["HEALTH_PATH", "asks_health", "health"]

HEALTH_PATH = "/routecache/health"
_BODY = b'{"status":"ok"}'


def asks_health(scope: Scope) -> bool:
    """Whether a request asks for it."""
    return scope["path"] == HEALTH_PATH and scope["method"] in {"GET", "HEAD"}


def health(scope: Scope) -> list[Message]:
    """Return the response."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(_BODY)),
        (b"cache-control", b"no-store"),
    ]
    sent = b"" if scope["method"] == "HEAD" else _BODY
    return [
        {"type": "http.response.start", "status": 200, "headers": headers},
        {"type": "http.response.body", "body": sent, "more_body": False},
    ]
