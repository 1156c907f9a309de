"""Starts Phoenix, unless there is one, and asks it what it was told."""

import os
import shlex
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from examples.quickstart_children import ChildError, Children

PROJECT = "routecache"
START_TIMEOUT_S = 180.0
_KNOWS_TIMEOUT_S = 60.0
_PAGE = 1000
_COSTS = """{ projects { edges { node { name spans(first: 1000) { edges { node {
  spanId costSummary { total { cost } } } } } } } } }"""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A span as Phoenix has it.

    Attributes:
        name: Its name.
        kind: Phoenix's own kind, such as ``LLM``.
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
        parent_id: The same, or None.
        attributes: By their whole names.
        cost_usd: What Phoenix reckons that it cost; None: nothing that it has a price for.
    """

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str | None
    attributes: Mapping[str, Any]
    cost_usd: float | None = None


def start(children: Children, command: str, folder: Path) -> str:
    """Start ``command serve``, which keeps what it is told in ``folder``; returns its URL.

    Raises:
        ChildError: It does not come up.
    """
    port, grpc_port = _free_ports()
    environment = {
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc_port),
        "PHOENIX_WORKING_DIR": str(folder),
        # Nothing of what this machine shows leaves it, and the page loads nothing from outside.
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "OTEL_SDK_DISABLED": "true",
    }
    try:
        children.spawn("phoenix", [*shlex.split(command), "serve"], environment=environment)
    except OSError as error:
        raise ChildError(
            f"Phoenix cannot be started with {command!r}: {error.strerror}; put its command into "
            "PHOENIX, the address of one that is running into PHOENIX_URL, or let run.sh install it"
        ) from error
    url = f"http://127.0.0.1:{port}"
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        children.check()
        try:
            httpx.get(f"{url}/healthz", timeout=5).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return url
    raise ChildError(f"Phoenix did not come up within {START_TIMEOUT_S:.0f} s\n{children.logs()}")


def wait_for_spans(url: str, since: str, wanted: int) -> list[Span]:
    """Wait until Phoenix has that many spans that began at ``since`` or later; returns them.

    Returns what there is if they do not come.
    """
    deadline_s = time.monotonic() + _KNOWS_TIMEOUT_S
    while True:
        found = spans(url, since)
        if len(found) >= wanted or time.monotonic() > deadline_s:
            return found
        time.sleep(0.5)


def spans(url: str, since: str) -> list[Span]:
    """Return the spans of our project that began at ``since`` or later, an ISO 8601 time."""
    with httpx.Client(base_url=url, headers=_headers(), timeout=30) as client:
        answer = client.get(
            f"/v1/projects/{PROJECT}/spans", params={"limit": _PAGE, "start_time": since}
        )
        if answer.status_code == httpx.codes.NOT_FOUND:  # a project begins with its first span
            return []
        found = answer.raise_for_status().json()["data"]
        costs = _costs(client)
    return [_span(one, costs) for one in found]


def _costs(client: httpx.Client) -> Mapping[str, float]:
    """Return what spans cost, by their ids: Phoenix tells it through GraphQL alone."""
    answer = client.post("/graphql", json={"query": _COSTS}).raise_for_status().json()
    return {
        span["node"]["spanId"]: cost["total"]["cost"]
        for project in answer["data"]["projects"]["edges"]
        if project["node"]["name"] == PROJECT
        for span in project["node"]["spans"]["edges"]
        if (cost := span["node"]["costSummary"])
    }


def _span(one: Mapping[str, Any], costs: Mapping[str, float]) -> Span:
    return Span(
        name=one["name"],
        kind=one["span_kind"],
        trace_id=one["context"]["trace_id"],
        span_id=one["context"]["span_id"],
        parent_id=one["parent_id"],
        attributes=one["attributes"],
        cost_usd=costs.get(one["context"]["span_id"]),
    )


def _headers() -> dict[str, str]:
    key = os.environ.get("PHOENIX_API_KEY")
    return {"authorization": f"Bearer {key}"} if key else {}


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as o:
        return int(one.getsockname()[1]), int(o.getsockname()[1])
