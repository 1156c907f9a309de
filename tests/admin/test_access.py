"""Who may use the administration app, and what the others learn: nothing."""

import json
from typing import Any

import pytest

from routecache_middleware import RouteCache
from routecache_middleware.admin import AdminSettings, Principal, create_admin
from routecache_middleware.admin.limits import Limiter
from routecache_middleware.admin.routes import ROUTES
from routecache_middleware.errors import ConfigurationError
from tests.admin.kit import READ_TOKEN, TOKEN, Admin, quiet_cache
from tests.support.asgi import Response, fetch, scope_of

EVERY_PATH = [(row.method, row.path.replace("{entry}", "0" * 16)) for row in ROUTES]
FOREIGN = [
    [(b"origin", b"https://evil.example")],
    [(b"origin", b"null")],
    [(b"origin", b"http://[")],
    [(b"sec-fetch-site", b"cross-site")],
    [(b"sec-fetch-site", b"same-site")],
]


@pytest.fixture
def admin() -> Admin:
    return Admin(quiet_cache())


async def ask(admin: Admin, method: str, path: str, token: str, **options: Any) -> Response:
    if method == "GET":
        return await admin.get(path, token=token, **options)
    return await admin.post(path, {}, token=token, **options)


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper()])
@pytest.mark.parametrize(
    ("method", "path"), [*EVERY_PATH, ("GET", "/openapi.json"), ("GET", "/nothing")]
)
async def test_without_the_token_every_path_says_the_same_whether_it_is_there_or_not(
    admin: Admin, method: str, path: str, token: str
) -> None:
    answer = await ask(admin, method, path, token)
    assert answer.status == 401
    assert answer.get("www-authenticate") == 'Bearer realm="routecache"'
    assert set(json.loads(answer.body)) == {"error"}
    assert b"Authorization header" in answer.body


@pytest.mark.parametrize(
    "field", [b"Basic " + TOKEN.encode(), TOKEN.encode(), b"Bearer", b"Bearer \xff\xfe", b""]
)
async def test_a_token_in_another_form_is_none(admin: Admin, field: bytes) -> None:
    answer = await admin.get("/stats", token="", headers=[(b"authorization", field)])
    assert answer.status == 401


async def test_the_scheme_is_case_insensitive_as_rfc_9110_has_it(admin: Admin) -> None:
    headers = [(b"authorization", b"bEARER  " + TOKEN.encode())]
    assert (await admin.get("/stats", token="", headers=headers)).status == 200


@pytest.mark.parametrize(
    "row", [row for row in ROUTES if row.path != "/live"], ids=lambda row: row.path
)
async def test_a_token_that_may_only_look_changes_nothing(admin: Admin, row: Any) -> None:
    answer = await ask(admin, row.method, row.path.replace("{entry}", "0" * 16), READ_TOKEN)
    assert (answer.status == 403) is row.changes


async def test_a_read_token_alone_lets_nobody_change_anything() -> None:
    admin = Admin(quiet_cache(), settings={"token": ""})
    for token in ("", TOKEN):
        assert (await admin.post("/invalidate", {"all": True}, token=token)).status == 401
    assert (await admin.get("/stats", token=READ_TOKEN)).status == 200


def test_without_a_token_there_is_no_app() -> None:
    with pytest.raises(ConfigurationError, match="ROUTECACHE_ADMIN_TOKEN"):
        create_admin(quiet_cache(), settings=AdminSettings())


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTECACHE_ADMIN_TOKEN", TOKEN)
    assert create_admin(quiet_cache()) is not None


class TestOnThisMachineAlone:
    """Without a token, for servers that listen on a loopback address."""

    async def status(self, headers: Any, **scoped: Any) -> int:
        app = create_admin(quiet_cache(), settings=AdminSettings(), is_local=True)
        scope = scope_of(path="/stats", method="GET", **scoped)
        answer = await fetch(app, b"", scope={**scope, "headers": headers})
        return answer.status

    @pytest.mark.parametrize("host", [b"localhost:8090", b"127.0.0.1", b"[::1]:8090"])
    async def test_this_machine_may(self, host: bytes) -> None:
        assert await self.status([(b"host", host)]) == 200

    @pytest.mark.parametrize("client", [("10.0.0.7", 5), ("not an address", 5), None])
    async def test_others_may_not(self, client: object) -> None:
        assert await self.status([(b"host", b"localhost")], client=client) == 403

    @pytest.mark.parametrize("host", [b"evil.example", b"127.0.0.1.evil.example", b"", b"[::2]"])
    async def test_a_name_that_was_made_to_point_here_may_not(self, host: bytes) -> None:
        """DNS rebinding: the page's origin is the attacker's, and so is the name it asks for."""
        assert await self.status([(b"host", host)]) == 403

    @pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded", b"via", b"x-real-ip"])
    async def test_what_a_proxy_here_passes_on_may_not(self, name: bytes) -> None:
        headers = [(b"host", b"localhost"), (name, b"127.0.0.1")]
        assert await self.status(headers) == 403

    @pytest.mark.parametrize("foreign", FOREIGN)
    async def test_a_page_of_another_site_may_not(self, foreign: list[tuple[bytes, bytes]]) -> None:
        assert await self.status([(b"host", b"localhost"), *foreign]) == 403


@pytest.mark.parametrize("foreign", FOREIGN)
async def test_a_page_of_another_site_is_refused_with_the_token_too(
    admin: Admin, foreign: list[tuple[bytes, bytes]]
) -> None:
    assert (await admin.get("/stats", headers=foreign)).status == 403


@pytest.mark.parametrize(
    "own", [[(b"origin", b"https://gateway")], [(b"sec-fetch-site", b"same-origin")], []]
)
async def test_its_own_page_may_ask_also_behind_a_proxy_that_ends_tls(
    admin: Admin, own: list[tuple[bytes, bytes]]
) -> None:
    assert (await admin.get("/stats", headers=own)).status == 200


async def test_a_page_of_an_origin_that_is_named_may_ask() -> None:
    admin = Admin(quiet_cache(), settings={"origins": {"https://ops.example"}})
    headers = [(b"origin", b"https://ops.example"), (b"sec-fetch-site", b"cross-site")]
    assert (await admin.get("/stats", headers=headers)).status == 200


@pytest.mark.parametrize("kind", [None, b"text/plain", b"application/x-www-form-urlencoded"])
async def test_what_a_form_can_send_is_no_request(admin: Admin, kind: bytes | None) -> None:
    answer = await admin.post("/invalidate", {"all": True, "dry_run": False}, content_type=kind)
    assert answer.status == 415
    assert admin.cache.stats().invalidations == 0


async def test_every_answer_has_the_security_headers(admin: Admin) -> None:
    for answer in (
        await admin.get("/stats"),
        await admin.get("/stats", token=""),
        await admin.get("/nothing"),
        await admin.get("/", token=""),
    ):
        policy = answer.get("content-security-policy") or ""
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.get("x-content-type-options") == "nosniff"
        assert answer.get("x-frame-options") == "DENY"
        assert answer.get("referrer-policy") == "no-referrer"
        assert answer.get("access-control-allow-origin") is None
        assert answer.get("set-cookie") is None


async def test_answers_with_figures_are_kept_by_nobody(admin: Admin) -> None:
    for path in ("/stats", "/metrics", "/nothing"):
        assert (await admin.get(path)).get("cache-control") == "no-store"


async def test_wrong_tokens_are_limited_and_lock_nobody_out(admin: Admin) -> None:
    statuses = [(await admin.get("/stats", token="wrong")).status for _ in range(40)]
    assert statuses[:30] == [401] * 30
    assert statuses[30:] == [429] * 10
    assert (await admin.get("/stats", token="wrong")).get("retry-after") == "2"
    assert (await admin.get("/stats")).status == 200


async def test_where_the_page_asks_tokens_cannot_be_tried_without_end_either(
    admin: Admin,
) -> None:
    path = "/assets/door.json"
    assert {(await admin.get(path, token="")).status for _ in range(40)} == {200}  # no attempts
    statuses = [(await admin.get(path, token="wrong")).status for _ in range(40)]
    assert statuses == [200] * 30 + [429] * 10
    assert json.loads((await admin.get(path)).body) == {"open": True}


async def test_requests_are_limited_for_each_caller() -> None:
    admin = Admin(quiet_cache(), settings={"requests_per_s": 0.5})
    statuses = [(await admin.get("/breakers")).status for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    assert (await admin.get("/breakers", client=("10.0.0.9", 1))).status == 200


async def test_only_the_latest_callers_are_remembered() -> None:
    limiter = Limiter(0.1, 1.0)
    assert limiter.wait_s("first", 0.0) == 0
    assert limiter.wait_s("first", 0.0) == 10
    for number in range(1_024):
        limiter.wait_s(str(number), 0.0)
    assert limiter.wait_s("first", 0.0) == 0


@pytest.mark.parametrize(("token", "is_open"), [("", False), ("wrong", False), (TOKEN, True)])
async def test_the_page_may_ask_whether_to_ask_for_a_token(
    admin: Admin,
    token: str,
    is_open: bool,  # noqa: FBT001 - an expected value
) -> None:
    answer = await admin.get("/assets/door.json", token=token)
    assert (answer.status, json.loads(answer.body)) == (200, {"open": is_open})


async def test_whoever_decides_may_say_who_it_is() -> None:
    async def authorize(request: Any) -> Principal:
        return Principal("ada", may_change=False)

    admin = Admin(quiet_cache(), authorize=authorize)
    assert (await admin.post("/invalidate", {"all": True})).status == 403
    assert (await admin.get("/stats", token="")).status == 200


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"token": "short"}, "<5 characters>"),
        ({"token": "with a space in it, so no"}, "without spaces"),
        ({"token": 5}, "<int>"),
        ({"read_token": "öööööööööööööööööö"}, "ASCII"),
        ({"token": TOKEN, "read_token": TOKEN}, "another one"),
        ({"host": ""}, "host"),
        ({"port": 70_000}, "0 to 65535"),
        ({"port": True}, "0 to 65535"),
        ({"requests_per_s": 0}, "more than 0"),
        ({"origins": "https://a"}, "set of strings"),
        ({"origins": {"https://A"}}, "lower case"),
        ({"keep_history": 1}, "True or False"),
    ],
)
def test_a_wrong_setting_is_an_error_that_says_no_token(given: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word) as failure:
        AdminSettings(**given)
    assert TOKEN not in str(failure.value)


@pytest.mark.parametrize("name", ["token", "read_token"])
def test_a_wrong_token_in_the_file_is_not_shown(name: str, tmp_path: Any) -> None:
    from routecache_middleware.wiring.config import load_table  # noqa: PLC0415 - only here

    path = tmp_path / "routecache.toml"
    path.write_text(f"[routecache.admin]\n{name} = 123456789012345678\n")
    with pytest.raises(ConfigurationError) as failure:
        load_table(AdminSettings, "admin", toml_path=path, environ={})
    assert "123456789" not in str(failure.value)
    assert "<hidden>" in str(failure.value)


def test_tokens_are_not_in_what_a_record_says_of_itself() -> None:
    assert TOKEN not in repr(AdminSettings(token=TOKEN))


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("localhost", True), ("[::1]", True), ("0.0.0.0", False), ("x", False)],
)
def test_what_is_local(host: str, is_local: bool) -> None:  # noqa: FBT001 - an expected value
    assert AdminSettings(host=host).is_local is is_local


async def test_a_cache_is_not_closed_with_its_admin_app() -> None:
    async with RouteCache.from_url("memory://") as cache:
        await Admin(cache).get("/stats")
        assert cache.engine.is_open()
