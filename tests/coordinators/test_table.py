"""The scheme table: a URL becomes a coordinator, or an error that teaches and shows no password."""

import subprocess
import sys

import pytest

from routecache_middleware.coordinators.bounded import ByteBoundedStore
from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.coordinators.shards import LruShard, S3FifoShard
from routecache_middleware.coordinators.table import SCHEMES, create
from routecache_middleware.coordinators.url import mask_url
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.settings import Eviction, Settings
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.testing.clock import FakeClock


def build(url: str, settings: Settings | None = None) -> MemoryCoordinator:
    coordinator = create(url, settings or Settings(), FakeClock())
    assert isinstance(coordinator, MemoryCoordinator)
    return coordinator


def shard_of(coordinator: MemoryCoordinator) -> object:
    store = coordinator._stores["result"]
    assert isinstance(store, ByteBoundedStore)
    return store._shards[0]


def test_memory_takes_its_budget_and_eviction_from_the_settings() -> None:
    memory = build("memory://", Settings(max_memory_bytes=1_000_000, eviction=Eviction.LRU))
    assert memory.stats().layers[Layer.RESULT].limit_bytes == 800_000
    assert isinstance(shard_of(memory), LruShard)
    assert isinstance(shard_of(build("memory://")), S3FifoShard)


def test_options_in_the_url_win() -> None:
    memory = build("MEMORY://?max_bytes=2000000&eviction=lru")
    assert memory.stats().layers[Layer.RESULT].limit_bytes == 1_600_000
    assert isinstance(shard_of(memory), LruShard)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("bogus://x", ["'bogus://x'", "unknown scheme", "memory://"]),
        ("memory", ["'memory'", "not a URL", "memory://"]),
        ("", ["''", "not a URL"]),
        ("://x", ["not a URL"]),
        ("memory://host/path", ["host or a path"]),
        ("memory://?size=3", ["no option 'size'", "max_bytes, eviction"]),
        ("memory://?max_bytes=lots", ["max_bytes='lots'", "whole number"]),
        ("memory://?max_bytes=-1", ["max_bytes='-1'"]),
        ("memory://?max_bytes=", ["max_bytes=''"]),
        ("memory://?eviction=fifo", ["eviction='fifo'", "s3fifo, lru"]),
        ("memory://?max_bytes", ["malformed options"]),
        ("memory://?max_bytes=1&max_bytes=2", ["option twice"]),
    ],
)
def test_a_wrong_url_is_named_with_the_remedy(url: str, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build(url)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://:hunter2@h:6379/0", "redis://***@h:6379/0"),
        ("redis://user:hunter2@h", "redis://***@h"),
        ("redis://user:hun@ter2/x?@h", "redis://***@h"),
        ("ring://u:hunter2@a:1,u:hunter2@b:2", "ring://***@b:2"),
        ("redis//user:hunter2@h", "***@h"),
        ("redis://h?Password=hunter2&db=1", "redis://h?Password=***&db=1"),
        ("redis://h?db=1&auth_token=hunter2", "redis://h?db=1&auth_token=***"),
        ("memory://?max_bytes=1", "memory://?max_bytes=1"),
    ],
)
def test_no_password_is_ever_shown(url: str, masked: str) -> None:
    assert mask_url(url) == masked
    if url.startswith(("redis", "ring")):
        with pytest.raises(ConfigurationError) as caught:
            create(
                url.replace("redis", "nosuch").replace("ring", "nosuch"), Settings(), FakeClock()
            )
        assert "hunter2" not in str(caught.value)


def test_every_row_of_the_table_names_a_factory() -> None:
    for target in SCHEMES.values():
        module, _, name = target.partition(":")
        assert module.startswith("routecache_middleware.coordinators.")
        assert name


def test_reading_the_table_loads_no_backend() -> None:
    code = (
        "import sys, routecache_middleware.coordinators.table\n"
        "sys.exit('routecache_middleware.coordinators.memory' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
