"""Trap 5: a handle that survives a fork seems to work in the child, and that is the trap."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from routecache_middleware.coordinators.lmdb.coordinator import LmdbCoordinator
from routecache_middleware.core.models import START
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.contract import KEY, row
from tests.coordinators.lmdb.support import ROOT


async def run(case: str, path: Path) -> Any:
    """Run a case of :mod:`tests.coordinators.lmdb.forks`."""
    done = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-W", "ignore::DeprecationWarning"),
            *("-m", "tests.coordinators.lmdb.forks", case, str(path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_parent_and_child_both_go_on_after_a_fork(path: Path) -> None:
    child, parent = await run("fork_while_open", path)
    assert child == [True, "parent", "Found"]
    assert parent == ["again", "child", ["all", "model:m"]]


async def test_what_is_pending_at_a_fork_is_written_by_the_parent_alone(path: Path) -> None:
    assert await run("fork_with_pending", path) == [0, "pending"]


async def test_children_born_while_the_parent_is_busy_all_work(path: Path) -> None:
    assert await run("fork_under_load", path) == ["parent"]


async def test_a_child_of_a_process_whose_writer_is_stuck_refuses(path: Path) -> None:
    """Its handle could not be closed in time, and using it would do harm in the parent."""
    assert await run("fork_while_stuck", path) == ["CoordinatorError", True, "parent"]


async def test_pools_that_fork_share_the_file(path: Path) -> None:
    assert await run("multiprocessing_fork", path) == ["parent"]


async def test_a_handle_of_another_process_is_refused(lmdb: LmdbCoordinator) -> None:
    """For forks that Python is not told of: by a C library, say."""
    assert lmdb._shared is not None
    environment = lmdb._shared.environment
    environment.pid, environment._checked_s = os.getppid(), 0.0
    try:
        assert lmdb.fetch_now((KEY,), START) is None
        with pytest.raises(CoordinatorError, match="forked"):
            await lmdb.append((row("m"),))
        with pytest.raises(CoordinatorError, match="forked"):
            await lmdb.fetch((KEY,), START)
    finally:
        environment.pid = os.getpid()
