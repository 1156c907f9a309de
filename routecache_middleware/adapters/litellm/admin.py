"""The administration API inside LiteLLM's proxy: under ``/routecache``, for its administrators."""

import inspect
import sys
from typing import Any

from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.adapters.litellm.part import Part
from routecache_middleware.admin.app import create_admin
from routecache_middleware.admin.settings import AdminSettings
from routecache_middleware.admin.values import Answer, Sections, refused

__all__ = ["PATH", "AdminPart", "create"]

PATH = "/routecache"

_OPEN_TO_ALL_KEYS = {
    "method": "GET",
    "path": "/v1/models",
    "raw_path": b"/v1/models",
    "root_path": "",
    "query_string": b"",
}


def create(hub: Hub) -> "AdminPart | None":
    """Return the administration API of a proxy; None where it is off or there is no proxy."""
    if not hub.options.admin or not hub.is_proxy:
        return None
    return AdminPart(hub)


class AdminPart(Part):
    """Mounts the API in the proxy's app."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._mounted: Any = None

    def install(self) -> None:
        """Mount it, before all of LiteLLM's own routes: some of those take any path."""
        from starlette.routing import Mount

        module: Any = sys.modules.get("litellm.proxy.proxy_server")
        if module is None:
            return
        self._routes = module.app.router.routes
        admin = create_admin(
            self._hub.cache,
            settings=AdminSettings(),  # nothing of it may keep the proxy from starting
            authorize=authorize,
            sections=self._sections(),
        )
        self._mounted = Mount(PATH, app=admin)
        self._routes.insert(0, self._mounted)

    def uninstall(self) -> None:
        """Take it away again; idempotent."""
        if self._mounted is not None and self._mounted in self._routes:
            self._routes.remove(self._mounted)

    def _sections(self) -> Sections:
        figures = {
            type(part).__name__.removesuffix("Part").lower(): getattr(part, "figures", None)
            for part in self._hub.parts
        }
        return {name: section for name, section in figures.items() if callable(section)}


async def authorize(request: Any) -> Answer | None:
    """Let in whom LiteLLM takes for an administrator: the master key, and proxy admins.

    A proxy that authenticates nobody has no administrators.
    """
    from litellm.proxy import proxy_server
    from litellm.proxy._types import LitellmUserRoles

    custom = getattr(proxy_server, "user_custom_auth", None)
    if not proxy_server.master_key and custom is None:
        return refused(403, "set general_settings.master_key: this proxy authenticates nobody")
    try:
        principal = await _authenticated(request)
    except Exception as error:  # noqa: BLE001 - LiteLLM raises many kinds; all of them mean no
        return refused(_status(error), "LiteLLM does not let this key in")
    if getattr(principal, "user_role", None) != LitellmUserRoles.PROXY_ADMIN:
        return refused(403, "only the master key and proxy admins may do this")
    return None


async def _authenticated(request: Any) -> Any:
    """Return ``UserAPIKeyAuth``: what FastAPI would, for an endpoint that depends on it.

    LiteLLM knows no path of ours, and says of every key that may not use one that it is no key at
    all. So it is asked about a path that all keys may use; what an administrator is, we see then.
    """
    from litellm.proxy.auth.user_api_key_auth import user_api_key_auth
    from starlette.requests import Request

    scope = {**request.scope, **_OPEN_TO_ALL_KEYS, "state": {}}
    request = Request(scope, _no_body)
    given: dict[str, Any] = {"request": request}
    for name, parameter in inspect.signature(user_api_key_auth).parameters.items():
        dependency = getattr(parameter.default, "dependency", None)
        if dependency is not None:
            given[name] = await dependency(request)
    return await user_api_key_auth(**given)


async def _no_body() -> dict[str, object]:
    return {"type": "http.request", "body": b"", "more_body": False}


def _status(error: Exception) -> int:
    """Return 403 where LiteLLM knows the key but refuses it; 401 otherwise."""
    for name in ("status_code", "code"):
        if str(getattr(error, name, "")) == "403":
            return 403
    return 401
