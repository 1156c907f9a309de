"""Starts what the quickstart needs - a model server and the gateway - and takes the tour."""

import asyncio
import os
import tempfile
import time
from pathlib import Path

import httpx
import openai
from rich.console import Console

from examples.quickstart_children import ChildError, Children, report_failure
from examples.quickstart_tour import tour

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 180.0


def upstream_environment(children: Children, console: Console) -> dict[str, str]:
    """Return the gateway's environment: the API that was asked for, or our own model server."""
    url, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    if url and key:
        console.print(f"Using the API at {url}", highlight=False)
        return {
            "UPSTREAM_BASE_URL": url,
            "UPSTREAM_API_KEY": key,
            "SMALL_MODEL": os.environ.get("SMALL_MODEL", "gpt-4.1-nano"),
            "LARGE_MODEL": os.environ.get("LARGE_MODEL", "gpt-4.1-mini"),
        }
    began_s = time.monotonic()
    with console.status("Loading the model (Gemma 3 270M, on this machine) ..."):
        url = children.start(
            "model server",
            ["examples.model_server"],
            environment={},
            timeout_s=START_TIMEOUT_S,
        )
    took_s = time.monotonic() - began_s
    console.print(f"Model server ready after {took_s:.1f} s: {url}", highlight=False)
    return {"UPSTREAM_BASE_URL": url}


def run(*, is_terminal: bool) -> int:
    """Start everything, take the tour, end everything; returns the exit status."""
    return report_failure(_run, is_terminal=is_terminal)


def _run(console: Console) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="routecache-") as folder,
        Children(Path(folder), ROOT) as children,
    ):
        spans_file = Path(folder, "spans.log")
        environment = {**upstream_environment(children, console), "SPANS_FILE": str(spans_file)}
        with console.status("Starting the gateway ..."):
            url = children.start(
                "gateway",
                ["uvicorn", "examples.gateway:app", "--port", "0", "--no-use-colors"],
                environment=environment,
                timeout_s=START_TIMEOUT_S,
            )
        console.print(f"Gateway ready: {url}", highlight=False)
        try:
            return asyncio.run(tour(url, spans_file, console))
        except (openai.OpenAIError, httpx.HTTPError) as error:
            children.check()
            raise ChildError(f"a call failed: {error}\n{children.logs()}") from error
