"""What the README says is true: its code runs, and nothing users can set is left out."""

import ast
import asyncio
import dataclasses
import inspect
import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Coroutine
from typing import Any

import pytest

import routecache_middleware
from routecache_middleware import RouteCache, RouteCacheMiddleware
from routecache_middleware.core import cache_status
from routecache_middleware.core.models import BypassReason, DiscardReason, MissReason, Outcome
from routecache_middleware.core.settings import PROFILES
from tests.clients.serving import serve
from tests.support.apps import ScriptedApp, json_answer
from tests.support.chat import completion
from tests.support.readme_tables import README, RECORDS, filled, meanings

TEXT = README.read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_code_in_the_readme_runs(block: str) -> None:
    """Each block stands on its own; top-level ``await`` is allowed as in ``python -m asyncio``."""
    code = compile(
        textwrap.dedent(block), str(README), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    )
    namespace: dict[str, Any] = {"__name__": "readme"}
    result = eval(code, namespace)  # noqa: S307 - our own README
    if inspect.iscoroutine(result):
        asyncio.run(_finish(result))


async def _finish(coroutine: Coroutine[Any, Any, object]) -> None:
    await coroutine


PRINTS = re.findall(r"```python\n(.*?)```\n\nprints\n\n```text\n(.*?)```", TEXT, re.DOTALL)


def test_what_the_readme_says_that_its_code_prints_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert PRINTS
    for block, printed in PRINTS:
        # The pattern may have begun at an earlier block; the one that prints is the last.
        test_the_code_in_the_readme_runs(block.rpartition("```python\n")[2])
        assert capsys.readouterr().out == printed


ROUNDS = re.search(r"```sh\n(for round.*?)```\n\n```text\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_asking_twice_prints_what_the_readme_says() -> None:
    assert ROUNDS is not None
    script, printed = ROUNDS.groups()
    answer = json_answer(completion("Hello!"))
    gateway = RouteCacheMiddleware(ScriptedApp(answer), url="memory://")
    with serve(gateway) as server:
        assert "http://127.0.0.1:8000" in script
        ran = subprocess.run(
            ["/bin/sh", "-c", script.replace("http://127.0.0.1:8000", server.url)],
            env={"PATH": os.environ["PATH"], "OPENAI_API_KEY": "sk-made-up", "no_proxy": "*"},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    assert ran.stdout.splitlines() == printed.splitlines()


@pytest.mark.parametrize("record", RECORDS)
def test_every_setting_is_documented_where_it_is_defined(record: type[object]) -> None:
    said = meanings(record)
    names = {field.name for field in dataclasses.fields(record)}  # type: ignore[arg-type]
    assert names == set(said)
    assert all(meaning.endswith(".") for meaning in said.values())


def test_the_configuration_tables_are_up_to_date() -> None:
    """When this fails: ``python -m tests.support.readme_tables``."""
    assert filled(TEXT) == TEXT


def test_every_public_name_is_documented() -> None:
    assert [name for name in routecache_middleware.__all__ if f"`{name}`" not in TEXT] == []


def test_every_public_method_is_documented() -> None:
    methods = [name for name in dir(RouteCache) if not name.startswith("_")]
    assert [name for name in methods if f"`{name}" not in TEXT and name != "settings"] == []


def test_every_reason_is_documented() -> None:
    reasons = [*BypassReason, *MissReason, *DiscardReason]
    assert [str(reason) for reason in reasons if f"`{reason}`" not in TEXT] == []


def test_every_detail_of_cache_status_is_documented() -> None:
    """Of bypasses it is the reason, which a table has."""
    paragraph = TEXT.partition("`detail` of `Cache-Status` says more")[2].partition("\n\n")[0]
    said = [cache_status.forwarded(reason).decode() for reason in MissReason]
    said.append(cache_status.unjoined().decode())
    words = {text.partition("detail=")[2] for text in said} - {""}
    for word in words | {"stale-while-revalidate", "stale-if-error", "max-stale"}:
        assert f"`{word}`" in paragraph


def test_every_outcome_that_clients_can_see_is_documented() -> None:
    shown = {Outcome.HIT, Outcome.MISS, Outcome.COALESCED, Outcome.BYPASS}
    assert [outcome for outcome in shown if f"`{outcome.upper()}`" not in TEXT] == []


def test_the_ttl_table_says_what_the_profiles_say() -> None:
    for field in ("routing_ttl_s", "result_ttl_s", "metadata_ttl_s", "load_ttl_s"):
        row = " / ".join(f"{PROFILES[name][field]:g} s" for name in PROFILES)
        assert row in TEXT, field
