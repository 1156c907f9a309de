"""Starts a model, a gateway and Prometheus, asks a little, and shows what Prometheus knows."""

import os
import re
import socket
import sys
import tempfile
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from examples.quickstart_children import ChildError, Children, report_failure
from examples.quickstart_start import ROOT, START_TIMEOUT_S, upstream_environment

FOLDER = Path(__file__).parent
QUESTIONS = 4
TIMES = 5
_TARGET = "127.0.0.1:8000"  # in prometheus.yml
# What `routecache gateway --admin --port 0` runs. Nothing else is let in without a token but this
# machine, which is where Prometheus is.
GATEWAY = [
    *(sys.executable, "-u", "-m", "routecache_middleware.cli.main"),
    *("gateway", "--admin", "--port", "0"),
]
_LISTENING_ON = re.compile(r"Listening on (http://[^\s,]+)")
_LISTENING = re.compile(r"Server is ready to receive web requests")
_SHOWN = {
    "gateways that answer": 'sum(up{job="routecache-nodes"})',
    "lookups that hit": 'sum(routecache_lookups_total{routecache_outcome="hit"})',
    "lookups that missed": 'sum(routecache_lookups_total{routecache_outcome="miss"})',
    "tokens saved": "sum(routecache_saved_tokens_total)",
    "seconds saved": "sum(routecache_saved_time_seconds_total)",
    "entries": "sum(routecache_entry_count)",
}


def run(*, is_terminal: bool) -> int:
    """Start everything and show it; returns the exit status.

    It stays until a signal ends it; with ``--check`` until Prometheus is seen to know it all.
    """
    return report_failure(_run, is_terminal=is_terminal)


def _run(console: Console) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="routecache-") as folder,
        Children(Path(folder), ROOT) as children,
    ):
        upstream = upstream_environment(children, console)
        environment = {
            "ROUTECACHE_GATEWAY_UPSTREAM": upstream["UPSTREAM_BASE_URL"],
            # Prometheus sends none: see prometheus.yml.
            "ROUTECACHE_ADMIN_TOKEN": "",
            "ROUTECACHE_ADMIN_READ_TOKEN": "",
        }
        if key := upstream.get("UPSTREAM_API_KEY"):
            environment |= {
                "UPSTREAM_API_KEY": key,
                "ROUTECACHE_GATEWAY_API_KEY_ENV": "UPSTREAM_API_KEY",
            }
        children.spawn("gateway", GATEWAY, environment=environment)
        url = children.wait_for("gateway", _LISTENING_ON, timeout_s=START_TIMEOUT_S)[1]
        prometheus = _start_prometheus(children, Path(folder), url)
        console.print(f"Gateway:    {url}   (metrics: {url}/routecache/metrics)", highlight=False)
        console.print(f"Prometheus: {prometheus}   (alerts: {prometheus}/alerts)", highlight=False)
        try:
            _ask(url, upstream.get("SMALL_MODEL", "gemma-3-270m"))
            found = _known(prometheus, children)
        except httpx.HTTPError as error:
            children.check()
            raise ChildError(f"a call failed: {error}\n{children.logs()}") from error
        _show(console, found)
        while "--check" not in sys.argv[1:]:
            time.sleep(0.5)
            children.check()
    return 0


def _start_prometheus(children: Children, folder: Path, gateway: str) -> str:
    """Start Prometheus with the configuration beside this file, made for this gateway."""
    text = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    config = folder / "prometheus.yml"
    config.write_text(text.replace(_TARGET, gateway.partition("://")[2]), encoding="utf-8")
    rules = FOLDER / "routecache.rules.yml"
    (folder / rules.name).write_text(rules.read_text(encoding="utf-8"), encoding="utf-8")
    address = _free_address()
    children.spawn(
        "prometheus",
        [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address={address}",
        ],
    )
    children.wait_for("prometheus", _LISTENING, timeout_s=60)
    return f"http://{address}"


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def _ask(url: str, model: str) -> None:
    """Ask a few questions, each several times."""
    headers = {"authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', 'none')}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        for number in range(QUESTIONS * TIMES):
            question = f"What is {number % QUESTIONS} plus one?"
            body = {
                "model": model,
                "max_tokens": 16,
                "temperature": 0,
                "messages": [{"role": "user", "content": question}],
            }
            client.post("/v1/chat/completions", json=body).raise_for_status()


def _known(prometheus: str, children: Children) -> dict[str, float]:
    """Wait until Prometheus has it all, and return what it says.

    Raises:
        ChildError: It has not, after several scrapes.
    """
    deadline_s = time.monotonic() + 30
    found: dict[str, float] = {}
    while time.monotonic() < deadline_s:
        children.check()
        found = {name: _value(prometheus, query) for name, query in _SHOWN.items()}
        if found["lookups that hit"] == QUESTIONS * (TIMES - 1) and _has_rules(prometheus):
            return found
        time.sleep(0.5)
    raise ChildError(f"Prometheus does not know what it should: {found}\n{children.logs()}")


def _value(prometheus: str, query: str) -> float:
    answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}).raise_for_status()
    result = answer.json()["data"]["result"]
    return float(result[0]["value"][1]) if result else 0.0


def _has_rules(prometheus: str) -> bool:
    """Whether all rules were evaluated, without an error."""
    answer = httpx.get(f"{prometheus}/api/v1/rules").raise_for_status()
    rules = [rule for group in answer.json()["data"]["groups"] for rule in group["rules"]]
    return bool(rules) and all(rule["health"] == "ok" for rule in rules)


def _show(console: Console, found: dict[str, float]) -> None:
    table = Table("in Prometheus", "now", title=f"{QUESTIONS} questions, each asked {TIMES} times")
    for name, value in found.items():
        table.add_row(name, f"{value:g}")
    console.print(table)
