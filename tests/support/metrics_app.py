"""A gateway for ``uvicorn --workers``: something to count, and its metrics at ``/metrics``.

``ROUTECACHE_URL`` says which coordinator its workers share.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from routecache_middleware import RouteCache, RoutingDecision
from routecache_middleware.telemetry.exposition import TEXT_TYPE, render

__all__ = ["app"]

cache = RouteCache()


async def _decide() -> RoutingDecision:
    return RoutingDecision("m")


async def _use(request: Request) -> Response:
    await cache.route(request.query_params["query"], _decide)
    return JSONResponse({"pid": os.getpid()})


async def _metrics(request: Request) -> Response:
    return PlainTextResponse(render(await cache.total_metrics()), media_type=TEXT_TYPE)


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    async with cache:
        yield


app = Starlette(routes=[Route("/use", _use), Route("/metrics", _metrics)], lifespan=_lifespan)
