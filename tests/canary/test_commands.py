"""The command line: what commands say of a store with canaries in it, and when something is wrong.

Names that whoever types them has given (a tenant, a tag) are said back to them; they are others
here than those that are stored.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from routecache_middleware import RouteCache, RouteCacheMiddleware, RoutingDecision, Settings
from routecache_middleware.admin import AdminSettings, create_admin
from routecache_middleware.cli.commands import COMMANDS, routecache
from tests.canary.bodies import CREDENTIALS, QUERY, chat, completion
from tests.canary.ears import Ears
from tests.canary.planted import planted, prose
from tests.clients.serving import serve
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import fetch

SECRETS: Final = {
    "ROUTECACHE_SECRET": planted("secret"),
    "ROUTECACHE_PREVIOUS_SECRETS": planted("former secret"),
    "ROUTECACHE_ADMIN_TOKEN": planted("admin token"),
    "ROUTECACHE_ADMIN_READ_TOKEN": planted("read token"),
    "OPENAI_API_KEY": planted("upstream key"),
}
UNSET: Final = dict.fromkeys(("ROUTECACHE_URL", "ROUTECACHE_CONFIG"))
SETTINGS = Settings(
    secret=planted("secret").encode(), previous_secrets=(planted("former secret").encode(),)
)
ASKS: Final = (
    ("stats",),
    ("stats", "--watch", "--every", "0.1", "--times", "2"),
    ("top",),
    ("top", "--watch", "--every", "0.1", "--times", "2"),
    ("keys",),
    ("keys", "--layer", "route"),
    ("keys", "--layer", "meta"),
    ("config",),
    ("config", "--changed"),
    ("doctor",),
    ("explain", "-"),
    ("explain", "-", "--tenant", "somebody", "--path", "/v1/messages"),
    ("invalidate", "model", "gpt-4o"),
    ("invalidate", "tag", "a-tag"),
    ("invalidate", "tenant", "somebody"),
    ("invalidate", "query", "0" * 32, "--tenant", "somebody", "--model", "m"),
    ("invalidate", "layer", "route"),
    ("invalidate", "all", "--yes"),
    ("warm", "m"),
)
HEADERS = [
    argument
    for name, value in CREDENTIALS
    for argument in ("-H", f"{name.decode()}: {value.decode()}")
]


def heard(ears: Ears, *arguments: str, given: str | None = None, **environ: str) -> int:
    """Run a command, hear all that it says, and return its exit code."""
    env = {**UNSET, **SECRETS, **environ}
    done = CliRunner().invoke(routecache, arguments, input=given, env=env)
    where = f"routecache {arguments[0]}"
    ears.hear(where, done.output)
    error = done.exception
    if isinstance(error, SystemExit):
        error = error.__context__ if isinstance(error.__context__, Exception) else None
    assert error is None or isinstance(error, click.ClickException), (arguments, error)
    if error is not None:
        ears.hear(f"{where}, its error", error)
    return done.exit_code


async def _fill(cache: RouteCache) -> None:
    """Store all that can be stored, under names and with contents that nobody is to see."""
    tenant, tags = planted("tenant"), (planted("tag"),)
    app = ScriptedApp(json_answer(completion()))
    for _ in range(2):
        await fetch(
            RouteCacheMiddleware(app, cache=cache),
            json.dumps(chat()).encode(),
            headers=CREDENTIALS,
            query_string=QUERY,
        )

    async def decide() -> RoutingDecision:
        return RoutingDecision("gpt-4o", score=0.5, detail=prose("prompt"))

    await cache.route(planted("prompt"), decide, tenant=tenant, tags=tags)
    await cache.cache_query_result("0" * 32, "gpt-4o", completion(), 9.0, tenant=tenant, tags=tags)
    await cache.get_query_result("0" * 32, "gpt-4o", tenant=tenant)
    await cache.cache_model_metadata("gpt-4o", {"note": prose("capabilities")}, 0, 1.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store on disk."""
    url = f"lmdb://{tmp_path_factory.mktemp('store')}/c"

    async def fill() -> None:
        async with RouteCache(url=url, settings=SETTINGS, observers=[]) as cache:
            await _fill(cache)

    asyncio.run(fill())
    return url


@pytest.fixture(scope="module")
def app_url(store: str) -> Iterator[str]:
    """An admin app in front of that store, and a gateway beside it that refuses everybody."""
    cache = RouteCache(url=store, settings=SETTINGS, observers=[])
    admin = create_admin(
        cache, settings=AdminSettings(token=planted("admin token"), requests_per_s=1e6)
    )

    async def refuse(request: Request) -> Response:
        text = f"{prose('error text')} {request.headers} {await request.body()!r}"
        return PlainTextResponse(text, status_code=500, headers={"x": planted("response header")})

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        async with cache:
            yield

    routes = [Route("/v1/chat/completions", refuse, methods=["POST"]), Mount("/", admin)]
    RouteCacheMiddleware(ScriptedApp(), cache=cache)
    with serve(Starlette(routes=routes, lifespan=life)) as server:
        yield server.url


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(chat()), encoding="utf-8")
    return file


def test_every_command_is_asked_here_or_elsewhere() -> None:
    elsewhere = {"gateway", "admin", "litellm", "bench"}  # the last three below
    assert {ask[0] for ask in ASKS} | elsewhere == set(COMMANDS)


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("ask", ASKS, ids=" ".join)
def test_a_store(
    ask: tuple[str, ...],
    store: str,
    ears: Ears,
    request_file: Path,
    as_json: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    arguments = [*ask, "--url", store, *(["--json"] if as_json else [])]
    if ask[0] == "explain":
        arguments += [*HEADERS, "--neighbour", str(request_file)]
    if ask[0] == "warm":
        file = request_file.with_suffix(".toml")
        file.write_text(f'[m]\nnote = "{planted("capabilities")}"', encoding="utf-8")
        arguments += ["--from", str(file)]
    assert heard(ears, *arguments, given=json.dumps(chat())) == 0


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("ask", ASKS, ids=" ".join)
def test_an_app(
    ask: tuple[str, ...],
    app_url: str,
    far_ears: Ears,
    as_json: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    """Also with a password in its URL, with a token that is wrong, and where it is not."""
    switch = ["--json"] if as_json else []
    given = json.dumps(chat())
    extra = HEADERS if ask[0] == "explain" else []
    heard(far_ears, *ask, *extra, "--url", app_url, *switch, given=given)
    host = app_url.removeprefix("http://")
    user = f"{planted('url user')}:{planted('admin url password')}"
    wrong = {"ROUTECACHE_ADMIN_TOKEN": planted("wrong token")}
    heard(far_ears, *ask, "--url", f"http://{user}@{host}", *switch, given=given, **wrong)
    heard(far_ears, *ask, "--url", f"{app_url}/x?key={planted('url option')}", *switch, given=given)
    heard(far_ears, *ask, "--url", f"http://{user}@127.0.0.1:1", *switch, given=given)
    heard(far_ears, *ask, "--url", f"http://{user}@[::1", *switch, given=given)
    heard(far_ears, *ask, "--url", f"http://{user}@{host}:x", *switch, given=given)


@pytest.mark.parametrize("scheme", ["redis", "ring", "other", "redis+cluster"])
@pytest.mark.parametrize("ask", ASKS, ids=" ".join)
def test_stores_that_are_not_there(ask: tuple[str, ...], scheme: str, ears: Ears) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    url = f"{scheme}://{planted('url user')}:{planted('url password')}@127.0.0.1:{port}"
    warmed = ["--from", __file__] if ask[0] == "warm" else []
    heard(ears, *ask, *warmed, "--url", url, given=json.dumps(chat()))
    heard(ears, *ask, *warmed, "--json", given=json.dumps(chat()), ROUTECACHE_URL=f"{url}?x=y")


@pytest.mark.parametrize(
    "given", [prose("broken json"), '{"a": "' + planted("broken json"), "[" * 9999, '"\\ud800"', ""]
)
def test_requests_that_cannot_be_explained(given: str, store: str, ears: Ears) -> None:
    for more in ([], ["--json"]):
        heard(ears, "explain", "-", "--url", store, *more, given=given)
        heard(ears, "explain", "-", "-H", planted("authorization"), "--url", store, given=given)


@pytest.mark.parametrize("arguments", [["--json"], []])
def test_bench(arguments: list[str], app_url: str, far_ears: Ears) -> None:
    """Its questions are its own; the key and the URL are not."""
    host = app_url.removeprefix("http://")
    user = f"{planted('url user')}:{planted('admin url password')}"
    for url in (
        app_url,
        f"http://{user}@{host}",
        f"http://{user}@{host}/v1",
        f"http://{user}@127.0.0.1:1",
        f"http://{user}@[::1",
        f"{app_url}/v1?key={planted('url option')}",
        f"ftp://{user}@{host}",
    ):
        assert heard(far_ears, "bench", url, "-n", "2", *arguments) != 0
    for key in (f"{planted('upstream key')}é", f"{planted('upstream key')}\n"):
        heard(far_ears, "bench", app_url, "-n", "1", *arguments, OPENAI_API_KEY=key)


def test_an_admin_app_that_does_not_start(ears: Ears, tmp_path: Path) -> None:
    url = f"redis://{planted('url user')}:{planted('url password')}@127.0.0.1:port"
    assert heard(ears, "admin", "--url", url) == 1
    assert heard(ears, "admin", "--url", "redis://x", ROUTECACHE_ADMIN_TOKEN="x" * 15) == 1
    assert heard(ears, "admin", "--host", "0.0.0.0", ROUTECACHE_ADMIN_TOKEN="", **NO_READER) == 1
    file = tmp_path / "routecache.toml"
    file.write_text(f'[routecache]\nsecret = ["{planted("secret")}"]', encoding="utf-8")
    for command in ("admin", "stats", "doctor", "config"):
        assert heard(ears, command, "--config", str(file), ROUTECACHE_SECRET="") in {1, 3}


NO_READER: dict[str, Any] = {"ROUTECACHE_ADMIN_READ_TOKEN": ""}
