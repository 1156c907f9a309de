"""Who may use the administration API of the proxy; the rest is in ``fastlane/test_proxy.py``."""

from importlib import import_module
from typing import Any

import pytest
from litellm.proxy._types import ProxyException, UserAPIKeyAuth
from starlette.requests import Request

from routecache_middleware.adapters.litellm.admin import authorize, create
from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.adapters.litellm.options import configure
from tests.support.asgi import KEY, scope_of


@pytest.fixture
def proxy_server(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = import_module("litellm.proxy.proxy_server")
    monkeypatch.setattr(module, "master_key", None)
    monkeypatch.setattr(module, "user_custom_auth", None)
    return module


async def status_of(*, key: bool = True) -> int:
    async def receive() -> dict[str, object]:
        raise AssertionError("authentication reads no body")

    scope = scope_of(path="/routecache/stats", headers=[KEY] if key else [])
    refusal = await authorize(Request(scope, receive))
    return 200 if refusal is None else refusal.status


async def test_a_proxy_that_authenticates_nobody_has_no_administrators(proxy_server: Any) -> None:
    assert await status_of() == 403


@pytest.mark.parametrize(
    ("role", "status"),
    [("proxy_admin", 200), ("proxy_admin_viewer", 403), ("internal_user", 403), (None, 403)],
)
async def test_the_role_decides(
    proxy_server: Any, monkeypatch: pytest.MonkeyPatch, role: str | None, status: int
) -> None:
    async def custom(request: Request, api_key: str) -> Any:
        return UserAPIKeyAuth(api_key="hash", user_role=role)

    monkeypatch.setattr(proxy_server, "user_custom_auth", custom)
    assert await status_of() == status


@pytest.mark.parametrize(("code", "status"), [(401, 401), (403, 403), (429, 401)])
async def test_who_is_not_let_in_hears_so(
    proxy_server: Any, monkeypatch: pytest.MonkeyPatch, code: int, status: int
) -> None:
    async def custom(request: Request, api_key: str) -> Any:
        raise ProxyException(message="no", type="auth_error", param="key", code=code)

    monkeypatch.setattr(proxy_server, "user_custom_auth", custom)
    assert await status_of() == status


def test_it_is_there_in_a_proxy_unless_it_is_turned_off() -> None:
    assert create(Hub(configure(environ={}), is_proxy=True)) is not None
    assert create(Hub(configure(environ={}, admin=False), is_proxy=True)) is None
    assert create(Hub(configure(environ={}))) is None
