"""Starts what the tour needs - a model, a counter in front of it, the proxy - and takes it."""

import asyncio
import os
import secrets
import socket
import sys
import tempfile
import time
from pathlib import Path

import httpx
import openai
from rich.console import Console

from examples.litellm_proxy.tour import take
from examples.quickstart_children import RUNNING_ON, ChildError, Children
from examples.quickstart_report import TABLE_WIDTH

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("config.yaml")
START_TIMEOUT_S = 180.0


def run(*, is_terminal: bool) -> int:
    """Start everything, take the tour, end everything; returns the exit status."""
    console = Console(width=None if is_terminal else TABLE_WIDTH)
    try:
        return _run(console)
    except ChildError as error:
        Console(stderr=True, soft_wrap=True).print(str(error), markup=False, highlight=False)
        return 1


def _run(console: Console) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="routecache-") as folder,
        Children(Path(folder), ROOT) as children,
    ):
        counter = _start_counter(children, _model_url(children, console))
        key = f"sk-{secrets.token_hex(16)}"
        began_s = time.monotonic()
        with console.status("Starting LiteLLM's proxy ..."):
            url = _start_proxy(children, key, counter)
        took_s = time.monotonic() - began_s
        console.print(f"LiteLLM's proxy ready after {took_s:.1f} s: {url}", highlight=False)
        try:
            return asyncio.run(take(url, key, counter, console))
        except (openai.OpenAIError, httpx.HTTPError) as error:
            children.check()
            raise ChildError(f"a call failed: {error}\n{children.logs()}") from error


def _model_url(children: Children, console: Console) -> str:
    if url := os.environ.get("MODEL_URL"):
        console.print(f"Asking the model at {url}", highlight=False)
        return url
    with console.status("Loading the model (Gemma 3 270M, on this machine) ..."):
        url = children.start(
            "model server", ["examples.model_server"], environment={}, timeout_s=START_TIMEOUT_S
        )
    console.print(f"Model server ready: {url}", highlight=False)
    return url


def _start_counter(children: Children, model_url: str) -> str:
    return children.start(
        "counter",
        ["uvicorn", "examples.litellm_proxy.counter:app", "--port", "0", "--no-use-colors"],
        environment={"COUNTED_URL": model_url},
        timeout_s=START_TIMEOUT_S,
    )


def _start_proxy(children: Children, key: str, counter: str) -> str:
    with socket.socket() as listener:  # the proxy itself looks for no free port
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    command = [sys.executable, "-u", "-m", "litellm.proxy.proxy_cli", "--config", str(CONFIG)]
    children.spawn(
        "proxy",
        [*command, "--host", "127.0.0.1", "--port", port],
        environment={
            "MODEL_URL": f"{counter}/v1",
            "LITELLM_MASTER_KEY": key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # the list of prices that is installed
        },
    )
    return children.wait_for("proxy", RUNNING_ON, timeout_s=START_TIMEOUT_S)[1]
