"""Load for one server: ``wrk`` when it is installed, else a client of our own in its own process.

Both keep 16 connections busy, or as many as they are told, one request at a time on each, and put a
number in the place of the body's ``@`` when every request has to be a new one.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

CONNECTIONS = 16


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to send: ``body`` to ``url`` for ``seconds``, with a nonce when ``is_unique``.

    One request at a time on each of ``connections``.
    """

    url: str
    authorization: str
    body: bytes
    is_unique: bool
    seconds: float
    connections: int = CONNECTIONS


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What came of it: requests answered, requests per second, and latency in milliseconds."""

    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


def generator() -> str:
    """Name of the load generator that :func:`run_load` uses."""
    return "wrk" if shutil.which("wrk") else "asyncio client"


def run_load(load: Load) -> Sample:
    """Send load, and return what came of it."""
    if wrk := shutil.which("wrk"):
        return _run_wrk(wrk, load)
    request = {**vars(load), "body": load.body.decode()}
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load", json.dumps(request)],
        check=True,
        capture_output=True,
    )
    return Sample(**json.loads(done.stdout))


_WRK_SCRIPT = """\
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = {authorization}
local head, tail, unique, count = {head}, {tail}, {unique}, 0
wrk.body = head .. "0" .. tail
if unique then
  request = function()
    count = count + 1
    return wrk.format(nil, nil, nil, head .. {seed} .. count .. tail)
  end
end
done = function(summary, latency)
  local errors = summary.errors
  io.stderr:write(string.format(
    '{{"requests": %d, "requests_per_s": %f, "p50_ms": %f, "p99_ms": %f, "errors": %d}}',
    summary.requests, summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def _run_wrk(wrk: str, load: Load) -> Sample:
    head, _, tail = load.body.decode().partition("@")
    script = _WRK_SCRIPT.format(
        authorization=json.dumps(load.authorization),
        head=json.dumps(head),  # ASCII text: a JSON string is a Lua string
        tail=json.dumps(tail),
        unique="true" if load.is_unique else "false",
        seed=json.dumps(f"{time.monotonic_ns()}-"),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "load.lua")
        path.write_text(script, encoding="ascii")
        command = [wrk, "-t1", f"-c{load.connections}", f"-d{load.seconds:.0f}s", "-s", str(path)]
        done = subprocess.run([*command, load.url], check=True, capture_output=True, text=True)
    return Sample(**json.loads(done.stderr))


class _Connection(asyncio.Protocol):
    """One connection: sends a request, waits for the whole answer, sends the next."""

    def __init__(self, next_request: Callable[[], bytes], latencies_s: list[float]) -> None:
        self._next_request = next_request
        self._latencies_s = latencies_s
        self._received = b""
        self._sent_s = 0.0
        self._transport: asyncio.Transport | None = None
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self.errors += exc is not None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or not _is_whole(head.lower(), body):
            return
        self._latencies_s.append(time.perf_counter() - self._sent_s)
        self.errors += not head.startswith(b"HTTP/1.1 200")
        self._received = b""
        self._send()

    def _send(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._sent_s = time.perf_counter()
            self._transport.write(self._next_request())


def _is_whole(head: bytes, body: bytes) -> bool:
    _, has_length, rest = head.partition(b"content-length:")
    if has_length:
        return len(body) >= int(rest.partition(b"\r\n")[0])
    return body.endswith(b"0\r\n\r\n")


def _as_it_is(connection: _Connection) -> _Connection:
    return connection


async def _run_client(load: Load) -> Sample:
    where = urlsplit(load.url)
    before, _, after = load.body.partition(b"@")
    seed, count = time.monotonic_ns(), 0

    def next_request() -> bytes:
        nonlocal count
        count += load.is_unique
        body = before + (f"{seed}-{count}".encode() if load.is_unique else b"0") + after
        return b"POST %s HTTP/1.1\r\n%s\r\n%s" % (where.path.encode(), fields % len(body), body)

    fields = (
        f"host: {where.netloc}\r\nauthorization: {load.authorization}\r\n"
        "content-type: application/json\r\ncontent-length: %d\r\n"
    ).encode()
    latencies_s: list[float] = []
    connections = [_Connection(next_request, latencies_s) for _ in range(load.connections)]
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(
            partial(_as_it_is, one), where.hostname or "", where.port or 80
        )
        for one in connections
    ]
    await asyncio.sleep(load.seconds)
    for transport, _ in opened:
        transport.abort()
    latencies_s.sort()
    return Sample(
        requests=len(latencies_s),
        requests_per_s=len(latencies_s) / load.seconds,
        p50_ms=latencies_s[len(latencies_s) // 2] * 1000,
        p99_ms=latencies_s[len(latencies_s) * 99 // 100] * 1000,
        errors=sum(one.errors for one in connections),
    )


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("load")
    given = json.loads(parser.parse_args().load)
    load = Load(**{**given, "body": given["body"].encode()})
    print(json.dumps(vars(asyncio.run(_run_client(load)))))


if __name__ == "__main__":
    _main()
