"""The scheme table: a URL becomes a coordinator, or an error that teaches and shows no password."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from routecache_middleware.coordinators.bounded import ByteBoundedStore
from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.coordinators.shards import LruShard, S3FifoShard
from routecache_middleware.coordinators.table import SCHEMES, create
from routecache_middleware.coordinators.url import CoordinatorUrl, mask_url
from routecache_middleware.core.choices import Eviction
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.settings import Settings
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract import CoordinatorContract

ROOT = Path(__file__).parents[2]


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


# -- coordinators of third parties, installed as real distributions


def install(
    site: Path, name: str, points: str, modules: dict[str, str] | None = None
) -> dict[str, str]:
    """Put a distribution on a search path of its own; returns the environment that has it."""
    metadata = site / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[routecache.coordinators]\n{points}\n")
    for module, source in (modules or {}).items():
        (site / f"{module}.py").write_text(textwrap.dedent(source))
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(site), str(ROOT)))}


def build_in_child(url: str, environment: dict[str, str]) -> str:
    """The class of what comes of ``url`` in a new interpreter."""
    code = f"""
        from routecache_middleware.coordinators.table import create
        from routecache_middleware.core.settings import Settings
        from routecache_middleware.testing.clock import FakeClock
        print(type(create({url!r}, Settings(), FakeClock())).__name__)
    """
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return child.stdout.strip()


@pytest.fixture
def build_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], ConfigurationError]]:
    """What is wrong with a URL where the distributions in ``tmp_path`` are installed."""

    def build(url: str) -> ConfigurationError:
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(ConfigurationError) as caught:
            create(url, Settings(), FakeClock())
        return caught.value

    yield build
    sys.modules.pop("acme_store", None)


ACME = """
    from routecache_middleware.coordinators.memory import MemoryCoordinator

    class AcmeCoordinator(MemoryCoordinator):
        name = "acme"

    def create(url, settings, clock):
        assert url.scheme == "acme"
        return AcmeCoordinator(max_bytes=settings.max_memory_bytes, clock=clock)
"""

ACME_TEST = """
    import pytest
    from routecache_middleware.coordinators.table import create
    from routecache_middleware.core.settings import Settings
    from routecache_middleware.testing import CoordinatorContract

    class TestAcme(CoordinatorContract):
        @pytest.fixture
        def coordinator(self, clock):
            return create("acme://anywhere", Settings(), clock)

        def test_it_is_the_one_that_was_registered(self, coordinator):
            assert coordinator.name == "acme"
"""


def test_an_installed_coordinator_is_found_by_its_scheme(tmp_path: Path) -> None:
    site = install(tmp_path, "acme-store", "acme = acme_store:create", {"acme_store": ACME})
    assert build_in_child("ACME://anywhere", site) == "AcmeCoordinator"


def test_a_third_party_can_run_the_contract_on_its_coordinator(tmp_path: Path) -> None:
    site = install(tmp_path, "acme-store", "acme = acme_store:create", {"acme_store": ACME})
    test = tmp_path / "test_acme.py"
    test.write_text(textwrap.dedent(ACME_TEST))
    arguments = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path)]
    child = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, "-o", "asyncio_mode=auto", str(test)],
        env=site,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stdout
    passed = int(child.stdout.rpartition(" passed")[0].split()[-1])
    rules = [name for name in dir(CoordinatorContract) if name.startswith("test_")]
    assert passed > len(rules) > 30


def test_what_is_built_in_cannot_be_taken_over(tmp_path: Path) -> None:
    site = install(tmp_path, "acme-store", "memory = acme_store:create", {"acme_store": ACME})
    assert build_in_child("memory://", site) == "MemoryCoordinator"


def test_an_unknown_scheme_names_built_in_and_installed_ones(
    tmp_path: Path, build_here: Callable[[str], ConfigurationError]
) -> None:
    points = "acme = acme_store:create\nmemory = acme_store:create"
    install(tmp_path, "acme-store", points, {"acme_store": ACME})
    text = str(build_here("nosuch://user:hunter2@h"))
    assert "nosuch://***@h" in text
    assert "acme://" in text
    assert text.count(" memory://") == 1
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("module", "cause"),
    [
        ("import no_such_driver", "ModuleNotFoundError"),
        ("raise RuntimeError('secret=hunter2')", "RuntimeError"),
        ("create = 3", "not callable"),
        ("", "AttributeError"),
    ],
)
def test_a_broken_entry_point_is_named_with_its_distribution(
    tmp_path: Path, build_here: Callable[[str], ConfigurationError], module: str, cause: str
) -> None:
    install(tmp_path, "acme-store", "acme = acme_store:create", {"acme_store": module})
    error = build_here("acme://x")
    for word in ("acme-store", "'acme_store:create'", "routecache.coordinators", cause):
        assert word in str(error)
    assert "hunter2" not in str(error)
    assert cause in ("not callable", type(error.__cause__).__name__)


def test_a_scheme_that_two_distributions_claim_is_nobodys(
    tmp_path: Path, build_here: Callable[[str], ConfigurationError]
) -> None:
    install(tmp_path, "acme-store", "acme = acme_store:create", {"acme_store": ACME})
    install(tmp_path, "other-store", "acme = acme_store:create")
    text = str(build_here("acme://x"))
    assert "acme-store" in text
    assert "other-store" in text


def test_a_built_in_scheme_scans_no_installed_distributions() -> None:
    """The scan reads the metadata of every installed package: tens of milliseconds."""
    code = """
        import importlib.metadata
        def scan(**_):
            raise SystemExit(3)
        importlib.metadata.entry_points = scan
        from routecache_middleware.coordinators.table import create
        from routecache_middleware.core.settings import Settings
        from routecache_middleware.testing.clock import FakeClock
        create("memory://", Settings(), FakeClock())
        print("built", flush=True)
        create("nosuch://", Settings(), FakeClock())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    child = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (child.stdout, child.returncode) == ("built\n", 3)


def test_an_option_that_does_not_exist_is_named_without_the_values_of_any() -> None:
    """Under a name with a typo in it there may be a password."""
    with pytest.raises(ConfigurationError, match="no option 'sentinel_pasword'") as caught:
        create("redis://h?sentinel_pasword=s3cret", Settings(), FakeClock())
    assert "s3cret" not in str(caught.value)


def test_a_url_does_not_show_its_password() -> None:
    url = CoordinatorUrl.parse("redis://u:s3cret@h?sentinel_password=s3cret")
    assert "s3cret" not in f"{url} {url!r}"


@pytest.mark.parametrize("scheme", ["redis", "ring", "redis+cluster"])
def test_a_user_at_every_node_is_refused(scheme: str) -> None:
    """All but the last would be taken for a part of the password."""
    with pytest.raises(ConfigurationError, match="user:password@ once, before the first host"):
        create(f"{scheme}://u:s3cret@h1,u:s3cret@h2", Settings(), FakeClock())
