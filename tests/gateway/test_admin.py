"""The dashboard beside the gateway: to whom it is shown, and that the gateway is as it was."""

import httpx
import pytest

from routecache_middleware.errors import ConfigurationError
from tests.admin.kit import TOKEN
from tests.gateway.kit import COMPLETION, chat, gateway, running
from tests.gateway.test_command import started
from tests.support.raw_upstream import RawUpstream, answer

AUTH = {"authorization": f"Bearer {TOKEN}"}
ENVIRON = {"ROUTECACHE_ADMIN_TOKEN": TOKEN}


def test_it_shows_what_the_gateway_has_answered() -> None:
    with RawUpstream(answer(COMPLETION)) as upstream:
        made = gateway(ENVIRON, upstream=upstream.url, admin=True)
        with running(made) as client:
            assert chat(client).headers["x-routecache"] == "MISS"
            assert chat(client).headers["x-routecache"] == "HIT"
            told = client.get("/routecache/stats", headers=AUTH).json()
            assert told["total"]["lookups"]["result"] == {"hit": 1, "miss": 1}
            page = client.get("/routecache/")
            assert "<title>routecache</title>" in page.text
            assert client.get("/routecache/assets/page.js").status_code == 200
            assert client.get("/routecache/stats").status_code == 401
            moved = client.get("/routecache")
            assert (moved.status_code, moved.headers["location"]) == (307, "/routecache/")


def test_paths_that_only_begin_alike_are_the_upstreams() -> None:
    with RawUpstream(answer(b'{"from": "upstream"}')) as upstream:
        made = gateway(ENVIRON, upstream=upstream.url, admin=True)
        with running(made) as client:
            assert client.get("/routecached").json() == {"from": "upstream"}


def test_without_being_asked_for_it_is_not_there() -> None:
    with RawUpstream(answer(b'{"from": "upstream"}')) as upstream:
        made = gateway(ENVIRON, upstream=upstream.url)
        with running(made) as client:
            assert client.get("/routecache/stats").json() == {"from": "upstream"}


def test_where_others_can_reach_it_it_needs_a_token() -> None:
    with pytest.raises(ConfigurationError, match="ROUTECACHE_ADMIN_TOKEN"):
        gateway(upstream="http://127.0.0.1:1", admin=True, host="0.0.0.0")
    assert gateway(upstream="http://127.0.0.1:1", admin=True).admin is not None


def test_the_command_serves_it_and_stops_at_once_though_somebody_watches() -> None:

    with (
        started("--upstream", "http://127.0.0.1:1", "--admin", **ENVIRON) as process,
        httpx.stream("GET", f"{process.url}/routecache/live", headers=AUTH) as stream,
    ):
        assert next(stream.iter_bytes()).startswith(b"data: ")
        process.stop()
        code, said = process.ended()
        assert code == 0
        assert "Traceback" not in said
