"""Reaching a cache from the command line: through its administration app, wherever that answers.

A gateway's admin app is asked over HTTP. Of a store that is shared (``redis://``, ``lmdb://`` ...)
nobody has to be asked: the same app is made here, in front of the store itself. So every command
has one way to ask, and one shape of answers.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from routecache_middleware.cli.checking import check_address
from routecache_middleware.cli.showing import address
from routecache_middleware.errors import ConfigurationError, RouteCacheError
from routecache_middleware.wiring.config import (
    configured_url,
    load_policy,
    load_settings,
    load_table,
)

if TYPE_CHECKING:
    import httpx

    from routecache_middleware.wiring.cache import RouteCache

__all__ = ["CONFIG", "Desk", "Place", "ask", "reaching"]

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

_TIMEOUT_S = 30.0
_SOMETHING_ELSE = "that is not the admin app, or not one of this version"
_HERE = "http://127.0.0.1"
_ALONE = (
    "memory:// lies inside of a gateway, where no other process can see it; name the gateway's "
    "admin app, --url http://HOST:PORT (of `routecache gateway --admin`: http://HOST:PORT/routecache"
    "), or a store that is shared, --url redis://..."
)
_SIGN_IN = "set ROUTECACHE_ADMIN_TOKEN here to the token that it was started with"
_LOGGER = "routecache"

CONFIG = click.option(
    "--config",
    "-c",
    default=None,
    envvar="ROUTECACHE_CONFIG",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="TOML file with [routecache].",
)
"""The option that names the configuration file."""


class Place:
    """Where a command looks.

    Attributes:
        url: As given: an admin app's (``http``, ``https``), a store's, or None: as configured.
        config: The configuration file, or None.
    """

    __slots__ = ("config", "url")

    def __init__(self, url: str | None, config: Path | None) -> None:
        self.url = url
        self.config = config

    @property
    def is_app(self) -> bool:
        """Whether an admin app is asked over HTTP."""
        return self.url is not None and self.url.startswith(("http://", "https://"))

    def store(self) -> str:
        """Return the store's URL.

        Raises:
            ConfigurationError: It cannot be reached from here, or is wrong.
        """
        url = configured_url(self.url, toml_path=self.config)
        if url.startswith("memory:"):
            raise ConfigurationError(_ALONE)
        return url


def reaching(command: Command) -> Command:
    """Add the options that say where a command looks; it gets them as ``url`` and ``config``."""
    url = click.option(
        "--url",
        "-u",
        default=None,
        metavar="URL",
        help="The gateway's admin app (http://...), or the store; by default the configured store.",
    )
    return url(CONFIG(command))


class _Told(dict[str, Any]):
    """What was answered; whoever asks it for what it does not say is told so, in words."""

    def __missing__(self, name: str) -> Any:
        raise click.ClickException(f"the answer says nothing of {name!r}; {_SOMETHING_ELSE}")


class Desk:
    """Answers questions, as the administration app does."""

    def __init__(
        self, client: "httpx.AsyncClient", where: str, cache: "RouteCache | None" = None
    ) -> None:
        self._client = client
        self.where = where
        self.cache = cache
        """The cache that was made here in front of the store; None: another process's is asked."""

    async def get(self, path: str, **query: object) -> Any:
        """Return what ``GET`` answers.

        Raises:
            click.ClickException: It could not be had; the text says why.
        """
        given = {name: str(value) for name, value in query.items() if value is not None}
        return self._read(await self._ask("GET", path, params=given))

    async def metrics(self) -> str:
        """Return all numbers as Prometheus is told them; errors as for :meth:`get`."""
        response = await self._ask("GET", "/metrics")
        text, kind = response.text, response.headers.get("content-type", "")
        # Of a store that nobody has used there is none.
        if "version=" not in kind or (text and "# TYPE routecache_" not in text):
            raise click.ClickException(f"{self.where} answers; {_SOMETHING_ELSE}")
        return text

    async def post(self, path: str, body: object) -> Any:
        """Return what ``POST`` answers; errors as for :meth:`get`."""
        return self._read(await self._ask("POST", path, json=body))

    def _read(self, response: "httpx.Response") -> "_Told":
        try:
            found = json.loads(response.text, object_hook=_Told)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, _Told):
            raise click.ClickException(f"{self.where} answers; {_SOMETHING_ELSE}")
        return found

    async def clock_s(self) -> float:
        """Return the other side's clock, Unix seconds, to the second; errors as for :meth:`get`."""
        from email.utils import parsedate_to_datetime  # noqa: PLC0415 - not for --help

        said = (await self._ask("GET", "/breakers")).headers.get("date", "")
        try:
            return parsedate_to_datetime(said).timestamp()
        except ValueError:
            return time.time()  # it does not say

    async def _ask(self, method: str, path: str, **how: Any) -> "httpx.Response":
        import httpx  # noqa: PLC0415 - not for --help

        try:
            response = await self._client.request(method, path, **how)
        except httpx.HTTPError as error:
            raise click.ClickException(
                f"{self.where} does not answer ({type(error).__name__}); is this the admin app's "
                "address, and is it running? (`routecache gateway --admin` serves it at "
                "/routecache)"
            ) from error
        if response.is_success:
            return response
        if response.status_code in {401, 403}:
            raise click.ClickException(f"{self.where} refuses: {_words(response)}; {_SIGN_IN}")
        raise click.ClickException(f"{self.where} answers: {_words(response)}")


def ask(place: Place, question: Callable[[Desk], Awaitable[T]], *, has_to_answer: bool = True) -> T:
    """Ask, and return the answer.

    Args:
        place: Whom.
        question: Asks.
        has_to_answer: A store that does not is an error before anything is asked of it: what is
            not known would be shown as nothing.

    Raises:
        click.ClickException: There is none; the text says why.
    """

    async def run() -> T:
        async with _desk(place) as desk:
            if has_to_answer:
                _check(desk)
            return await question(desk)

    try:
        with _quiet():
            return asyncio.run(run())
    except RouteCacheError as error:
        raise click.ClickException(str(error)) from error
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is not installed; pip install 'routecache-middleware[cli]'"
        ) from error


@asynccontextmanager
async def _desk(place: Place) -> AsyncIterator[Desk]:
    import httpx  # noqa: PLC0415 - not for --help

    if place.is_app and place.url is not None:
        check_address(place.url)
        client = httpx.AsyncClient(
            base_url=place.url.rstrip("/"), headers=_token(place.config), timeout=_TIMEOUT_S
        )
        async with client:
            yield Desk(client, address(place.url))
        return
    from routecache_middleware import RouteCache, RouteCacheMiddleware  # noqa: PLC0415 - as above
    from routecache_middleware.admin import AdminSettings, create_admin  # noqa: PLC0415 - as above

    cache = RouteCache(
        url=place.store(),
        settings=load_settings(toml_path=place.config),
        policy=load_policy(toml_path=place.config),
        observers=[],
    )
    RouteCacheMiddleware(_nothing, cache=cache)  # it explains requests
    app = create_admin(cache, settings=AdminSettings(requests_per_s=1e6), is_local=True)
    async with (
        cache,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url=_HERE, timeout=_TIMEOUT_S
        ) as client,
    ):
        await cache.engine.sync()  # what was invalidated is to be shown as that
        yield Desk(client, address(cache.url or ""), cache)


def _check(desk: Desk) -> None:
    """Raise what click shows when the store here has not answered."""
    if desk.cache is not None and not getattr(desk.cache.engine.coordinator, "is_reading", True):
        raise click.ClickException(
            f"the store {desk.where} does not answer; `routecache doctor` says more"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings for gateways to themselves: commands say themselves what is wrong."""
    logger = logging.getLogger(_LOGGER)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _token(config: Path | None) -> dict[str, str]:
    from routecache_middleware.admin import AdminSettings  # noqa: PLC0415 - not for --help

    settings = load_table(AdminSettings, "admin", toml_path=config)
    token = settings.token or settings.read_token
    return {"authorization": f"Bearer {token}"} if token else {}


def _words(response: "httpx.Response") -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return (
            f"HTTP {response.status_code}; that is not the admin app "
            "(`routecache gateway --admin` serves it at /routecache)"
        )


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Be the app that the middleware would ask; nobody asks it."""
