"""Several workers of one machine answer from one file, under the servers that people use."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.coordinators.lmdb.support import ROOT
from tests.support.chat import ask

PROMPTS = 6
APP = "tests.coordinators.lmdb.workers_app"

UVICORN = ["uvicorn", "--workers", "4", "--factory", f"{APP}:app", "--log-level", "warning"]
WORKER = "uvicorn_worker.UvicornWorker"
GUNICORN = ["gunicorn", "--workers", "4", "--worker-class", WORKER, "--log-level", "warning"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert isinstance(port, int)
        return port


def start(command: list[str], tmp_path: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own."""
    where = ["--bind", f"127.0.0.1:{port}"] if "gunicorn" in command else ["--port", f"{port}"]
    environment = {
        **os.environ,
        "ROUTECACHE_URL": f"lmdb://{tmp_path}/cache",
        "CALLS": f"{tmp_path}/calls",
    }
    (tmp_path / "calls").touch()
    with (tmp_path / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *command, *where],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


@asynccontextmanager
async def served(command: list[str], tmp_path: Path) -> AsyncIterator[str]:
    """Run a server, and end it with all of its workers."""
    port = free_port()
    process = start(command, tmp_path, port)
    try:
        yield f"http://127.0.0.1:{port}/v1/chat/completions"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, 20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


async def post(url: str, prompt: str) -> tuple[str, str]:
    """Ask on a connection of its own; returns the outcome and the worker that answered."""
    async with httpx.AsyncClient(timeout=20) as client:
        headers = {"authorization": "Bearer k", "content-type": "application/json"}
        response = await client.post(url, content=ask(prompt), headers=headers)
    assert response.status_code == 200, response.text
    assert json.loads(response.content)["choices"]
    return response.headers["x-routecache"], response.headers["x-worker"]


async def wait_until_up(url: str, tmp_path: Path) -> None:
    """Wait until at least three workers answer."""
    workers: set[str] = set()
    for _ in range(600):
        try:
            workers.add((await post(url, "warm up"))[1])
        except httpx.TransportError:
            await asyncio.sleep(0.1)
        if len(workers) >= 3:
            return
    raise AssertionError((tmp_path / "log").read_text())


@pytest.mark.parametrize(
    "command",
    [
        UVICORN,
        [*GUNICORN, "--preload", f"{APP}:app()"],
        [*GUNICORN, "--preload", f"{APP}:preloaded()"],
    ],
    ids=["uvicorn", "gunicorn-preload", "gunicorn-preload-opened"],
)
async def test_what_one_worker_made_every_worker_serves(tmp_path: Path, command: list[str]) -> None:
    async with served(command, tmp_path) as url:
        await wait_until_up(url, tmp_path)
        before = (tmp_path / "calls").stat().st_size
        for number in range(PROMPTS):
            outcome, _ = await post(url, f"{number}")
            assert outcome == "MISS"
        await asyncio.sleep(0.3)  # stored after the answer has left
        answers = [await post(url, f"{number % PROMPTS}") for number in range(60)]
        assert (tmp_path / "calls").stat().st_size - before == PROMPTS
    assert Counter(outcome for outcome, _ in answers) == {"HIT": 60}
    assert len({worker for _, worker in answers}) >= 2
    assert "Traceback" not in (tmp_path / "log").read_text()
