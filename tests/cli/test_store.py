"""Commands that look into a store, and change what is in it."""

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from routecache_middleware import RouteCache, Settings
from routecache_middleware.coordinators.lmdb.coordinator import LmdbCoordinator
from tests.cli.kit import CANARY, fill, run, told

QUERY = f"{3:032x}"


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"lmdb://{tmp_path}/cache"
    fill(url)
    return url


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    file = tmp_path / "request.json"
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": CANARY}]}
    file.write_text(json.dumps(body), encoding="utf-8")
    return file


def listed(url: str, layer: str = "result") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = told("keys", "--layer", layer, "--url", url)["entries"]
    return rows


def current(url: str, layer: str = "result") -> int:
    return sum(row["state"] == "fresh" for row in listed(url, layer))


def test_statistics_are_those_of_all_processes(url: str) -> None:
    found = told("stats", "--url", url)
    assert found["total"]["lookups"]["route"] == {"hit": 8, "miss": 2}
    assert found["total"]["hit_rates"]["route"] == 0.8
    shown = run("stats", "--url", url)
    assert shown.exit_code == 0
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("route ")]
    assert line.split() == ["route", "80.0", "%", "8", "0", "2", "0", "0", "0", "2"]
    assert "\x1b" not in shown.stdout, "no colours in a pipe"


def test_statistics_can_be_watched_and_are_then_a_line_each(url: str) -> None:
    watched = ("stats", "--watch", "--times", "2", "--every", "0.1", "--url", url)
    done = run(*watched, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["coordinator"] for line in lines] == ["lmdb", "lmdb"]
    assert run(*watched).stdout.count("Lookups") == 2


def test_entries_are_listed_without_what_they_say(url: str) -> None:
    rows = listed(url)
    assert {row["model"] for row in rows} == {"gpt-4o"}
    assert len(rows) == 5
    assert len(listed(url, "route")) == 2
    assert told("keys", "--model", "other", "--url", url)["entries"] == []
    shown = run("keys", "--limit", "2", "--url", url)
    assert shown.stdout.count("gpt-4o") == 2
    assert "2 of 5; 5 were looked at." in shown.stdout
    assert "acme" not in shown.stdout


@pytest.mark.parametrize(
    ("target", "layer", "spared"),
    [
        (("model", "gpt-4o"), "result", 0),
        (("model", "gpt-4o"), "route", 0),
        (("model", "gpt-4o", "--tenant", "acme"), "result", 0),
        (("model", "gpt-4o", "--tenant", "other"), "result", 5),
        (("tenant", "acme"), "result", 0),
        (("tag", "blue"), "result", 0),
        (("tag", "red"), "result", 5),
        (("layer", "result"), "result", 0),
        (("layer", "result"), "route", 2),
        (("all",), "route", 0),
        (("all", "--older-than", "1"), "route", 2),
        (("query", QUERY, "--model", "gpt-4o", "--tenant", "acme"), "result", 4),
        (("query", f"{1:032x}"), "route", 1),
    ],
)
def test_nothing_is_invalidated_before_yes_is_said(
    url: str, target: tuple[str, ...], layer: str, spared: int
) -> None:
    before = current(url, layer)
    done = run("invalidate", *target, "--url", url)
    assert done.exit_code == 0
    assert "Would invalidate" in done.stdout
    assert "Nothing has happened" in done.stdout
    assert told("invalidate", *target, "--url", url)["dry_run"] is True
    assert current(url, layer) == before
    done = run("invalidate", *target, "--yes", "--url", url)
    assert done.exit_code == 0, done.output
    assert "Invalidated" in done.stdout
    assert current(url, layer) == spared
    assert told("invalidate", *target, "--yes", "--url", url)["dry_run"] is False


def test_a_request_is_explained(url: str, request_file: Path) -> None:
    asked = ("explain", str(request_file), "--url", url)
    refused = run(*asked)
    assert refused.exit_code == 0
    assert "no-principal" in refused.stdout
    header = ("--header", f"Authorization: Bearer {CANARY}-key")
    assert run(*asked, *header).stdout.startswith("miss (absent)")
    found = told(*asked, *header)
    assert found["outcome"] == "miss"
    assert told(*asked, "--tenant", "acme")["outcome"] == "miss"


def test_what_tells_two_requests_apart_is_named(
    url: str, request_file: Path, tmp_path: Path
) -> None:
    body = json.loads(request_file.read_text("utf-8")) | {"temperature": 0.5}
    other = tmp_path / "other.json"
    other.write_text(json.dumps(body), encoding="utf-8")
    asked = ("explain", "-", "--neighbour", str(other), "--tenant", "acme", "--url", url)
    found = told(*asked, given=request_file.read_text("utf-8"))
    assert "temperature" in found["neighbour"]["differs"]


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        ("{", (), "is no JSON (JSONDecodeError)"),
        ("[" * 100_000, (), "is no JSON (RecursionError)"),
        ('"' + "x" * 2_000_001 + '"', (), "more than 2,000,000"),
        ("{}", ("--header", "nonsense"), "NAME: VALUE"),
        ("{}", ("--header", ": x"), "NAME: VALUE"),
    ],
)
def test_a_request_that_makes_no_sense_is_wrong_usage(
    url: str, text: str, more: tuple[str, ...], words: str
) -> None:
    done = run("explain", "-", *more, "--url", url, given=text)
    assert done.exit_code == 2
    assert words in done.output


def test_models_are_warmed_from_a_file(url: str, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text('["gpt-4.1"]\nvision = true\n[small]\nvision = false\n', encoding="utf-8")
    assert told("warm", "--from", str(file), "--url", url)["warmed"] == 2
    done = run("warm", "small", "--from", str(file), "--url", url)
    assert done.stdout == "1 of 1 models are stored.\n"

    async def read() -> Any:
        async with RouteCache(url=url, settings=Settings(), observers=[]) as cache:
            return await cache.get_model_metadata("gpt-4.1")

    assert asyncio.run(read()).capabilities == {"vision": True}


def test_what_cannot_be_warmed_is_told_and_is_a_failure(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "models.json"
    file.write_text('{"a": {}}', encoding="utf-8")

    async def fail(*_: object, **__: object) -> object:
        raise OSError

    monkeypatch.setattr(LmdbCoordinator, "store", fail)
    done = run("warm", "--from", str(file), "--url", url)
    assert done.exit_code == 1
    assert done.stdout == "0 of 1 models are stored.\n"
    assert "a: " in done.stderr


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        (None, ("a",), "--from FILE"),
        ("{", ("a",), "cannot be read"),
        ("[1]", ("a",), "a table for each model"),
        ('{"a": 1}', ("a",), "a table for each model"),
        ('{"a": {}}', ("b",), "says nothing of b"),
        ("{}", (), "name the models"),
    ],
)
def test_what_cannot_be_warmed_is_wrong_usage(
    url: str, tmp_path: Path, content: str | None, arguments: tuple[str, ...], words: str
) -> None:
    more: tuple[str, ...] = ()
    if content is not None:
        file = tmp_path / "models.json"
        file.write_text(content, encoding="utf-8")
        more = ("--from", str(file))
    done = run("warm", *arguments, *more, "--url", url)
    assert done.exit_code == 2
    assert words in done.output


def test_the_configuration_in_force_is_shown_without_secrets(url: str) -> None:
    secret = f"{CANARY}-and-more"
    environ = {"ROUTECACHE_SECRET": secret, "ROUTECACHE_RESULT_TTL_S": "77"}
    found = told("config", "--url", url, **environ)
    assert found["settings"]["result_ttl_s"] == 77
    assert found["settings"]["secret"] == "<set>"
    changed = told("config", "--changed", "--url", url, **environ)
    assert changed["settings"] == {"result_ttl_s": 77, "secret": "<set>"}
    assert changed["policy"] == {}
    shown = run("config", "--changed", "--url", url, **environ)
    assert [line.split() for line in shown.stdout.splitlines() if "ttl" in line] == [
        ["result_ttl_s", "77.0"]
    ]


@pytest.mark.parametrize(
    "command",
    [
        ("stats",),
        ("top",),
        ("keys",),
        ("invalidate", "all"),
        ("explain", "-"),
    ],
)
def test_what_lies_in_another_process_cannot_be_seen(command: tuple[str, ...]) -> None:
    done = run(*command, given="{}")
    assert done.exit_code == 1
    assert "memory:// lies inside of a gateway" in done.output
    assert "--url" in done.output


def test_the_configuration_found_here_is_shown_whatever_the_store() -> None:
    """It needs none: neither one of another process's memory nor one that does not answer."""
    found = told("config", ROUTECACHE_RESULT_TTL_S="77")
    assert (found["url"], found["settings"]["result_ttl_s"]) == ("memory://", 77)
    done = run("config", "--changed", ROUTECACHE_RESULT_TTL_S="77")
    assert done.exit_code == 0
    assert "memory:// (as found here; what a running gateway has" in done.output
    began_s = time.monotonic()
    done = run("config", "--url", "redis://u:pass-word@127.0.0.1:1/0")
    assert (done.exit_code, "pass-word" in done.output) == (0, False)
    assert time.monotonic() - began_s < 5
    done = run("config", ROUTECACHE_RESULT_TTL_S="soon")
    assert (done.exit_code, "ROUTECACHE_RESULT_TTL_S" in done.output) == (1, True)


def test_the_store_may_be_the_configured_one(url: str, tmp_path: Path) -> None:
    assert told("stats", ROUTECACHE_URL=url)["coordinator"] == "lmdb"
    file = tmp_path / "routecache.toml"
    file.write_text(f'[routecache]\nurl = "{url}"\n', encoding="utf-8")
    assert told("stats", "--config", str(file))["coordinator"] == "lmdb"


@pytest.mark.parametrize(
    "command", [("stats",), ("top",), ("keys",), ("invalidate", "model", "m"), ("explain", "-")]
)
def test_what_is_not_known_is_not_shown_as_nothing(command: tuple[str, ...]) -> None:
    """A dry run said "at most 0 entries" of a store that it had not reached."""
    logger = logging.getLogger("routecache")
    before = logger.level
    done = run(*command, "--url", "redis://u:pass-word@127.0.0.1:1/0", given="{}")
    assert done.exit_code == 1
    assert done.stderr.strip() == (
        "Error: the store redis://***@127.0.0.1:1/0 does not answer; `routecache doctor` says more"
    )
    assert (done.stdout, logger.level) == ("", before)


def test_a_server_that_is_not_there_is_said_at_once() -> None:
    began_s = time.monotonic()
    done = run("invalidate", "all", "--yes", "--url", "redis://u:pass-word@127.0.0.1:1/0")
    assert done.exit_code == 1
    assert "pass-word" not in done.output
    assert time.monotonic() - began_s < 20
