"""What goes wrong with a server comes out as one error that names the remedy, and no secret."""

import re
import socket
import time

import pytest

from routecache_middleware.coordinators.redis.coordinator import RedisCoordinator
from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import START
from routecache_middleware.core.ports import Leader
from routecache_middleware.errors import CoordinatorError
from tests.coordinators.redis.support import KEY, build, entry, eventually, opened, row
from tests.support.fixtures import StartProxy, StartTls, StartValkey
from tests.support.valkey import Sentinels, ValkeyCluster, ValkeyServer, free_ports

SECRET = "hunter2"
NEEDED = (
    "+@read",
    "+@write",
    "+@scripting",
    "+@connection",
    "+@blocking",
    "+info",
    "+time",
    "+wait",
)


async def refusal(coordinator: RedisCoordinator) -> str:
    """Fail to open, and return what was said."""
    with pytest.raises(CoordinatorError) as caught:
        await coordinator.open()
    assert caught.value.__cause__ is not None
    assert SECRET not in str(caught.value)
    await coordinator.aclose()
    return str(caught.value)


async def test_a_password_opens(start_valkey: StartValkey) -> None:
    server = start_valkey("--requirepass", "p@ss:w/rd?")
    async with opened(f"redis://:p%40ss%3Aw%2Frd%3F@127.0.0.1:{server.port}") as coordinator:
        assert await coordinator.store(KEY, entry())


@pytest.mark.parametrize("login", ["", f":{SECRET}@", f"nobody:{SECRET}@"])
async def test_a_wrong_login_says_so(start_valkey: StartValkey, login: str) -> None:
    server = start_valkey("--requirepass", "right")
    text = await refusal(build(f"redis://{login}127.0.0.1:{server.port}"))
    assert "user or password" in text


async def test_an_acl_user_needs_no_more_than_the_docs_say(start_valkey: StartValkey) -> None:
    server = start_valkey("--user", "alice", "on", f">{SECRET}", "~rc*", *NEEDED)
    async with opened(f"redis://alice:{SECRET}@127.0.0.1:{server.port}") as coordinator:
        assert await coordinator.store(KEY, entry())
        assert (await coordinator.fetch((KEY,), START)).entries[0] is not None
        assert await coordinator.acquire(KEY, token="a", ttl_s=5.0, seen=entry()) is not None
        await coordinator.release(KEY, token="a")
        await coordinator.append((row(),))
        assert await coordinator.sample(Layer.RESULT, 3)
        assert (await coordinator.cluster_stats()).nodes[0].keys
        await eventually(lambda: coordinator.stats().age_s < 60)
        await coordinator.probe(writes=True)
    log = server.command("ACL", "LOG")
    assert log == []


async def test_an_acl_user_that_may_not_write_says_so(start_valkey: StartValkey) -> None:
    server = start_valkey("--user", "bob", "on", f">{SECRET}", "~*", "+@read", "+@connection")
    text = await refusal(build(f"redis://bob:{SECRET}@127.0.0.1:{server.port}"))
    assert "the user may not" in text


async def test_nobody_listening_says_so() -> None:
    text = await refusal(build(f"redis://u:{SECRET}@127.0.0.1:{free_ports(1)[0]}"))
    assert "nobody listens" in text


async def test_an_unknown_host_says_so() -> None:
    text = await refusal(build(f"redis://u:{SECRET}@no-such-host.invalid"))
    assert "host name is unknown" in text


async def test_a_server_that_hangs_says_so_in_time(
    valkey_url: str, valkey: ValkeyServer, fault_proxy: StartProxy
) -> None:
    proxy = fault_proxy(valkey.port)
    proxy.mode("hang")
    started_s = time.monotonic()
    text = await refusal(build(f"{proxy.url}?timeout_ms=200"))
    assert "no answer in time" in text
    assert time.monotonic() - started_s < 2.0


async def test_something_that_is_no_server_fails_as_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        text = await refusal(build(f"redis://127.0.0.1:{mute.getsockname()[1]}?timeout_ms=100"))
    assert text


async def test_a_node_of_a_cluster_says_what_url_to_use(
    cluster_url: str, valkey_cluster: ValkeyCluster
) -> None:
    elsewhere = [
        server
        for server in valkey_cluster.masters()
        if server.port != valkey_cluster.node_of(Keys().log).port
    ]
    text = await refusal(build(elsewhere[0].url))
    assert "redis+cluster://" in text


async def test_a_standalone_server_says_what_url_to_use(
    valkey_url: str, valkey: ValkeyServer
) -> None:
    text = await refusal(build(f"redis+cluster://127.0.0.1:{valkey.port}"))
    assert "redis://" in text


async def test_an_unknown_service_says_so(sentinel_url: str) -> None:
    text = await refusal(build(sentinel_url.replace("mymaster", "nosuch")))
    assert "service name" in text


async def test_a_replica_refuses_writes_and_says_who_to_ask(
    sentinel_url: str, sentinels: Sentinels
) -> None:
    async with opened(sentinel_url):  # begins the log
        sentinels.master().command("WAIT", 1, 1_000)
    async with opened(sentinels.replicas()[0].url) as coordinator:
        assert (await coordinator.fetch((KEY,), START)).entries == [None]
        for write in (
            coordinator.append((row(),)),
            coordinator.store(KEY, entry()),
            coordinator.acquire(KEY, token="a", ttl_s=1.0),
            coordinator.probe(writes=True),
        ):
            with pytest.raises(CoordinatorError, match="read-only replica"):
                await write
        await coordinator.probe(writes=False)


async def test_a_full_server_refuses_writes_and_still_answers(start_valkey: StartValkey) -> None:
    server = start_valkey("--maxmemory-policy", "noeviction")
    async with opened(server.url) as coordinator:
        kept = entry(b"kept")
        assert await coordinator.store(KEY, kept)
        server.command("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(CoordinatorError, match="maxmemory"):
            await coordinator.append((row(),))
        with pytest.raises(CoordinatorError, match="maxmemory"):
            await coordinator.acquire(KEY, token="a", ttl_s=1.0, form="f", seen=kept)
        with pytest.raises(CoordinatorError, match="maxmemory"):
            await coordinator.store(KEY, entry())
        with pytest.raises(CoordinatorError, match="maxmemory"):
            await coordinator.probe(writes=True)
        found = (await coordinator.fetch((KEY,), START)).entries[0]
        assert found == kept


async def test_tls_with_a_name_and_a_client_certificate(
    valkey_url: str, valkey: ValkeyServer, tls_forwarder: StartTls
) -> None:
    plain = tls_forwarder(valkey.port)
    base = f"rediss://localhost:{plain.port}"
    async with opened(f"{base}?ssl_ca_certs={plain.ca_path}") as coordinator:
        assert await coordinator.store(KEY, entry())
        assert await coordinator.acquire(KEY, token="t", ttl_s=1.0, form="s") is not None
    async with opened(f"{base}?ssl_cert_reqs=none") as coordinator:
        assert (await coordinator.fetch((KEY,), START)).entries[0] is not None
    assert "TLS handshake" in await refusal(build(base))

    mutual = tls_forwarder(valkey.port, require_client_cert=True)
    base = f"valkeys://localhost:{mutual.port}?ssl_ca_certs={mutual.ca_path}"
    pair = f"&ssl_certfile={mutual.client_cert_path}&ssl_keyfile={mutual.client_key_path}"
    async with opened(base + pair) as coordinator:
        assert (await coordinator.fetch((KEY,), START)).entries[0] is not None
    assert await refusal(build(base))


async def test_a_coordinator_that_is_not_open_says_so(valkey_url: str) -> None:
    coordinator = build(valkey_url)
    with pytest.raises(CoordinatorError, match="not open"):
        await coordinator.fetch((KEY,), START)
    assert coordinator.proof_age_s == float("inf")
    assert set(coordinator.stats().layers) == set(Layer)


async def test_a_probe_opens_what_could_not_be_opened(start_valkey: StartValkey) -> None:
    server = start_valkey()
    coordinator = build(server.url)
    server.kill()
    assert await refusal(coordinator)
    server.restart()
    await coordinator.probe(writes=True)
    assert await coordinator.acquire(KEY, token="a", ttl_s=1.0) == Leader("a")
    await coordinator.aclose()


async def test_every_call_fails_with_the_one_error_while_the_server_is_dead(
    start_valkey: StartValkey,
) -> None:
    server = start_valkey()
    async with opened(server.url) as coordinator:
        server.kill()
        calls = {
            "fetch": lambda: coordinator.fetch((KEY,), START),
            "fetch several": lambda: coordinator.fetch((KEY, KEY), START),
            "store": lambda: coordinator.store(KEY, entry()),
            "fill": lambda: coordinator.store(KEY, entry(), token="a"),
            "delete": lambda: coordinator.delete(KEY),
            "acquire": lambda: coordinator.acquire(KEY, token="a", ttl_s=1.0),
            "renew": lambda: coordinator.renew(KEY, token="a", ttl_s=1.0),
            "release": lambda: coordinator.release(KEY, token="a"),
            "append": lambda: coordinator.append((row(),)),
            "sample": lambda: coordinator.sample(Layer.RESULT, 1),
            "cluster_stats": coordinator.cluster_stats,
            "probe": lambda: coordinator.probe(writes=False),
        }
        for name, call in calls.items():
            with pytest.raises(CoordinatorError) as caught:
                await call()  # type: ignore[no-untyped-call]
            assert caught.value.__cause__ is not None, name
            assert not re.search(r"\d+\.\d+\.\d+\.\d+", str(caught.value)), name


@pytest.mark.parametrize("kind", ["valkey_url", "cluster_url"])
async def test_what_goes_on_after_closing_connects_no_more(
    request: pytest.FixtureRequest, kind: str
) -> None:
    """Such as a store that a guard has left to itself."""
    async with opened(request.getfixturevalue(kind)) as coordinator:
        session = coordinator._session()
    for late in (
        session.entries.store(KEY, entry()),
        session.append((row(),)),
        session.fetch((KEY,), START),
        session.log.tail(START),
    ):
        with pytest.raises(CoordinatorError):
            await late
