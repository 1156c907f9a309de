"""``ring://`` URLs."""

import subprocess
import sys

import pytest

from routecache_middleware.coordinators.guarded import GuardedCoordinator
from routecache_middleware.coordinators.ring.coordinator import RingCoordinator
from routecache_middleware.coordinators.ring.factory import create_bare
from routecache_middleware.coordinators.table import create
from routecache_middleware.coordinators.tiered import TieredCoordinator
from routecache_middleware.coordinators.url import CoordinatorUrl
from routecache_middleware.core.settings import Settings
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.testing.clock import FakeClock


def bare(url: str) -> RingCoordinator:
    return create_bare(CoordinatorUrl.parse(url), Settings(), FakeClock())


def weights(ring: RingCoordinator) -> dict[str, float]:
    return {member.name: member.weight for member in ring._members}


def test_a_url_names_the_nodes() -> None:
    assert weights(bare("ring://a:1,b,[::1]:3")) == {"a:1": 1.0, "b:6379": 1.0, "[::1]:3": 1.0}


def test_weights_are_given_in_the_order_of_the_nodes() -> None:
    assert weights(bare("ring://a:1,b:2?weights=2,0.5")) == {"a:1": 2.0, "b:2": 0.5}


@pytest.mark.parametrize("given", ["1", "1,2,3", "1,x", "", "1,0", "1,-1", "1,nan", "1,inf"])
def test_wrong_weights_are_refused(given: str) -> None:
    with pytest.raises(ConfigurationError, match="weight"):
        bare(f"ring://a:1,b:2?weights={given}")


@pytest.mark.parametrize(
    "url", ["ring://", "ring://a:1,a:1", "ring://a:x", "ring://a:1/3", "ring://a:1?nodes=2"]
)
def test_wrong_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        bare(url)


def test_a_password_is_everybodys_and_in_no_name() -> None:
    ring = bare("ring://me:s3cret@a:1,b:2")
    assert list(weights(ring)) == ["a:1", "b:2"]
    assert "s3cret" not in repr(vars(ring))


def test_tls_is_asked_for_with_another_scheme() -> None:
    assert list(weights(bare("rings://a:1,b:2?ssl_cert_reqs=none"))) == ["a:1", "b:2"]
    with pytest.raises(ConfigurationError, match="without TLS"):
        bare("ring://a:1?ssl_cert_reqs=none")


def test_the_ring_is_guarded_and_has_a_near_cache_in_front() -> None:
    tiered = create("ring://a:1,b:2", Settings(), FakeClock())
    assert isinstance(tiered, TieredCoordinator)
    assert isinstance(tiered.shared, GuardedCoordinator)
    assert isinstance(tiered.shared.inner, RingCoordinator)
    assert tiered.name == "ring"
    assert isinstance(create("ring://a:1?near=false", Settings(), FakeClock()), GuardedCoordinator)


async def test_nodes_are_registered_through_what_is_in_front() -> None:
    tiered = create("ring://a:1", Settings(), FakeClock())
    assert isinstance(tiered, TieredCoordinator)
    assert await tiered.register("b:2", weight=3.0) == "b:2"
    assert await tiered.register("redis://user:other@c:3/0") == "c:3"
    await tiered.unregister("a:1")
    ring = tiered.shared.inner  # type: ignore[attr-defined]
    assert weights(ring) == {"b:2": 3.0, "c:3": 1.0}


@pytest.mark.parametrize("address", ["", "a:1", "b:x", "b:1,c:2"])
async def test_a_wrong_address_is_not_registered(address: str) -> None:
    ring = bare("ring://a:1")
    with pytest.raises(ConfigurationError):
        await ring.register(address)
    assert list(weights(ring)) == ["a:1"]


def test_a_missing_driver_is_named_with_its_remedy() -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from routecache_middleware.coordinators.table import create\n"
        "from routecache_middleware.core.settings import Settings\n"
        "from routecache_middleware.testing.clock import FakeClock\n"
        "try:\n    create('ring://a:1', Settings(), FakeClock())\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ConfigurationError")
    assert "routecache-middleware[redis]" in done.stdout


async def test_a_node_goes_as_it_was_registered_and_no_error_shows_its_password() -> None:
    ring = bare("ring://a:1,b:2")
    await ring.register("redis://u:s3cret@c:3")
    await ring.unregister("redis://u:s3cret@c:3")
    assert set(weights(ring)) == {"a:1", "b:2"}
    for address in ("redis://u:s3cret@c:3", "u:s3cret@c:3", "c:3"):
        with pytest.raises(ConfigurationError, match="ring has no node 'c:3'"):
            await ring.unregister(address)


@pytest.mark.parametrize(
    "address", ["http://u:s3cret@h", "redis://h:1/7", "redis://h:1?prefix=x", "lmdb:///h"]
)
async def test_a_node_with_ways_of_its_own_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="node") as caught:
        await bare("ring://a:1,b:2").register(address)
    assert "s3cret" not in str(caught.value)
