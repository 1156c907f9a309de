"""The administration app as a test asks it: with a token, over ASGI."""

import json
from typing import Any

from routecache_middleware import RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.admin import AdminSettings, create_admin
from tests.support.asgi import Response, fetch

__all__ = ["HASH", "READ_TOKEN", "TOKEN", "Admin"]

HASH = "0123456789abcdef0123456789abcdef"
TOKEN = "canary-token-of-the-operator"
READ_TOKEN = "canary-token-of-the-reader"


class Admin:
    """The app in front of a cache."""

    def __init__(self, cache: RouteCache, **options: Any) -> None:
        self.cache = cache
        given = {"token": TOKEN, "read_token": READ_TOKEN, **options.pop("settings", {})}
        self.app = create_admin(cache, settings=AdminSettings(**given), **options)

    async def get(self, path: str, *, token: str = TOKEN, **options: Any) -> Response:
        path, _, query = path.partition("?")
        return await self._fetch(
            b"", token, path=path, query_string=query.encode(), method="GET", **options
        )

    async def post(
        self, path: str, body: object, *, token: str = TOKEN, **options: Any
    ) -> Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self._fetch(raw, token, path=path, **options)

    async def told(self, path: str, body: object = None) -> Any:
        """Return what a call that succeeds answers."""
        answer = await (self.get(path) if body is None else self.post(path, body))
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    async def refusal(self, path: str, body: object = None) -> tuple[int, str]:
        """Return the status and the text with which a call is refused."""
        answer = await (self.get(path) if body is None else self.post(path, body))
        return answer.status, json.loads(answer.body)["error"]["message"]

    async def _fetch(self, body: bytes, token: str, **options: Any) -> Response:
        headers = list(options.pop("headers", ()))
        if token:
            headers.append((b"authorization", b"Bearer " + token.encode()))
        return await fetch(self.app, body, headers=headers, **options)


async def no_app(scope: Any, receive: Any, send: Any) -> None:
    """Answer nothing: the middleware around it only explains."""
    raise AssertionError("nobody asks the app")


def explaining(cache: RouteCache) -> RouteCacheMiddleware:
    """Return a middleware that reads requests for the cache."""
    return RouteCacheMiddleware(no_app, cache=cache)


def quiet_cache(**settings: Any) -> RouteCache:
    """Return a cache in this process's memory that nobody watches."""
    return RouteCache(url="memory://", settings=Settings(**settings), observers=[])
