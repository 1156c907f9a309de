"""The administration app beside the gateway: under a path that no LLM API has."""

from routecache_middleware.adapters.asgi.types import ASGIApp, Receive, Scope, Send
from routecache_middleware.admin.door import Door as AdminDoor
from routecache_middleware.gateway.health import asks_health

__all__ = ["PATH", "Beside"]

PATH = "/routecache"

_SEE_OTHER = 307


class Beside:
    """The gateway, and under :data:`PATH` the administration app with doors of its own."""

    def __init__(self, gateway: ASGIApp, admin: AdminDoor) -> None:
        self._gateway = gateway
        self._admin = admin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            self._admin.start()
        if (
            scope["type"] != "http"
            or not f"{scope['path']}/".startswith(f"{PATH}/")
            or asks_health(scope)
        ):
            await self._gateway(scope, receive, send)
        elif scope["path"] == PATH:
            await _move(scope, send)
        else:
            root = scope.get("root_path", "")
            await self._admin({**scope, "root_path": f"{root}{PATH}"}, receive, send)


async def _move(scope: Scope, send: Send) -> None:
    """Send the client to the same path with a slash, against which the page's own are relative."""
    place = f"{scope.get('root_path', '')}{PATH}/".encode()
    headers = [(b"location", place), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": _SEE_OTHER, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
