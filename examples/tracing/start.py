"""Starts a model, a traced gateway and Phoenix, asks a little, and shows what Phoenix knows."""

import asyncio
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
from rich.console import Console

from examples.quickstart_children import ChildError, Children, report_failure
from examples.quickstart_start import ROOT, upstream_environment
from examples.tracing import phoenix, seen
from examples.tracing.questions import ask_all, steps_table, unexpected

START_TIMEOUT_S = 180.0
_LOOKED_AT = {
    "A hit:": "cache.get result hit",
    "A follower:": "cache.wait result coalesced",
    "A refresh:": "cache.refresh result",
}


def run(*, is_terminal: bool) -> int:
    """Start everything and show it; returns the exit status.

    It stays until a signal ends it; with ``--check`` until it is known whether all is as it should
    be.
    """
    return report_failure(_run, is_terminal=is_terminal)


def _run(console: Console) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="routecache-") as folder,
        Children(Path(folder), ROOT) as children,
    ):
        shown_at = _phoenix(children, Path(folder), console)
        collector = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or shown_at
        upstream = upstream_environment(children, console)
        url = children.start(
            "gateway",
            ["uvicorn", "examples.tracing.gateway:app", "--port", "0", "--no-use-colors"],
            environment={**upstream, **_traced(collector)},
            timeout_s=START_TIMEOUT_S,
        )
        console.print(f"Gateway ready: {url}; its spans go to {collector}", highlight=False)
        began = datetime.now(UTC).isoformat()
        try:
            problems = _ask(url, upstream.get("SMALL_MODEL", "gemma-3-270m"), console)
            if shown_at:
                problems += _show(shown_at, began, console)
        except httpx.HTTPError as error:
            children.check()
            raise ChildError(f"a call failed: {error}\n{children.logs()}") from error
        for problem in problems:
            console.print(problem, style="bold red", markup=False)
        if "--check" not in sys.argv[1:]:
            _stay(children, console)
    return 1 if problems else 0


def _phoenix(children: Children, folder: Path, console: Console) -> str:
    """Return where Phoenix is; empty if spans go to something else."""
    if url := os.environ.get("PHOENIX_URL"):
        console.print(f"Using the Phoenix at {url}", highlight=False)
        return url.rstrip("/")
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return ""
    command = os.environ.get("PHOENIX") or "phoenix"
    with console.status("Starting Phoenix ..."):
        url = phoenix.start(children, command, folder / "phoenix")
    console.print(f"Phoenix ready: {url}", highlight=False)
    return url


def _traced(collector: str) -> dict[str, str]:
    """Return what the SDK in the gateway is told, in its own variables."""
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_SERVICE_NAME": "gateway",
        "OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={phoenix.PROJECT}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",  # ms: whoever looks on does not want to wait for 5 s
        "ROUTECACHE_RESULT_STALE_WHILE_REVALIDATE_S": "60",
    }
    if key := os.environ.get("PHOENIX_API_KEY"):
        environment["OTEL_EXPORTER_OTLP_HEADERS"] = f"authorization=Bearer%20{key}"
    return environment


def _ask(url: str, model: str, console: Console) -> list[str]:
    steps = asyncio.run(ask_all(url, model))
    console.print(steps_table(steps))
    return unexpected(steps)


def _show(url: str, began: str, console: Console) -> list[str]:
    spans = phoenix.wait_for_spans(url, began, sum(seen.EXPECTED.values()))
    console.print(seen.seen_table(spans))
    console.print(f"All of them:  {url}/projects", highlight=False, soft_wrap=True)
    for label, name in _LOOKED_AT.items():
        if found := seen.example(name, spans):
            span, other = (f"{url}/redirects/spans/{one.span_id}" for one in found)
            console.print(f"{label:<13} {span}", highlight=False, soft_wrap=True)
            console.print(f"  links to    {other}", highlight=False, soft_wrap=True)
    return seen.unexpected(spans)


def _stay(children: Children, console: Console) -> None:
    console.print("Ctrl-C ends it all.")
    while True:
        time.sleep(0.5)
        children.check()
