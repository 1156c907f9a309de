"""httpx, set up so that it adds nothing of its own: no cookies, no redirects, no default fields."""

from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from routecache_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from routecache_middleware.gateway.catalogue import Target
    from routecache_middleware.gateway.headers import Fields
    from routecache_middleware.gateway.settings import GatewaySettings

__all__ = ["Driver", "needed"]

_EXTRA = "install it with: pip install 'routecache-middleware[gateway]'"
_CONNECT_RETRIES = 1  # nothing was sent then


def needed(name: str) -> ModuleType:
    """Return a package of the extra ``gateway``.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigurationError(f"the gateway needs the package {name}; {_EXTRA}") from error


class Driver:
    """The connections to all upstreams.

    Attributes:
        httpx: The module.
    """

    def __init__(self, settings: "GatewaySettings") -> None:
        """Set up; connects with the first request.

        Raises:
            ConfigurationError: httpx is not installed.
        """
        self.httpx: Any = needed("httpx")
        self._settings = settings
        self._limits = self.httpx.Limits(
            max_connections=settings.max_connections, keepalive_expiry=settings.keepalive_s
        )
        # One for all: to read the certificates takes some 20 ms.
        self._tls = self.httpx.create_ssl_context(trust_env=settings.use_environment_proxy)
        # A jar that keeps nothing: what an upstream sets for one client is no other client's.
        jar = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        self._mounts = self._proxies() if settings.use_environment_proxy else {}
        self._client: httpx.AsyncClient = self.httpx.AsyncClient(
            transport=self._transport(),
            mounts=self._mounts,
            cookies=jar,
            trust_env=False,  # or a .netrc would replace the clients' credentials
            follow_redirects=False,
        )

    async def send(
        self,
        method: str,
        target: "Target",
        path_and_query: bytes,
        fields: "Fields",
        content: "bytes | AsyncIterator[bytes] | None",
    ) -> "httpx.Response":
        """Return an answer once its head is there; the body is still to be read.

        Args:
            method: HTTP method.
            target: Which upstream.
            path_and_query: What to ask it for, sent as it is.
            fields: The header, without ``Host``.
            content: The body: whole, piece by piece, or none.

        Raises:
            httpx.HTTPError: There is no answer.
        """
        settings = self._settings
        timeouts = {
            "connect": settings.connect_timeout_s,
            "pool": settings.connect_timeout_s,
            "write": settings.write_timeout_s,
            "read": settings.head_timeout_s,
        }
        url = self.httpx.URL(target.base_url)
        extensions: dict[str, Any] = {"timeout": timeouts}
        if self._mounts:  # proxies need the whole URL, as httpx writes it
            url = url.copy_with(raw_path=path_and_query)
        else:  # as it came: writing a URL anew may change its escapes
            extensions["target"] = path_and_query
        request = self.httpx.Request(
            method, url, headers=fields, content=content, extensions=extensions
        )
        response: httpx.Response = await self._client.send(request, stream=True)
        # The pool reads this when it begins with the body.
        timeouts["read"] = settings.idle_timeout_s
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _transport(self, **how: Any) -> "httpx.AsyncBaseTransport":
        from routecache_middleware.gateway.spread import spread  # noqa: PLC0415 - needs httpx

        def make(limits: "httpx.Limits") -> Any:
            return self.httpx.AsyncHTTPTransport(
                limits=limits, retries=_CONNECT_RETRIES, verify=self._tls, **how
            )

        return spread(make, self._limits)

    def _proxies(self) -> "dict[str, httpx.AsyncBaseTransport | None]":
        """Return a transport for each proxy that the environment names, and none for exceptions."""
        from urllib.request import getproxies  # noqa: PLC0415 - reads the environment

        found = getproxies()
        mounts: dict[str, httpx.AsyncBaseTransport | None] = {}
        for scheme in ("http", "https", "all"):
            if found.get(scheme):
                url = found[scheme] if "://" in found[scheme] else f"http://{found[scheme]}"
                mounts[f"{scheme}://"] = self._transport(proxy=url)
        exceptions = [host.strip() for host in found.get("no", "").split(",") if host.strip()]
        if "*" in exceptions:
            return {}
        for host in exceptions if mounts else ():
            bare = host.lstrip(".").removeprefix("*.")
            mounts[f"all://{bare}"] = None
            if ":" not in bare:
                mounts[f"all://*.{bare}"] = None
        return mounts
