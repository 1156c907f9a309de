"""Proxies of the environment, and the server in this process."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from routecache_middleware.errors import ConfigurationError
from routecache_middleware.gateway.app import Gateway
from routecache_middleware.gateway.body import Incoming
from routecache_middleware.gateway.driver import Driver
from routecache_middleware.gateway.server import serve
from routecache_middleware.gateway.settings import GatewaySettings
from tests.gateway.kit import COMPLETION, KEY, chat, gateway, running
from tests.support.raw_upstream import RawUpstream, answer


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return monkeypatch


def behind(upstream: str) -> Gateway:
    return Gateway(GatewaySettings(upstream=upstream), environ={})


def test_the_environments_proxy_is_used(no_proxies: pytest.MonkeyPatch) -> None:
    with RawUpstream(answer(COMPLETION)) as proxy:
        no_proxies.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
        no_proxies.setenv("no_proxy", "localhost, .internal")
        with running(behind("http://llm.example/v1")) as client:
            assert chat(client).content == COMPLETION
    (arrived,) = proxy.arrived
    assert arrived.start_line == "POST http://llm.example/v1/chat/completions HTTP/1.1"
    assert arrived.values("host") == ["llm.example"]


@pytest.mark.parametrize("exceptions", ["127.0.0.1", "*", "127.0.0.1:{port}"])
def test_its_exceptions_are_asked_directly(no_proxies: pytest.MonkeyPatch, exceptions: str) -> None:
    with RawUpstream(answer(COMPLETION)) as upstream:
        no_proxies.setenv("all_proxy", "http://127.0.0.1:1")
        no_proxies.setenv("no_proxy", exceptions.format(port=upstream.port))
        with running(behind(upstream.url)) as client:
            assert chat(client).content == COMPLETION


def test_it_can_be_told_to_use_none(no_proxies: pytest.MonkeyPatch) -> None:
    no_proxies.setenv("http_proxy", "http://127.0.0.1:1")
    with (
        RawUpstream(answer(COMPLETION)) as upstream,
        running(gateway(upstream=upstream.url)) as client,
    ):
        assert chat(client).content == COMPLETION


def test_a_netrc_does_not_replace_the_clients_credentials(
    no_proxies: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n", encoding="utf-8")
    no_proxies.setenv("NETRC", str(netrc))
    with RawUpstream(answer(COMPLETION)) as upstream, running(behind(upstream.url)) as client:
        chat(client)
    assert upstream.arrived[0].values("authorization") == [f"Bearer {KEY}"]


async def test_what_is_not_closed_twice_is_closed() -> None:
    driver = Driver(GatewaySettings(use_environment_proxy=False))
    await driver.aclose()
    await driver.aclose()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_server_stops_when_told_to_and_the_process_lives_on(host: str) -> None:
    urls: list[str] = []

    def started(url: str) -> None:
        urls.append(url)
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    settings = GatewaySettings(upstream="http://127.0.0.1:1", host=host, port=0, drain_s=0)
    serve(Gateway(settings, environ={}), settings, started=started, log_level="critical")
    assert signal.getsignal(signal.SIGTERM) is before
    assert httpx.URL(urls[0]).host == host
    assert (httpx.URL(urls[0]).port or 0) > 0


def test_an_app_that_cannot_start_is_not_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = GatewaySettings(upstream="http://127.0.0.1:1", port=0)
    made = Gateway(settings, environ={})

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": ""})

    monkeypatch.setattr(made, "app", broken)
    urls: list[str] = []
    with pytest.raises(SystemExit):
        serve(made, settings, started=urls.append, log_level="critical")
    assert urls == []


def test_an_address_in_use_is_named_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = GatewaySettings(upstream="http://127.0.0.1:1", port=taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match="cannot listen on"):
            serve(Gateway(settings, environ={}), settings, started=print)


async def test_web_sockets_and_unknown_events_are_declined() -> None:
    made = gateway(upstream="http://127.0.0.1:1")
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await made.app({"type": "websocket", "path": "/v1/realtime", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]


async def test_pieces_of_nothing_are_passed_over() -> None:
    messages = [
        {"type": "http.request", "body": b"", "more_body": True},
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    incoming = Incoming(receive)
    assert await incoming.begin() is None
    assert [piece async for piece in incoming.pieces()] == [b"a"]
    assert incoming.taken.is_set()


async def test_the_proxy_ends_with_the_servers_lifespan_and_heeds_nothing_else() -> None:
    made = gateway(upstream="http://127.0.0.1:1")
    events = ["lifespan.startup", "lifespan.of_next_year", "lifespan.shutdown"]
    sent: list[str] = []

    async def receive() -> Any:
        return {"type": events.pop(0)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await made.app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
