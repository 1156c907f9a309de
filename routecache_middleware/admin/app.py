"""The administration app: statistics, explanations and invalidation over HTTP, and the dashboard.

It is an ASGI application of its own, to be mounted in a gateway or served by ``routecache admin``.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from routecache_middleware.admin.access import Authorize, authorizer
from routecache_middleware.admin.assets import Assets
from routecache_middleware.admin.door import Door, principal_of
from routecache_middleware.admin.keeper import Keeper
from routecache_middleware.admin.openapi import document
from routecache_middleware.admin.parameters import WrongParameterError, checked
from routecache_middleware.admin.replies import reply
from routecache_middleware.admin.routes import ROUTES, Row
from routecache_middleware.admin.services import Load, Services
from routecache_middleware.admin.settings import AdminSettings
from routecache_middleware.admin.values import Answer, Asked, Sections, refused
from routecache_middleware.wiring.cache import RouteCache
from routecache_middleware.wiring.config import load_table

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

__all__ = ["create_admin"]

_JSON: Final = "application/json"

_logger = logging.getLogger("routecache.admin")


def create_admin(
    cache: RouteCache,
    *,
    settings: AdminSettings | None = None,
    authorize: Authorize | None = None,
    is_local: bool = False,
    load: Load | None = None,
    sections: Sections | None = None,
) -> Door:
    """Return an ASGI application that serves :data:`.routes.ROUTES` and the dashboard.

    Its history begins with the server's start, or, where it is mounted, with the first request.

    Args:
        cache: What it is about; it is not closed from here.
        settings: Its own; None: ``[routecache.admin]`` and ``ROUTECACHE_ADMIN_...``.
        authorize: Decides who may use it, instead of the settings' tokens.
        is_local: Without a token, let in whoever asks from this very machine. Only for servers that
            listen on a loopback address.
        load: What ``POST /warm`` asks about a model.
        sections: Further parts of the statistics.

    Raises:
        ConfigurationError: Nobody says who may use it, or a setting is wrong.
    """
    from starlette.applications import Starlette  # noqa: PLC0415 - not before the app is made
    from starlette.exceptions import HTTPException  # noqa: PLC0415 - as above
    from starlette.routing import Route  # noqa: PLC0415 - as above

    settings = load_table(AdminSettings, "admin") if settings is None else settings
    authorize = authorizer(settings, is_local=is_local) if authorize is None else authorize
    services = Services(cache=cache, settings=settings, sections=sections or {}, load=load)
    routes = [Route(row.path, _Endpoint(row, services), methods=[row.method]) for row in ROUTES]
    routes.append(Route("/openapi.json", _document, methods=["GET"]))
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _refuse},
        lifespan=partial(_life, services.keeper),
    )
    return Door(
        app,
        authorize=authorize,
        settings=settings,
        assets=Assets(),
        monotonic_s=cache.engine.clock.monotonic_s,
        start=services.keeper.start,
        stop=services.live.stop,
    )


class _Endpoint:
    """One endpoint behind the door."""

    def __init__(self, row: Row, services: Services) -> None:
        self._row = row
        self._services = services

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from starlette.requests import Request  # noqa: PLC0415 - not before the app is made

        request = Request(scope, receive)
        try:
            response = reply(await self._answer(request))
        except Exception as error:  # noqa: BLE001 - its text may hold anything, so it goes nowhere
            _logger.warning("%s failed with %s", self._row.path, type(error).__name__)
            said = refused(500, f"it failed with {type(error).__name__}; nothing more is said")
            response = reply(said)
        await response(scope, receive, send)

    async def _answer(self, request: "Request") -> Answer:
        row, principal = self._row, principal_of(request.scope)
        self._services.keeper.start()  # mounted, it is told of no start
        if row.changes and not principal.may_change:
            return refused(403, "this token may look, and change nothing")
        try:
            query = checked(row.query, request.query_params.multi_items())
        except WrongParameterError as error:
            return refused(400, str(error))
        body = {} if row.body is None else await _read_body(request, row.most_bytes)
        if isinstance(body, Answer):
            return body
        return await row.view(
            Asked(
                services=self._services,
                body=body,
                query=query,
                path=request.path_params,
                accept=request.headers.get("accept", ""),
                who=principal.name,
                client=request.client.host if request.client is not None else "",
            )
        )


async def _read_body(request: "Request", most_bytes: int) -> Mapping[str, object] | Answer:
    """Return what a request carries, or how it is refused."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _JSON:
        return refused(415, f"send the body as {_JSON}")
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > most_bytes:
            return refused(413, "the body is too large")
        pieces.append(piece)
    try:
        found: object = msgspec.json.decode(b"".join(pieces))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return refused(400, "the body has to be a JSON object")
    return found


@asynccontextmanager
async def _life(keeper: Keeper, _: "Starlette") -> AsyncIterator[None]:
    """Keep the history from the server's start to its end."""
    keeper.start()
    yield
    keeper.stop()


async def _document(request: "Request") -> "Response":  # noqa: ARG001 - as routes are called
    return reply(Answer(document()))


async def _refuse(request: "Request", error: Any) -> "Response":  # noqa: ARG001 - as above
    """Say in the app's own shape that there is no such path or method."""
    response = reply(refused(error.status_code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response
