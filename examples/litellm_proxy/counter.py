"""Stands between the proxy and the model and counts the calls; ``GET /calls`` says how many."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

_TIMEOUT_S = 120.0
_PASSED_ON = ("content-type", "authorization")


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    app.state.calls = 0
    url = os.environ["COUNTED_URL"]
    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S) as client:
        app.state.client = client
        yield


async def forward(request: Request) -> StreamingResponse:
    """Pass a call on to the model, and its answer back as it comes."""
    state = request.app.state
    state.calls += 1
    asked = state.client.build_request(
        "POST",
        request.path_params["path"],
        content=await request.body(),
        headers={name: request.headers[name] for name in _PASSED_ON if name in request.headers},
    )
    answer = await state.client.send(asked, stream=True)
    return StreamingResponse(
        answer.aiter_raw(),
        status_code=answer.status_code,
        media_type=answer.headers.get("content-type"),
        background=BackgroundTask(answer.aclose),
    )


async def calls(request: Request) -> PlainTextResponse:
    """Say how many calls there were."""
    return PlainTextResponse(str(request.app.state.calls))


app = Starlette(
    routes=[Route("/calls", calls), Route("/v1/{path:path}", forward, methods=["POST"])],
    lifespan=_lifespan,
)
