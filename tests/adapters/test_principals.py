"""Who may see what: tenants never share anything, flights included (design 5, issue 2)."""

import json
import logging
from pathlib import Path

import pytest
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    BaseUser,
    SimpleUser,
    UnauthenticatedUser,
)
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection

from routecache_middleware import CachePolicy, Settings
from routecache_middleware.adapters.asgi.head import HeadReader
from routecache_middleware.adapters.asgi.types import Scope
from routecache_middleware.dialects.table import match
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import PATH, Client, Options, fetch, scope_of, settle

VECTORS = Path(__file__).parent.parent / "fixtures" / "xxh3_collision_vectors.json"

CREDENTIALS: dict[str, Options] = {
    "bearer": {"headers": [(b"authorization", b"Bearer a")]},
    "other bearer": {"headers": [(b"authorization", b"Bearer b")]},
    "long token": {"headers": [(b"authorization", b"Bearer " + b"t" * 200 + b"1")]},
    "same first 200 characters": {"headers": [(b"authorization", b"Bearer " + b"t" * 200 + b"2")]},
    "x-api-key": {"headers": [(b"x-api-key", b"a")]},
    "api-key": {"headers": [(b"api-key", b"a")]},
    "cookie": {"headers": [(b"cookie", b"session=a")]},
    "two": {"headers": [(b"authorization", b"Bearer a"), (b"x-api-key", b"a")]},
    "forwarded user": {"headers": [(b"x-forwarded-user", b"a")]},
    "query": {"headers": [], "query_string": b"key=a"},
    "configured": {"headers": [(b"x-team", b"a")]},
}


@pytest.mark.parametrize("first", CREDENTIALS)
async def test_different_principals_share_neither_entries_nor_flights(
    gateway: Gateway, first: str
) -> None:
    """Full values, never prefixes; every credential counts."""
    app = ScriptedApp(is_stepped=True)
    mw = gateway(app, credential_headers=frozenset({"x-team"}))
    flights = [Client(mw, **options).start() for options in CREDENTIALS.values()]
    await settle()
    assert len(app.calls) == len(CREDENTIALS)
    app.is_stepped = False
    for call in app.calls:
        await call.step()
    for client in flights:
        assert (await client.end()).outcome == "MISS"
    assert (await fetch(mw, **CREDENTIALS[first])).outcome == "HIT"
    assert mw.cache.stats().result.entries == len(CREDENTIALS)


async def test_bodies_with_equal_xxh3_never_share_an_answer(gateway: Gateway) -> None:
    """XXH3 is not collision-resistant; the memo compares the bytes (design 5)."""
    vectors = json.loads(VECTORS.read_text())
    app = ScriptedApp()
    mw = gateway(app)
    mw._parts.identifier._seed = 0  # the seed that the collision was made for
    for name in ("a", "b", "a", "b"):
        await fetch(mw, vectors[name].encode())
    assert [call.body.decode() for call in app.calls] == [vectors["a"], vectors["b"]]
    assert mw.cache.stats().result.hits == 2


async def test_without_a_credential_nothing_is_cached_and_one_warning_says_why(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Bypass with detail=no-principal; the warning names allow_anonymous (design 5)."""
    app = ScriptedApp()
    mw = gateway(app)
    for _ in range(3):
        got = await fetch(mw, headers=[])
        assert got.get("cache-status") == "routecache; fwd=bypass; detail=no-principal"
    assert len(app.calls) == 3
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "allow_anonymous=True" in warning.getMessage()


async def test_anonymous_callers_share_entries_when_that_is_allowed(gateway: Gateway) -> None:
    """``allow_anonymous=True``; callers with a credential stay apart."""
    mw = gateway(allow_anonymous=True)
    assert (await fetch(mw, headers=[])).outcome == "MISS"
    assert (await fetch(mw, headers=[])).outcome == "HIT"
    assert (await fetch(mw)).outcome == "MISS"


async def test_a_blank_credential_is_none(gateway: Gateway) -> None:
    """``Authorization:`` with nothing in it names nobody."""
    got = await fetch(gateway(), headers=[(b"authorization", b"  ")])
    assert got.outcome == "BYPASS"


async def test_a_tenant_callable_replaces_the_credentials(gateway: Gateway) -> None:
    """Two keys of one team share; two teams do not; no team: not cached."""

    def team(scope: Scope) -> str | None:
        return dict(scope["headers"]).get(b"x-team", b"").decode() or None

    mw = gateway(tenant=team)
    red = (b"x-team", b"red")
    assert (await fetch(mw, headers=[red, (b"authorization", b"1")])).outcome == "MISS"
    assert (await fetch(mw, headers=[red, (b"authorization", b"2")])).outcome == "HIT"
    assert (await fetch(mw, headers=[(b"x-team", b"blue")])).outcome == "MISS"
    got = await fetch(mw)
    assert got.get("cache-status") == "routecache; fwd=bypass; detail=no-principal"
    await mw.cache.invalidate_tenant("red")
    assert (await fetch(mw, headers=[red])).outcome == "MISS"


@pytest.mark.parametrize("tells", [ZeroDivisionError("secret"), 7, ("a",)])
async def test_a_broken_tenant_callable_is_logged_once_and_bypassed(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, tells: object
) -> None:
    """It raises, or returns what is no name: nothing is cached, nothing fails (issue 2)."""

    def broken(scope: Scope) -> object:
        if isinstance(tells, Exception):
            raise tells
        return tells

    mw = gateway(tenant=broken)
    for _ in range(2):
        got = await fetch(mw)
        assert got.status == 200
        assert got.get("cache-status") == "routecache; fwd=bypass; detail=tenant-error"
    (record,) = caplog.records
    assert "tenant() raised" in record.getMessage()
    assert "secret" not in record.getMessage()


class Backend(AuthenticationBackend):
    """Authenticates by a header that is no credential of ours."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        name = conn.headers.get("x-login")
        if name is None:
            return None
        return AuthCredentials(), UnauthenticatedUser() if name == "?" else SimpleUser(name)


async def test_users_of_starlettes_authentication_are_principals(gateway: Gateway) -> None:
    """``scope["user"]`` counts when it is authenticated, and only then."""
    mw = gateway()
    app = AuthenticationMiddleware(mw, backend=Backend())
    ada, bob = [(b"x-login", b"ada")], [(b"x-login", b"bob")]
    assert (await fetch(app, headers=ada)).outcome == "MISS"
    assert (await fetch(app, headers=ada)).outcome == "HIT"
    assert (await fetch(app, headers=bob)).outcome == "MISS"
    assert (await fetch(app, headers=[(b"x-login", b"?")])).outcome == "BYPASS"
    assert (await fetch(app, headers=[])).outcome == "BYPASS"
    key = (b"authorization", b"k")
    assert (await fetch(app, headers=[*ada, key])).outcome == "MISS"
    assert (await fetch(app, headers=[*bob, key])).outcome == "MISS"
    assert (await fetch(app, headers=[key])).outcome == "MISS"


async def test_a_user_without_a_usable_name_is_nobody(gateway: Gateway) -> None:
    """Whatever framework made it; Starlette's BaseUser has no identity of its own."""

    class Odd:
        is_authenticated = True
        identity = 7

        @property
        def display_name(self) -> str:
            raise NotImplementedError

    assert (await fetch(gateway(), headers=[], user=Odd())).outcome == "BYPASS"


def key(name: bytes) -> Options:
    return {"headers": [(b"authorization", name)]}


async def test_shared_entries_go_only_to_whom_the_app_has_accepted(
    gateway: Gateway, clock: FakeClock
) -> None:
    """Design 5: answered with 2xx within ``auth_ttl_s``, 60 s by default."""
    app = ScriptedApp()
    mw = gateway(app, tenancy="shared")
    assert (await fetch(mw, **key(b"a"))).outcome == "MISS"
    assert (await fetch(mw, **key(b"a"))).outcome == "HIT"
    first = await fetch(mw, **key(b"b"))
    assert first.get("cache-status") == "routecache; fwd=miss; detail=unauthorised"
    assert (await fetch(mw, **key(b"b"))).outcome == "HIT"
    clock.advance(59)
    assert (await fetch(mw, **key(b"b"))).outcome == "HIT"
    clock.advance(2)
    assert (await fetch(mw, **key(b"b"))).outcome == "MISS"
    assert len(app.calls) == 3


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_ends_the_lease_at_once(gateway: Gateway, status: int) -> None:
    """401 and 403 revoke, whatever was asked for; other errors do not."""
    app = ScriptedApp(json_answer(), json_answer(status=500), json_answer(status=status))
    mw = gateway(app, tenancy="shared")
    await fetch(mw, **key(b"a"))
    assert (await fetch(mw, b"not json", **key(b"a"))).status == 500
    assert (await fetch(mw, **key(b"a"))).outcome == "HIT"
    assert (await fetch(mw, b"not json", **key(b"a"))).status == status
    assert (await fetch(mw, **key(b"a"))).status == status


async def test_who_was_not_accepted_yet_joins_no_shared_flight(gateway: Gateway) -> None:
    """A flight answers in the app's place, as an entry does."""
    app = ScriptedApp(is_stepped=True)
    mw = gateway(app, tenancy="shared")
    app.is_stepped = False
    await fetch(mw, b"not json", **key(b"a"))
    await fetch(mw, b"not json", **key(b"b"))
    app.is_stepped = True
    leader, follower = Client(mw, **key(b"a")).start(), Client(mw, **key(b"b")).start()
    await settle()
    assert len(app.calls) == 3
    stranger = Client(mw, **key(b"c")).start()
    await settle()
    assert len(app.calls) == 4
    app.is_stepped = False
    for call in app.calls[2:]:
        await call.step()
    assert (await follower.end()).outcome == "COALESCED"
    assert (await leader.end()).outcome == (await stranger.end()).outcome == "MISS"


async def test_authentication_above_us_needs_no_proof(gateway: Gateway) -> None:
    """``authenticated_upstream=True``: we sit inside the auth."""
    mw = gateway(tenancy="shared", authenticated_upstream=True)
    assert (await fetch(mw, **key(b"a"))).outcome == "MISS"
    assert (await fetch(mw, **key(b"b"))).outcome == "HIT"


async def test_the_memo_of_heads_is_bounded(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials come from clients; remembering all of them would be a leak."""
    monkeypatch.setattr("routecache_middleware.adapters.asgi.head._MEMO_SIZE", 3)
    mw = gateway()
    for n in range(10):
        await fetch(mw, **key(b"%d" % n))
    assert len(mw._parts.heads._memo) == 3


def test_a_head_shows_no_credential_and_no_tenant() -> None:
    reader = HeadReader(Settings(), CachePolicy(), lambda _: "a-customer")
    dialect = match("POST", PATH)
    assert dialect is not None
    scope = scope_of(query_string=b"key=a-key", headers=[(b"openai-project", b"a-project")])
    assert repr(reader.read(dialect, scope)) == (
        "RequestHead(KeyContext(openai.chat, '/v1/chat/completions', 1 headers), readable)"
    )
