"""The reverse proxy below the cache: an ASGI app that asks upstreams.

One connection pool serves all requests. It is opened with the first of them and closed when the
server shuts down.
"""

import asyncio
import secrets
from collections.abc import Callable

from routecache_middleware.adapters.asgi.types import Receive, Scope, Send
from routecache_middleware.gateway.call import Call
from routecache_middleware.gateway.catalogue import Catalogue
from routecache_middleware.gateway.driver import Driver
from routecache_middleware.gateway.model_list import (
    Merging,
    lists_models,
    model_list,
    uncompressed,
)

__all__ = ["Proxy"]


class Proxy:
    """Passes requests on to the upstream of their model, and answers back as they come.

    Attributes:
        via: What it writes into ``Via``: another one for each, so that a loop is found out.
    """

    def __init__(
        self, catalogue: Catalogue, open_driver: Callable[[], Driver], *, passes_credentials: bool
    ) -> None:
        """Set up; opens nothing.

        Args:
            catalogue: Which upstream serves which model.
            open_driver: Makes the connection pool.
            passes_credentials: Clients' credentials are for the upstreams, not for this gateway.
        """
        self.via = b"1.1 routecache-" + secrets.token_hex(4).encode()
        self._catalogue = catalogue
        self._open_driver = open_driver
        self._passes_credentials = passes_credentials
        self._driver: Driver | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:  # nobody's API of ours has web sockets
            await send({"type": "websocket.close", "code": 1000})

    async def aclose(self) -> None:
        """Close the connections."""
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.aclose()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        catalogue = self._catalogue
        if catalogue.listed and lists_models(scope["method"], scope["path"]):
            if catalogue.default is None:
                for message in model_list(catalogue.listed):
                    await send(message)
                return
            scope, send = uncompressed(scope), Merging(catalogue.listed, send)
        if self._driver is None:
            self._driver = self._open_driver()
        call = Call(
            catalogue,
            self._driver,
            scope,
            receive,
            send,
            via=self.via,
            passes_credentials=self._passes_credentials,
        )
        await _unless_gone(call)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return


async def _unless_gone(call: Call) -> None:
    """Make a call, and give it up when the client goes away: nobody pays for what nobody reads."""
    working = asyncio.ensure_future(call.run())
    leaving = asyncio.ensure_future(call.client_gone())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, leaving):
            if not task.done():
                task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
    if not working.cancelled():
        working.result()
