"""Commands that ask a gateway's administration app, and what they say when it does not answer."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from tests.admin.kit import READ_TOKEN, TOKEN
from tests.cli.kit import run, told
from tests.support.child import ModuleChild


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    child = ModuleChild("tests.admin.served")
    try:
        yield f"http://127.0.0.1:{child.port}"
    finally:
        child.close()


WITH: dict[str, str] = {"ROUTECACHE_ADMIN_TOKEN": TOKEN}


def test_what_a_gateway_keeps_in_its_own_memory_is_seen(url: str) -> None:
    assert told("stats", "--url", url, **WITH)["coordinator"] == "memory"
    assert len(told("keys", "--url", url, **WITH)["entries"]) == 20
    assert told("config", "--url", url, **WITH)["coordinator"] == "memory"
    assert "(in force there)" in run("config", "--url", url, **WITH).output
    assert told("top", "--url", url, **WITH) == {"models": []}
    asked = ("explain", "-", "--tenant", "t", "--url", url)
    assert run(*asked, given="{}", **WITH).stdout.startswith("bypass (invalid-json)")


def test_a_gateway_loads_models_by_itself(url: str) -> None:
    assert told("warm", "one", "two", "--url", url, **WITH)["warmed"] == 2
    refused = run("warm", "--from", __file__, "--url", url, **WITH)
    assert refused.exit_code == 2
    assert "name" not in refused.stdout


def test_what_a_gateway_has_is_invalidated(url: str) -> None:
    done = run("invalidate", "model", "model-1", "--yes", "--url", url, **WITH)
    assert done.exit_code == 0
    rows = told("keys", "--url", url, **WITH)["entries"]
    assert {row["model"] for row in rows if row["state"] == "fresh"} <= {"model-0"}


@pytest.mark.parametrize(
    ("environ", "command", "words"),
    [
        ({}, ("stats",), "set ROUTECACHE_ADMIN_TOKEN"),
        ({"ROUTECACHE_ADMIN_TOKEN": "x" * 20}, ("stats",), "set ROUTECACHE_ADMIN_TOKEN"),
        ({"ROUTECACHE_ADMIN_READ_TOKEN": READ_TOKEN}, ("invalidate", "all", "--yes"), "may look"),
        ({"ROUTECACHE_ADMIN_TOKEN": "short"}, ("stats",), "at least 16"),
    ],
)
def test_who_has_no_right_is_told_so(
    url: str, environ: dict[str, str], command: tuple[str, ...], words: str
) -> None:
    done = run(*command, "--url", url, **environ)
    assert done.exit_code == 1
    assert words in done.output
    assert READ_TOKEN not in done.output
    assert "x" * 20 not in done.output


def test_a_gateway_that_does_not_answer_is_said(url: str) -> None:
    done = run("stats", "--url", "http://127.0.0.1:1", **WITH)
    assert done.exit_code == 1
    assert "does not answer (ConnectError)" in done.output
    assert "`routecache gateway --admin` serves it at /routecache" in done.output
    done = run("stats", "--url", "http://u:canary-password@127.0.0.1:1", **WITH)
    assert (done.exit_code, "canary" in done.output) == (1, False)
    done = run("stats", "--url", f"{url}/nothing", **WITH)
    assert done.exit_code == 1
    assert "answers: Not Found" in done.output


def test_a_server_that_is_something_else_is_said() -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(500)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        done = run("stats", "--url", f"http://127.0.0.1:{server.server_port}", **WITH)
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
    assert done.exit_code == 1
    assert "HTTP 500; that is not the admin app" in done.output


def test_a_doctor_asks_the_gateway(url: str) -> None:
    found = told("doctor", "--url", url, **WITH)
    assert found["is_well"]
    names = [one["name"] for one in found["findings"]]
    assert names == ["versions", "admin app", "gateway", "breakers", "clock"]
    assert {one["verdict"] for one in found["findings"]} == {"good"}


def test_a_password_in_the_url_of_an_app_is_not_shown() -> None:
    done = run("stats", "--url", "http://user:word@127.0.0.1:1?key=word")
    assert "http://***@127.0.0.1:1?*** does not answer" in done.output
    wrong = run("stats", "--url", "http://user:word@[::1")
    assert (done.exit_code, wrong.exit_code) == (1, 2)
    assert "is no address of a server" in wrong.output
    assert "word" not in done.output + wrong.output
