"""``routecache gateway --workers``: real processes on one port, killed, stopped and replaced."""

import contextlib
import json
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from routecache_middleware.errors import ConfigurationError
from routecache_middleware.gateway import supervisor
from routecache_middleware.gateway.app import Gateway
from routecache_middleware.gateway.settings import GatewaySettings
from routecache_middleware.gateway.supervisor import serve_several
from routecache_middleware.gateway.worker import Blueprint
from tests.admin.kit import TOKEN
from tests.gateway.kit import COMPLETION, chat, gateway
from tests.gateway.test_command import SSE, Process, client_of, started
from tests.support.child import wait_until
from tests.support.raw_upstream import Arrived, RawUpstream, answer, chunk, head

AUTH = {"authorization": f"Bearer {TOKEN}"}


def worker_ids(process: Process) -> set[int]:
    """Return the process ids of a gateway's workers."""
    pid = process.line["pid"]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in children if b"spawn_main" in _command(int(child))}


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@contextlib.contextmanager
def fleet(
    store: Path, upstream: RawUpstream, *arguments: str, workers: int = 2
) -> Iterator[Process]:
    given = ("--upstream", upstream.url, "--workers", str(workers), "--admin", *arguments)
    shared = {"ROUTECACHE_URL": f"lmdb://{store}", "ROUTECACHE_ADMIN_TOKEN": TOKEN}
    with started(*given, **shared) as process:
        yield process


def lookups(process: Process) -> int:
    """Return how many answers were looked up, as ``/metrics`` says."""
    text = httpx.get(f"{process.url}/routecache/metrics", headers=AUTH, trust_env=False).text
    found = re.findall(
        r'^routecache_lookups_total\{.*cache="result".*\} (\d+)$', text, re.MULTILINE
    )
    return sum(map(int, found))


class Load:
    """Clients that ask and ask, each time over a connection of its own.

    Attributes:
        failed: When requests were begun that were not answered, monotonic.
        answered: How many were.
    """

    CLIENTS = 4

    def __init__(self, process: Process) -> None:
        self._url = process.url
        self._stop = threading.Event()
        self.failed: list[tuple[float, str]] = []
        self.answered = 0
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(self.CLIENTS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            begun_s = time.monotonic()
            try:
                with httpx.Client(base_url=self._url, timeout=30, trust_env=False) as client:
                    found = chat(client, f"{number}: {count // 3}")  # a third of them are misses
                said = "" if found.json()["model"] == "m-upstream" else found.text
            except (httpx.HTTPError, ValueError, KeyError) as error:
                said = repr(error)
            with self._lock:
                if said:
                    self.failed.append((begun_s, said))
                else:
                    self.answered += 1


def test_a_killed_worker_takes_with_it_what_it_was_answering_and_nothing_else(
    tmp_path: Path,
) -> None:
    """``kill -9`` under load: whoever asks afterwards is answered, and the total only grows."""
    totals: list[int] = []
    with RawUpstream(answer(COMPLETION)) as upstream, fleet(tmp_path, upstream) as process:
        before = worker_ids(process)
        assert len(before) == 2
        with Load(process) as load:
            wait_until(lambda: load.answered > 30, "requests are answered")
            wait_until(lambda: lookups(process) > 30, "they are counted")
            totals.append(lookups(process))
            victim = before.pop()
            killed_s = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            so_far = load.answered
            while len(now := worker_ids(process) - {victim}) < 2:
                totals.append(lookups_or_last(process, totals))
                assert time.monotonic() - killed_s < 30
            assert before < now, "the other one is left alone"
            wait_until(lambda: load.answered > so_far + 30, "requests are answered by both")
            totals.append(lookups(process))
        assert all(at_s <= killed_s for at_s, _ in load.failed), load.failed
        assert len(load.failed) <= Load.CLIENTS, load.failed
        counted = _settled(process)
        totals.append(counted)
        assert totals == sorted(totals), "a counter went back"
        with client_of(process) as client:
            for number in range(7):
                assert chat(client, f"after {number}").status_code == 200
        wait_until(lambda: lookups(process) == counted + 7, "the total goes on")
        process.stop()
        code, said = process.ended()
    assert (code, "Traceback" in said) == (0, False), said
    assert (
        f"worker {victim} of the gateway has ended (signal 9: killed, out of memory, or it" in said
    )


def lookups_or_last(process: Process, totals: list[int]) -> int:
    try:
        return lookups(process)
    except httpx.HTTPError:  # it was this one's worker that was killed
        return totals[-1]


def _settled(process: Process) -> int:
    """Return the total once it grows no more: each worker writes its numbers once a second."""
    found = [lookups(process)]
    until_s = time.monotonic() + 3
    while time.monotonic() < until_s:
        time.sleep(0.2)
        if (now := lookups(process)) != found[-1]:
            found.append(now)
            until_s = time.monotonic() + 3
    assert found == sorted(found)
    return found[-1]


def test_streams_end_before_the_workers_do_and_live_ones_at_once(tmp_path: Path) -> None:
    rest = threading.Event()

    def reply(connection: socket.socket, _: Arrived) -> None:
        connection.sendall(head("200 OK", *SSE) + chunk(b"data: 1\n\n"))
        rest.wait(20)
        connection.sendall(chunk(b"data: 2\n\n") + chunk(b""))

    with RawUpstream(reply) as upstream, fleet(tmp_path, upstream) as process:
        with (
            client_of(process) as client,
            client.stream("GET", "/routecache/live", headers=AUTH) as live,
            _streaming(client) as response,
        ):
            frames, pieces = live.iter_lines(), response.iter_raw()
            assert json.loads(next(frames).removeprefix("data: "))["coordinator"] == "lmdb"
            assert next(pieces) == b"data: 1\n\n"
            begun_s = time.monotonic()
            process.stop()
            for _ in frames:  # as far as it had come, and no further
                pass
            assert time.monotonic() - begun_s < 8, "a live stream would have lasted 15 s"
            wait_until(lambda: _is_refused(process), "the port is closed")
            rest.set()
            assert b"".join(pieces) == b"data: 2\n\n"
        code, said = process.ended()
    assert (code, said) == (0, "")


def _streaming(client: httpx.Client) -> Any:
    body = {"model": "m", "messages": [], "stream": True}
    return client.stream(
        "POST", "/v1/chat/completions", json=body, headers={"authorization": "Bearer client"}
    )


def _is_refused(process: Process) -> bool:
    try:
        socket.create_connection(("127.0.0.1", httpx.URL(process.url).port or 0), 1).close()
    except OSError:
        return True
    return False


def test_workers_end_when_their_parent_is_killed_and_give_the_port_back(tmp_path: Path) -> None:
    with RawUpstream(answer(COMPLETION)) as upstream, fleet(tmp_path, upstream) as process:
        workers = worker_ids(process)
        os.kill(process.line["pid"], signal.SIGKILL)
        wait_until(lambda: not any(_command(pid) for pid in workers), "the workers end")
        assert _is_refused(process)
        code, said = process.ended()
    assert code == -signal.SIGKILL
    assert said.count("the gateway's first process is gone") == 2
    assert "Traceback" not in said


def test_a_worker_that_cannot_start_any_more_leaves_the_others_alone(tmp_path: Path) -> None:
    """The file is broken while it runs; then a worker dies."""
    file = tmp_path / "gateway.toml"
    file.write_text("[routecache.gateway]\n", "utf-8")
    with (
        RawUpstream(answer(COMPLETION)) as upstream,
        fleet(tmp_path / "store", upstream, "--config", str(file)) as process,
    ):
        file.write_text("[routecache.gateway]\nprot = 1\n", "utf-8")
        victim, kept = sorted(worker_ids(process))
        os.kill(victim, signal.SIGKILL)
        deadline_s = time.monotonic() + 5  # long enough for the first attempt to fail
        with client_of(process) as client:
            while time.monotonic() < deadline_s:
                assert chat(client).status_code == 200
        assert kept in worker_ids(process)
        file.write_text("[routecache.gateway]\n", "utf-8")
        wait_until(lambda: _answers_again(process, {victim}), "it is tried again", timeout_s=60)
        process.stop()
        code, said = process.ended()
    assert code == 0, said
    assert "a worker of the gateway cannot start: " in said
    assert "did you mean port?" in said
    assert "Traceback" not in said
    assert 1 <= said.count("exit code 1") <= 4, "there is a pause between attempts"


def _answers_again(process: Process, gone: set[int]) -> bool:
    """Whether there are two workers that have been there for a while."""
    found = worker_ids(process) - gone
    time.sleep(2.5)
    return len(found) == 2 and found == worker_ids(process)


def test_memory_of_one_process_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match="lmdb:///var/cache/routecache") as caught:
        gateway(upstream="http://127.0.0.1:1", workers=2)
    assert "workers is 2" in str(caught.value)
    with pytest.raises(ConfigurationError, match="workers"):
        GatewaySettings(workers=0)


@pytest.fixture
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


@pytest.mark.usefixtures("signals")
def test_workers_that_do_not_start_are_told_of_and_nothing_is_left(
    capfd: pytest.CaptureFixture[str],
) -> None:
    told: list[str] = []
    with pytest.raises(ConfigurationError, match="did not start; the log above says why"):
        serve_several(Blueprint(), GatewaySettings(port=0, workers=2), started=told.append)
    assert not told
    assert not multiprocessing.active_children()
    assert "a worker of the gateway cannot start" in capfd.readouterr().err


def own_workers() -> list[int]:
    """Return the workers of a gateway that this process is the first of."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in _command(int(pid))]


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of a gateway that this process is the first of."""
    monkeypatch.setenv("ROUTECACHE_URL", f"lmdb://{tmp_path}/store")
    return {"upstream": "http://127.0.0.1:1", "workers": 2, "port": 0, "drain_s": 0.0}


@pytest.mark.usefixtures("signals")
def test_a_worker_that_does_not_end_is_killed(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was stopped, say: it takes no notice of anything."""
    monkeypatch.setattr(supervisor, "_CLOSE_S", 0.5)
    blueprint = Blueprint(given)

    def stop_one(_: str) -> None:
        os.kill(own_workers()[-1], signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGTERM)

    serve_several(blueprint, blueprint.settings(), started=stop_one)
    assert caplog.text.count("does not end; it is killed") == 1
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.usefixtures("signals")
def test_a_worker_that_hangs_is_replaced(
    given: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    blueprint, before = Blueprint(given), set[int]()

    def stop_when_replaced() -> None:
        wait_until(lambda: "replaced" in caplog.text, "it is replaced")
        os.kill(os.getpid(), signal.SIGTERM)

    watching = threading.Thread(target=stop_when_replaced)

    def stop_one(_: str) -> None:
        before.update(own_workers())
        os.kill(max(before), signal.SIGSTOP)
        watching.start()

    serve_several(blueprint, blueprint.settings(), started=stop_one)
    watching.join()
    assert f"worker {max(before)} of the gateway has ended (signal 9: killed" in caplog.text
    assert caplog.text.count("replaced") == 1


@dataclass(frozen=True)
class NeverAgain(Blueprint):
    """After the first workers, uvicorn itself finds that there can be none: a package is gone."""

    flag: str = ""

    def gateway(self) -> Gateway:
        if Path(self.flag).exists():
            sys.exit(3)
        return super().gateway()


@pytest.mark.slow
@pytest.mark.usefixtures("signals")
def test_when_uvicorn_gives_up_so_does_the_command(given: dict[str, Any], tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    blueprint = NeverAgain(given, flag=str(flag))

    def kill_one(_: str) -> None:
        flag.touch()
        os.kill(own_workers()[-1], signal.SIGKILL)

    with pytest.raises(ConfigurationError, match="did not start"):
        serve_several(blueprint, blueprint.settings(), started=kill_one)
    assert not multiprocessing.active_children()
