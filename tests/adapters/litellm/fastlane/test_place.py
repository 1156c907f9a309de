"""Where the lane stands: before an app that is built, before one that runs, and before none."""

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from routecache_middleware.adapters.asgi.types import ASGIApp, Message, Receive, Scope, Send
from routecache_middleware.adapters.litellm.fastlane.place import (
    Doorway,
    stand_before,
    step_aside,
)
from tests.support.asgi import fetch


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def fastapi() -> Any:
    app = FastAPI()
    app.add_api_route("/", hello, methods=["GET"])
    return app


def starlette() -> Any:
    return Starlette(routes=[Route("/", hello)])


class Marking:
    """A lane that marks what passes."""

    def __init__(self, app: ASGIApp, mark: bytes) -> None:
        self._app = app
        self._mark = mark

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-mark", self._mark))
            await send(message)

        await self._app(scope, receive, marked)


async def marks(app: Any) -> list[str]:
    answer = await fetch(app, scope=None, path="/", method="GET")
    assert answer.body == b"hello"
    return answer.all("x-mark")


async def nothing() -> None:
    pass


@pytest.mark.parametrize("new", [fastapi, starlette])
async def test_a_lane_goes_before_an_app_that_already_serves(new: Any) -> None:
    """Starlette refuses middleware then; LiteLLM loads callbacks only then."""
    app = new()
    assert await marks(app) == []
    stand_before(app, lambda inner: Marking(inner, b"1"))
    assert await marks(app) == ["1"]


async def test_before_an_app_that_has_not_served_yet_too() -> None:
    app = fastapi()
    stand_before(app, lambda inner: Marking(inner, b"1"))
    assert await marks(app) == ["1"]


async def test_another_lane_takes_the_place_of_the_first() -> None:
    app = fastapi()
    stand_before(app, lambda inner: Marking(inner, b"1"))
    stand_before(app, lambda inner: Marking(inner, b"2"))
    assert await marks(app) == ["2"]


async def test_stepping_aside_leaves_the_app_as_it_was() -> None:
    app = fastapi()
    await marks(app)
    before = app.middleware_stack
    step_aside(app)
    stand_before(app, lambda inner: Marking(inner, b"1"))
    step_aside(app)
    step_aside(app)
    assert app.middleware_stack is before
    stand_before(app, lambda inner: Marking(inner, b"2"))
    assert await marks(app) == ["2"]


async def test_a_doorway_needs_nothing_of_the_apps_inside() -> None:
    app = fastapi()
    door = Doorway(app, on_started=nothing, on_stopped=nothing)
    assert await marks(door) == []
    stand_before(app, lambda inner: Marking(inner, b"1"))
    assert await marks(door) == ["1"]
    assert await marks(app) == []  # untouched
    step_aside(app)
    assert await marks(door) == []


class Lifespan:
    """Plays a server's lifespan."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._to_say = ["lifespan.startup", "lifespan.shutdown"]

    async def receive(self) -> Message:
        return {"type": self._to_say.pop(0)}

    async def send(self, message: Message) -> None:
        self.said.append(message["type"].removeprefix("lifespan."))


async def test_a_doorway_passes_the_lifespan_on_and_is_told_of_both_ends() -> None:
    server = Lifespan()
    told: list[str] = []

    async def started() -> None:
        told.append(f"started after {server.said}")

    async def stopped() -> None:
        told.append(f"stopped after {server.said}")
        raise RuntimeError("too late to matter")

    door = Doorway(fastapi(), on_started=started, on_stopped=stopped)
    scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    await door(scope, server.receive, server.send)
    assert told == ["started after []", "stopped after ['startup.complete']"]
    assert server.said == ["startup.complete", "shutdown.complete"]


async def test_what_fails_when_the_proxy_has_started_keeps_the_server_from_starting() -> None:
    server = Lifespan()

    async def started() -> None:
        raise RuntimeError("a setting is wrong")

    door = Doorway(fastapi(), on_started=started, on_stopped=nothing)
    scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    await door(scope, server.receive, server.send)
    assert server.said[0] == "startup.failed"
