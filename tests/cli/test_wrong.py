"""What commands say of servers that are no admin app, and of arguments that make no sense."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from tests.cli.kit import run

ANSWERS = {
    "page": b"<html>",
    "list": b"[]",
    "null": b"null",
    "empty": b"{}",
    "half": b'{"total": {}, "entries": [{}], "settings": {}}',
    "deep": b"[" * 100_000,
    "bytes": b"\xff\xfe",
}
COMMANDS = (
    ("stats",),
    ("stats", "--watch", "--times", "1"),
    ("top",),
    ("keys",),
    ("config", "--changed"),
    ("explain", "-"),
    ("invalidate", "all"),
    ("invalidate", "all", "--yes"),
    ("warm", "m"),
)


class _Other(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))  # else closing resets it
        body = ANSWERS[self.path.split("/")[1]]
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the library's name

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Other)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("kind", ANSWERS)
def test_a_server_that_answers_something_else_is_said(
    url: str, kind: str, command: tuple[str, ...]
) -> None:
    """Nothing but an admin app answers as one: that is one line, never a traceback."""
    done = run(*command, "--url", f"{url}/{kind}", given="{}")
    assert done.exit_code == 1
    assert "that is not the admin app, or not one of this version" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_doctor_says_that_it_is_something_else(url: str, kind: str) -> None:
    done = run("doctor", "--url", f"{url}/{kind}")
    assert done.exit_code == 3
    assert "not the admin app" in done.stdout


@pytest.mark.parametrize("command", [("stats",), ("bench",)])
@pytest.mark.parametrize(
    "url",
    ["http://", "http://127.0.0.1:99999", "http://127.0.0.1:0", "http://a\nb", "http://\xe4\n"],
)
def test_an_address_that_is_none_is_wrong_usage(command: tuple[str, ...], url: str) -> None:
    named = (url,) if command == ("bench",) else ("--url", url)
    done = run(*command, *named)
    assert done.exit_code == 2
    assert "no address of a server" in done.stderr


@pytest.mark.parametrize(
    "command", [("stats", "--url"), ("doctor", "--url"), ("bench", "-n", "1", "--json")]
)
def test_a_password_in_an_address_is_not_shown(command: tuple[str, ...]) -> None:
    for port in ("1", "99999"):
        done = run(*command, f"http://somebody:canary-password@127.0.0.1:{port}")
        assert done.exit_code
        assert "canary-password" not in done.output


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "command",
    [
        ("invalidate", "all", "--older-than"),
        ("stats", "--watch", "--every"),
        ("bench", "http://127.0.0.1:1", "--timeout"),
    ],
)
def test_what_is_no_number_is_wrong_usage(command: tuple[str, ...], number: str) -> None:
    assert run(*command, number).exit_code == 2


@pytest.mark.parametrize("key", ["canary-k\xe9y", "canary\nkey"])
def test_a_key_that_cannot_be_sent_is_said_and_not_shown(key: str) -> None:
    done = run("bench", "http://127.0.0.1:1", "-n", "1", OPENAI_API_KEY=key)
    assert done.exit_code == 1
    assert "OPENAI_API_KEY holds <hidden>" in done.stderr
    assert "canary" not in done.output
