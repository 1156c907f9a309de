"""The administration API as an ASGI application.

Who may use it is for whoever mounts it to say: ``authorize`` is asked before each request, and
without one there is no application.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from routecache_middleware.admin.routes import ROUTES, View
from routecache_middleware.admin.values import Answer, Asked, Sections, refused
from routecache_middleware.wiring.cache import RouteCache

__all__ = ["Authorize", "create_admin"]

Authorize = Callable[[Any], Awaitable[Answer | None]]
"""Is given Starlette's request, and returns how it is refused, or None."""

_MAX_BODY_BYTES = 65_536


def create_admin(
    cache: RouteCache, *, authorize: Authorize, sections: Sections | None = None
) -> Any:
    """Return a Starlette application that serves :data:`.routes.ROUTES`.

    Args:
        cache: What it is about; it is not closed from here.
        authorize: Decides who may use it.
        sections: Further parts of the statistics.
    """
    from starlette.applications import Starlette  # noqa: PLC0415 - only who mounts it needs it
    from starlette.routing import Route  # noqa: PLC0415 - as above

    routes = [
        Route(row.path, _Endpoint(row.view, cache, authorize, sections or {}), methods=[row.method])
        for row in ROUTES
    ]
    return Starlette(routes=routes)


@dataclass(frozen=True)
class _Endpoint:
    """One view behind the door."""

    view: View
    cache: RouteCache
    authorize: Authorize
    sections: Sections = field(default_factory=dict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.requests import Request  # noqa: PLC0415 - as above
        from starlette.responses import Response  # noqa: PLC0415 - as above

        request = Request(scope, receive)
        answer = await self.authorize(request) or await self._answer(request)
        response = Response(
            msgspec.json.encode(answer.body),
            answer.status,
            {"cache-control": "no-store"},
            "application/json",
        )
        await response(scope, receive, send)

    async def _answer(self, request: Any) -> Answer:
        body = await request.body()
        if len(body) > _MAX_BODY_BYTES:
            return refused(413, "the body is too large")
        try:
            found = msgspec.json.decode(body) if body else {}
        except msgspec.DecodeError:
            found = None
        if not isinstance(found, Mapping):
            return refused(400, "the body has to be a JSON object")
        return await self.view(Asked(cache=self.cache, sections=self.sections, body=found))
