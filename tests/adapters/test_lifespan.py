"""Opening and closing, with and without lifespan, once or twice, alone or in company (issue 2)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from routecache_middleware import RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.adapters.asgi.types import Message, Receive, Scope, Send
from routecache_middleware.errors import ConfigurationError, CoordinatorError
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp
from tests.support.asgi import KEY, PATH, Client, fetch, settle
from tests.support.chat import ask, completion


async def chat(request: Request) -> Response:
    await request.body()
    return Response(completion(), media_type="application/json")


def outcomes(client: TestClient) -> list[str]:
    headers = {"authorization": "Bearer k", "content-type": "application/json"}
    return [
        client.post(PATH, content=ask(), headers=headers).headers["x-routecache"] for _ in range(2)
    ]


def test_under_the_test_client_twice() -> None:
    """Two event loops, one after the other; a cache of our own starts empty each time."""
    app = RouteCacheMiddleware(Starlette(routes=[Route(PATH, chat, methods=["POST"])]))
    for _ in range(2):
        with TestClient(app) as client:
            assert outcomes(client) == ["MISS", "HIT"]


def test_under_the_test_client_without_lifespan() -> None:
    """As ``--lifespan off``: opened on first use, in every event loop anew."""
    app = RouteCacheMiddleware(Starlette(routes=[Route(PATH, chat, methods=["POST"])]))
    assert outcomes(TestClient(app)) == ["MISS", "HIT"]
    assert outcomes(TestClient(app)) == ["HIT", "HIT"]


def test_a_cache_that_was_passed_in_is_not_closed() -> None:
    """Whoever builds it closes it (design 4)."""
    cache = RouteCache.from_url("memory://", settings=Settings())
    starlette = Starlette(routes=[Route(PATH, chat, methods=["POST"])])
    with TestClient(RouteCacheMiddleware(starlette, cache=cache)) as client:
        outcomes(client)
    with TestClient(RouteCacheMiddleware(starlette, cache=cache)) as client:
        assert outcomes(client) == ["HIT", "HIT"]


def test_the_apps_own_lifespan_runs() -> None:
    """Start-up and shutdown are passed down, state and all."""
    notes: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        notes.append("up")
        yield {"from": "lifespan"}
        notes.append("down")

    async def telling(request: Request) -> Response:
        notes.append(request.state["from"])
        return Response(completion(), media_type="application/json")

    app = Starlette(routes=[Route(PATH, telling, methods=["POST"])], lifespan=lifespan)
    with TestClient(RouteCacheMiddleware(app)) as client:
        outcomes(client)
    assert notes == ["up", "lifespan", "down"]


class Closing:
    """A coordinator's ``aclose``, noted in a log."""

    def __init__(self, mw: RouteCacheMiddleware, log: list[str]) -> None:
        self._log = log
        self._coordinator = mw.cache.engine.coordinator
        self._aclose = self._coordinator.aclose
        self._coordinator.aclose = self.aclose  # type: ignore[method-assign]

    async def aclose(self) -> None:
        self._log.append("closed")
        await self._aclose()


async def run_lifespan(app: object, log: list[str]) -> None:
    asked = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Message:
        return asked.pop(0)

    async def send(message: Message) -> None:
        log.append(message["type"])

    await app({"type": "lifespan"}, receive, send)  # type: ignore[operator]


async def test_shutdown_goes_down_first_and_is_over_when_we_have_closed() -> None:
    """Pass it down, drain writes, close, and only then tell the server (design 4)."""
    log: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        log.append("app is down")
        await send({"type": "lifespan.shutdown.complete"})

    mw = RouteCacheMiddleware(app)
    Closing(mw, log)
    await mw.cache.open()
    await run_lifespan(mw, log)
    assert log[:4] == [
        "lifespan.startup.complete",
        "app is down",
        "closed",
        "lifespan.shutdown.complete",
    ]


async def test_an_app_without_lifespan_is_closed_after_all() -> None:
    """It raises at once; servers take that for "not supported" and go on."""
    log: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("no lifespan here")

    mw = RouteCacheMiddleware(app)
    Closing(mw, log)
    with pytest.raises(RuntimeError, match="no lifespan"):
        await run_lifespan(mw, log)
    assert log == ["closed"]


async def test_a_coordinator_that_does_not_open_fails_no_request(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Opening never blocks or fails start-up (design 4)."""
    mw = gateway()

    async def down() -> None:
        raise CoordinatorError("down")

    mw.cache.engine.coordinator.open = down  # type: ignore[method-assign]
    assert (await fetch(mw)).status == 200
    assert (await fetch(mw)).status == 200
    assert len(caplog.records) == 1


def test_contradicting_arguments_are_refused() -> None:
    """A cache brings its own url, settings and policy."""
    cache = RouteCache.from_url("memory://", settings=Settings())
    with pytest.raises(ConfigurationError, match="together with url="):
        RouteCacheMiddleware(ScriptedApp(), cache=cache, url="memory://")
    with pytest.raises(ConfigurationError):
        RouteCacheMiddleware(ScriptedApp(), cache=cache, settings=Settings())


async def test_two_middlewares_share_one_cache_as_siblings(gateway: Gateway) -> None:
    """Same path, same principal, same entries and flights."""
    cache = gateway.cache()
    app = ScriptedApp(is_stepped=True)
    left, right = (RouteCacheMiddleware(app, cache=cache) for _ in range(2))
    clients = [Client(mw).start() for mw in (left, right)]
    await settle()
    assert len(app.calls) == 1
    await app.call.step(2)
    assert [(await client.end()).outcome for client in clients] == ["MISS", "COALESCED"]
    assert (await fetch(right)).outcome == "HIT"


async def test_two_middlewares_share_one_cache_one_above_the_other(gateway: Gateway) -> None:
    """The inner one must not wait for the flight that the outer one leads."""
    cache = gateway.cache()
    app = ScriptedApp(is_stepped=True)
    mw = RouteCacheMiddleware(RouteCacheMiddleware(app, cache=cache), cache=cache)
    clients = [Client(mw).start() for _ in range(5)]
    await settle()
    assert len(app.calls) == 1
    await app.call.step(2)
    for client in clients:
        assert len((await client.end()).all("cache-status")) == 1
    assert (await fetch(mw)).outcome == "HIT"


async def test_two_caches_one_above_the_other(gateway: Gateway) -> None:
    """Each does its work; the outer one's fields come last (RFC 9211 section 2)."""
    app = ScriptedApp()
    inner = gateway(app, result_ttl_s=1000.0)
    mw = RouteCacheMiddleware(inner, cache=gateway.cache(result_ttl_s=10.0))
    assert (await fetch(mw)).all("x-routecache") == ["MISS"]
    gateway.clock.advance(20)
    got = await fetch(mw)
    assert got.all("x-routecache") == ["MISS"]
    assert [field.split("; ")[1] for field in got.all("cache-status")] == ["hit", "fwd=miss"]
    assert len(app.calls) == 1


async def test_a_veto_reaches_every_cache_above(gateway: Gateway) -> None:
    """What a handler says of its answer holds for all who could store it."""

    def on_call(call: object) -> None:
        app.calls[-1].scope["state"]["routecache"].no_store()

    app = ScriptedApp(on_call=on_call)
    mw = RouteCacheMiddleware(gateway(app), cache=gateway.cache())
    await fetch(mw)
    await fetch(mw)
    assert len(app.calls) == 2


async def test_a_server_that_keeps_the_state_confuses_nobody(gateway: Gateway) -> None:
    """What an earlier request left in ``scope["state"]`` is no cache above."""
    mw, state = gateway(), {"mine": 1}
    outcomes = [(await fetch(mw, state=state)).outcome for _ in range(3)]
    assert outcomes == ["MISS", "HIT", "HIT"]
    assert (await fetch(mw, ask("new"), state=state)).outcome == "MISS"
    assert state["routecache"].outer is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("state", [None, {}])
async def test_a_scope_without_state_gets_one(gateway: Gateway, state: object) -> None:
    """The extension is optional (ASGI lifespan, section "Lifespan State")."""
    app = ScriptedApp()
    client = Client(gateway(app), state=state)
    if state is None:
        del client.scope["state"]
    await client.start().end()
    assert client.scope["state"]["routecache"].outcome == "miss"
    assert (await fetch(gateway(app), state=None)).outcome == "MISS"


async def test_three_caches_of_which_two_are_the_same(gateway: Gateway) -> None:
    """The innermost one recognises the outermost behind the one in between."""
    cache, app = gateway.cache(), ScriptedApp()
    inner = RouteCacheMiddleware(app, cache=cache)
    mw = RouteCacheMiddleware(RouteCacheMiddleware(inner, cache=gateway.cache()), cache=cache)
    assert len((await fetch(mw)).all("cache-status")) == 2
    assert (await fetch(mw)).outcome == "HIT"


async def test_ttl_tags_and_model_reach_every_cache_above(gateway: Gateway) -> None:
    """As the veto does."""

    def on_call(call: object) -> None:
        state = app.calls[-1].scope["state"]["routecache"]
        state.set_ttl(5.0)
        state.add_tags("t")
        state.served_by("backup")

    app = ScriptedApp(on_call=on_call)
    mw = RouteCacheMiddleware(gateway(app), cache=gateway.cache())
    for _ in range(2):
        await fetch(mw, ask(model="backup"))
    assert len(app.calls) == 1
    gateway.clock.advance(6)
    await fetch(mw, ask(model="backup"))
    assert len(app.calls) == 2
    await mw.cache.invalidate_tag("t")
    got = await fetch(mw, ask(model="backup"))
    assert [field.split("; ")[1] for field in got.all("cache-status")] == ["hit", "fwd=miss"]


async def test_many_requests_leave_nothing_behind(gateway: Gateway) -> None:
    """No growing tables of flights, readers or captured bytes."""
    mw = gateway(ScriptedApp())
    for n in range(200):
        await fetch(mw, ask(str(n)), headers=[KEY])
    engine = mw.cache.engine
    assert len(engine.live) == 0
    assert engine.captures.used == 0
    assert len(asyncio.all_tasks()) == 1
