"""The gateway of ``routecache gateway``, and ``GET /metrics`` beside it for Prometheus.

``ROUTECACHE_CONFIG=gateway.toml uvicorn examples.monitoring.gateway:app --port 8000``. The numbers
are those of all processes that share the cache's coordinator. They name models: keep the port to
yourself, as here, or serve them from the admin app, which asks for a token.
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from routecache_middleware.gateway.app import Gateway
from routecache_middleware.gateway.settings import GatewaySettings
from routecache_middleware.telemetry.exposition import (
    OPENMETRICS_TYPE,
    TEXT_TYPE,
    render,
    render_openmetrics,
    wants_openmetrics,
)
from routecache_middleware.wiring.config import load_table

gateway = Gateway(load_table(GatewaySettings, "gateway"))


async def metrics(request: Request) -> Response:
    """GET /metrics: in the format that is asked for."""
    total = await gateway.cache.total_metrics()
    if wants_openmetrics(request.headers.get("accept", "")):
        return Response(render_openmetrics(total), media_type=OPENMETRICS_TYPE)
    return Response(render(total), media_type=TEXT_TYPE)


app = Starlette(routes=[Route("/metrics", metrics), Mount("/", gateway.app)])
