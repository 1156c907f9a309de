"""Coordinators that are not there, hang, refuse us, lie, or say too much."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from routecache_middleware.coordinators.guarded import GuardedCoordinator
from routecache_middleware.core.keys import Layer
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from tests.admin.kit import Admin
from tests.canary.bodies import chat, completion
from tests.canary.ears import Ears
from tests.canary.house import House
from tests.canary.planted import planted, prose
from tests.canary.test_outcomes import RaisedError
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import settle
from tests.support.faulty import ProbedCoordinator
from tests.support.fixtures import StartValkey

BODY = json.dumps(chat()).encode()
ANSWER = json_answer(completion())
LOGIN = f"{planted('url user')}:{planted('url password')}"
PASSWORD = planted("url password")


async def use(house: House, ears: Ears, *, times: int = 6) -> None:
    """Ask, invalidate, list, and hear what is said of that."""
    cache = house.cache
    for number in range(times):
        await house.ask(BODY)
        await house.ask(json.dumps({**chat(), "seed": number, "stream": True}).encode())
    for call in (
        lambda: cache.invalidate_tenant(planted("tenant")),
        lambda: cache.invalidate_tag(planted("tag")),
        lambda: cache.get_query_result(planted("prompt"), "m", tenant=planted("tenant")),
        lambda: cache.cache_query_result(planted("prompt"), "m", b"{}", 1.0),
        cache.cluster_stats,
    ):
        try:
            await call()
        except CoordinatorError as error:  # what it came from is the driver's
            ears.hear("an error of the library", f"{error} {error!r} {error.args}")
    admin = Admin(cache, settings={"token": planted("admin token"), "read_token": ""})
    for path in ("/stats", "/cluster", "/breakers", "/entries", "/distribution", "/audit"):
        got = await admin.get(path, token=planted("admin token"))
        ears.hear("the admin app", got.body)
    asked = {"tenant": "somebody", "dry_run": False}
    got = await admin.post("/invalidate", asked, token=planted("admin token"))
    ears.hear("the admin app", got.body)


METHODS = ("open", "fetch", "store", "acquire", "append", "sample", "cluster_stats", "listen", "*")


@pytest.mark.parametrize("kind", ["raises", "hangs"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_coordinator_of_a_third_party(method: str, kind: str, ears: Ears) -> None:
    """Whatever is in the text of its error, nobody says it."""
    clock = FakeClock()
    coordinator = ProbedCoordinator(clock)
    async with House(
        ears,
        ScriptedApp(ANSWER),
        coordinator=GuardedCoordinator(coordinator, clock=clock, timeout_s=0.01),
        clock=clock,
    ) as house:
        await house.ask(BODY)
        if kind == "hangs":
            coordinator.hang(method)
        else:
            text = (prose("raised"), planted("url password"))
            error = RaisedError(*text)
            coordinator.fail(method, error=error)
        await use(house, ears, times=2)
        coordinator.heal()
        await settle()


@contextmanager
def liar(answer: bytes) -> Iterator[int]:
    """Run a server that repeats what it is told, after a prefix; return its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while said := connection.recv(65_536):
                words = b" ".join(said.replace(b"\r\n", b" ").split())[:4000]
                connection.sendall(answer.replace(b"...", words) * said.count(b"*"))

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


LIES = {
    "unknown command": b"-ERR unknown command, with args beginning with: ...\r\n",
    "wrong password": b"-WRONGPASS ...\r\n",
    "no permission": b"-NOPERM ...\r\n",
    "moved": b"-MOVED 1 ...:1\r\n",
    "text": b"+...\r\n",
    "no protocol": b"...\r\n",
    "a long number": b":...\r\n",
    "an answer": b"HTTP/1.1 400 ...\r\n\r\n",
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("scheme", ["redis", "ring", "redis+cluster", "redis+sentinel"])
async def test_a_server_that_repeats_what_it_is_told(scheme: str, lie: str, ears: Ears) -> None:
    with liar(LIES[lie]) as port:
        service = "/service" if scheme.endswith("sentinel") else ""
        url = f"{scheme}://{LOGIN}@127.0.0.1:{port}{service}"
        async with House(ears, ScriptedApp(ANSWER), url=url) as house:
            await use(house, ears, times=3)
            await asyncio.sleep(0.3)  # it is probed behind the requests


@pytest.mark.parametrize("scheme", ["redis", "ring", "redis+cluster", "redis+sentinel"])
async def test_a_server_that_is_not_there(scheme: str, ears: Ears) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    service = "/service" if scheme.endswith("sentinel") else ""
    url = f"{scheme}://{LOGIN}@127.0.0.1:{port}{service}"
    async with House(ears, ScriptedApp(ANSWER), url=url) as house:
        await use(house, ears)


async def test_a_server_that_refuses_us(start_valkey: StartValkey, ears: Ears) -> None:
    server = start_valkey("--requirepass", "right")
    for login in (LOGIN, f":{PASSWORD}", ""):
        async with House(
            ears, ScriptedApp(ANSWER), url=f"redis://{login}@127.0.0.1:{server.port}"
        ) as house:
            await use(house, ears, times=2)


@pytest.mark.parametrize("near", ["true", "false"])
async def test_a_server_that_works_hangs_dies_and_holds_what_is_no_entry(
    near: str, start_valkey: StartValkey, ears: Ears
) -> None:
    server = start_valkey("--requirepass", PASSWORD)
    url = f"redis://:{PASSWORD}@127.0.0.1:{server.port}?near={near}"
    async with House(ears, ScriptedApp(ANSWER), url=url, coordinator_timeout_s=1.0) as house:
        await use(house, ears, times=2)
        assert "HIT" in house.outcomes
        names = server.command("KEYS", "*")
        assert isinstance(names, list)
        for name in names:
            if isinstance(name, bytes) and b"result" in name:
                server.command("SET", name, b"rc\x01" + prose("completion").encode())
        async with House(ears, ScriptedApp(ANSWER), url=url) as other:
            await use(other, ears, times=2)
        server.pause()
        await use(house, ears, times=2)
        server.resume()
        server.kill()
        await use(house, ears, times=2)


async def test_a_file_that_is_damaged_or_cannot_be_written(tmp_path: Path, ears: Ears) -> None:
    url = f"lmdb://{tmp_path}/cache"
    async with House(ears, ScriptedApp(ANSWER), url=url) as house:
        await use(house, ears, times=2)
        assert await house.cache.engine.coordinator.sample(Layer.RESULT, 5)
    for file in (tmp_path / "cache").rglob("*"):
        if file.is_file() and file.stat().st_size > 8192:
            raw = bytearray(file.read_bytes())
            word = prose("completion").encode()
            for at in range(8192, len(raw) - len(word), 4096):
                raw[at : at + len(word)] = word
            file.write_bytes(raw)
    async with House(ears, ScriptedApp(ANSWER), url=url) as house:
        await use(house, ears, times=2)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for place in (tmp_path / "file", tmp_path / "file" / "x"):
        try:
            async with House(ears, ScriptedApp(ANSWER), url=f"lmdb://{place}") as house:
                await use(house, ears, times=2)
        except Exception as error:  # noqa: BLE001 - whatever it says is heard
            ears.hear("an error", error)
