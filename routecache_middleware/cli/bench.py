"""``routecache bench``: how fast a gateway answers, and how much faster from the cache."""

import asyncio
import math
import os
import secrets
import time
from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from routecache_middleware.cli.checking import Finite, check_address
from routecache_middleware.cli.showing import (
    AS_JSON,
    address,
    console,
    figure,
    period,
    say,
    table,
    tell,
)

if TYPE_CHECKING:
    import httpx

__all__ = ["bench"]

_NOT_OURS = "-"
_FAILED = 1
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@click.command("bench", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("url", metavar="URL")
@click.option("--model", "-m", default="gpt-4o-mini", show_default=True, help="What to ask for.")
@click.option(
    "--requests",
    "-n",
    default=200,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="How many requests.",
)
@click.option(
    "--distinct",
    "-d",
    default=10,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many different questions: about so many calls reach the model, and cost money.",
)
@click.option(
    "--connections",
    "-k",
    default=8,
    show_default=True,
    type=click.IntRange(1, 1_000),
    help="How many requests at once.",
)
@click.option("--stream", is_flag=True, help="Ask for streams.")
@click.option(
    "--api-key-env",
    default="OPENAI_API_KEY",
    show_default=True,
    metavar="NAME",
    help="Environment variable with the API key.",
)
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    type=Finite(min=0, min_open=True),
    help="For how long an answer may take.",
)
@AS_JSON
def bench(
    *,
    url: str,
    model: str,
    requests: int,
    distinct: int,
    connections: int,
    stream: bool,
    api_key_env: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Ask the gateway at URL short questions over and over, and say how long answers took.

    URL is its base URL, as a client library is given it. The questions are new ones, so that the
    first time each of them reaches the model; with --distinct 10 that is ten calls or a few more.

    Exit codes: 0 done, 1 some requests failed, or all, 2 wrong arguments.
    """
    check_address(url)
    load = _Load(url, model, distinct, is_streamed=stream)
    key = os.environ.get(api_key_env, "none").strip()
    if not (key.isascii() and key.isprintable()):
        raise click.ClickException(
            f"the variable {api_key_env} holds <hidden>; a key is printable ASCII"
        )
    took_s = asyncio.run(load.run(requests, connections, key, timeout))
    found = load.report(took_s)
    if as_json:
        tell(found)
    else:
        _show(found)
    if found["failed"]:
        raise SystemExit(_FAILED)


class _Load:
    """Asks, and notes how long each answer took."""

    def __init__(self, url: str, model: str, distinct: int, *, is_streamed: bool) -> None:
        base = url.rstrip("/")
        self._url = (
            f"{base}/chat/completions" if base.endswith("/v1") else f"{base}/v1/chat/completions"
        )
        run = secrets.token_hex(4)
        self._bodies = [
            {
                "model": model,
                "max_tokens": 16,
                "temperature": 0,
                "stream": is_streamed,
                "messages": [{"role": "user", "content": f"Question {run}-{n}: say one word."}],
            }
            for n in range(distinct)
        ]
        self._took_s: dict[str, list[float]] = defaultdict(list)
        self._failed: dict[str, int] = defaultdict(int)
        self._next = 0

    async def run(self, requests: int, connections: int, key: str, timeout_s: float) -> float:
        """Ask so many times; returns how long all of it took."""
        import httpx  # noqa: PLC0415 - not for --help

        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {key}"}, timeout=timeout_s, limits=limits
        )
        async with client:
            with _progress(requests) as progress:
                began_s = time.perf_counter()
                await asyncio.gather(
                    *(self._ask_on(client, requests, progress) for _ in range(connections))
                )
                return time.perf_counter() - began_s

    def report(self, took_s: float) -> dict[str, Any]:
        """Return what was found."""
        answered = sum(map(len, self._took_s.values()))
        return {
            "url": address(self._url),
            "requests": answered + sum(self._failed.values()),
            "failed": dict(self._failed),
            "took_s": round(took_s, 3),
            "per_second": round(answered / took_s, 2) if took_s else None,
            "outcomes": {
                outcome: {
                    "requests": len(every),
                    **{name: _quantile(every, part) for name, part in _QUANTILES.items()},
                }
                for outcome, every in sorted(self._took_s.items())
            },
        }

    async def _ask_on(self, client: "httpx.AsyncClient", requests: int, progress: Any) -> None:
        import httpx  # noqa: PLC0415 - not for --help

        while self._next < requests:
            body = self._bodies[self._next % len(self._bodies)]
            self._next += 1
            began_s = time.perf_counter()
            try:
                response = await client.post(self._url, json=body)
            except httpx.HTTPError as error:
                self._failed[type(error).__name__] += 1
            else:
                self._note(response, time.perf_counter() - began_s)
            if progress is not None:
                progress.advance(progress.task_ids[0])

    def _note(self, response: "httpx.Response", took_s: float) -> None:
        if response.is_success:
            self._took_s[response.headers.get("x-routecache", _NOT_OURS)].append(took_s)
        else:
            self._failed[f"HTTP {response.status_code}"] += 1


def _quantile(values: list[float], part: float) -> float:
    """Return the smallest value that so many are not above, seconds."""
    return round(sorted(values)[max(0, math.ceil(part * len(values)) - 1)], 6)


def _show(found: dict[str, Any]) -> None:
    rows = [
        (outcome, figure(row["requests"]), *(period(row[name]) for name in _QUANTILES))
        for outcome, row in found["outcomes"].items()
    ]
    if rows:
        say(table(f"Answers of {found['url']}", ("outcome", "requests", *_QUANTILES), rows))
    else:
        say(f"No answer of {found['url']}: is URL the base URL of a gateway that runs?")
    say(
        f"{figure(found['requests'])} requests in {period(found['took_s'])}: "
        f"{figure(found['per_second'])} answers a second."
    )
    if _NOT_OURS in found["outcomes"]:
        say("Answers without X-RouteCache: no cache of this package has seen them.")
    for name, count in found["failed"].items():
        say(f"{figure(count)} failed: {name}")


def _progress(total: int) -> AbstractContextManager[Any]:
    from rich.progress import Progress  # noqa: PLC0415 - not for --help

    where = console(is_error=True)
    if not where.is_terminal:
        return nullcontext()
    progress = Progress(console=where, transient=True)
    progress.add_task("Asking", total=total)
    return progress
