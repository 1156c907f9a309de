"""The net itself: what is planted is found, in any form and wherever it is said."""

import base64
import hashlib
import json
import logging
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from opentelemetry import trace

from routecache_middleware import RouteCache, Settings
from tests.canary.ears import Ears, listening
from tests.canary.planted import PLANTED, leaks, planted, prose

ROOT = Path(__file__).parents[2]

WORD = PLANTED["prompt"]


@pytest.mark.parametrize(
    "said",
    [
        WORD,
        WORD.upper(),
        WORD[:12],
        WORD[12:],
        f"Bearer {WORD}",
        prose("prompt"),
        repr(prose("prompt")),
        json.dumps(prose("prompt")),
        json.dumps(json.dumps(prose("prompt"))),
        quote(prose("prompt")),
        repr(prose("prompt").encode()),
        WORD.encode().hex(),
        WORD.encode().hex().upper(),
        "".join(f"\\u{ord(letter):04X}" for letter in WORD),
        "".join(f"%{ord(letter):02X}" for letter in WORD),
        WORD[::-1],
        *(base64.b64encode(b"x" * ahead + WORD.encode() + b"y").decode() for ahead in range(4)),
        base64.b64encode(prose("prompt").encode()).decode(),
        base64.urlsafe_b64encode(f"user:{WORD}".encode()).decode(),
    ],
)
def test_a_canary_is_found_in_any_form(said: str) -> None:
    found = leaks(f"something before {said} and after")
    assert found
    assert all(leak.startswith("prompt, ") for leak in found)


def test_a_plain_digest_is_found_and_other_words_are_not() -> None:
    assert leaks(hashlib.sha256(WORD.encode()).hexdigest()) != []
    assert leaks("Nothing to see. " + hashlib.sha256(b"another").hexdigest()) == []
    halves = [half for word in PLANTED.values() for half in (word[:12], word[12:])]
    assert len(set(halves)) == len(halves) == 2 * len(PLANTED)
    assert {len(word) for word in PLANTED.values()} == {24}


def raised() -> BaseException:
    error = RuntimeError("it failed")
    error.__cause__ = ValueError(WORD)
    return error


@pytest.mark.parametrize("name", ["routecache", "httpx", "asyncio", "uvicorn.access", "a.b.c"])
def test_log_records_are_heard_with_arguments_errors_and_additions(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger(name)
    monkeypatch.setattr(logger, "filters", [])  # LiteLLM's, once imported, take arguments away
    with listening() as ears:
        logger.debug("it is %s", WORD)
        logger.info("nothing", extra={"added": {"k": [WORD]}})
        logger.warning("%(a)s", {"a": 1, "b": WORD})
        logger.error("it failed", exc_info=raised())
    assert len(ears.records) == 4
    assert [bool(leaks(said)) for _, said in ears.heard] == [True] * 4


def test_a_logger_that_tells_no_other_is_heard() -> None:
    logger = logging.getLogger("canary.deaf")
    logger.propagate, logger.disabled = False, True
    logger.setLevel(logging.CRITICAL)
    with listening() as ears:
        logger.debug(WORD)
    assert ears.leaks() != []
    assert (logger.level, logger.disabled) == (logging.CRITICAL, True)


def test_spans_are_heard_with_all_that_they_hold() -> None:
    for place in ("name", "attribute", "event", "status", "link", "raised"):
        with listening() as ears:
            _span(ears, place)
            assert ears.leaks() != [], place


def _span(ears: Ears, place: str) -> None:
    tracer = ears.tracing.get_tracer("t")
    other = tracer.start_span("other").get_span_context()
    span = tracer.start_span(WORD if place == "name" else "name")
    if place == "attribute":
        span.set_attribute("a", [WORD])
    if place == "event":
        span.add_event("e", {"a": WORD})
    if place == "status":
        span.set_status(trace.Status(trace.StatusCode.ERROR, WORD))
    if place == "link":
        span.add_link(other, {"a": WORD})
    if place == "raised":
        span.record_exception(raised().__cause__ or raised())
    span.end()


def test_points_are_heard() -> None:
    with listening() as ears:
        ears.metering.get_meter("t").create_counter("c").add(1, {"a": WORD})
        assert ears.leaks() != []


def test_errors_are_heard_with_what_they_came_from() -> None:
    with listening() as ears:
        ears.hear("an error", raised())
        group = ExceptionGroup("several", [RuntimeError("it failed"), ValueError(WORD)])
        ears.hear("a group", group)
    assert [bool(leaks(said)) for _, said in ears.heard] == [True, True]


async def test_a_cache_s_own_words_are_heard() -> None:
    """Control: a model's name is shown, so a word planted there has to be found."""
    with listening() as ears:
        async with RouteCache(
            url="memory://", settings=Settings(), observers=ears.observers()
        ) as cache:
            await cache.result("0" * 32, planted("prompt"), _compute)
            await ears.hear_of(cache)
        where = {leak.partition(":")[0] for leak in ears.leaks()}
    assert "span cache.put result" in where


async def _compute() -> bytes:
    return b"{}"


def test_the_fixture_fails_a_test_that_says_too_much(tmp_path: Path) -> None:
    """A process of its own runs tests that leak in one way after the other."""
    ways = {
        "print": "print(WORD)",
        "write": "__import__('sys').stderr.write(WORD)",
        "descriptor": "__import__('os').write(2, WORD.encode())",
        "log": "__import__('logging').getLogger('x').debug(WORD)",
        "nothing": "pass",
    }
    lines = ["from tests.canary.conftest import ears", "from tests.canary.planted import planted"]
    lines += ["WORD = planted('prompt')"]
    lines += [f"def test_{name}(ears):\n    {way}" for name, way in ways.items()]
    file = tmp_path / "test_leaking.py"
    file.write_text("\n".join(lines), encoding="utf-8")
    command = ["-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    done = subprocess.run(
        [sys.executable, *command, str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "5 passed, 4 errors" in done.stdout, done.stdout + done.stderr
