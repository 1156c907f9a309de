import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import routecache_middleware

ROOT = Path(__file__).parent.parent
HEAVY = ("fastapi", "litellm", "lmdb", "opentelemetry", "redis", "starlette")


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = (
        "import sys, routecache_middleware\n"
        f"print([name for name in sys.modules if name.split('.')[0] in {HEAVY}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_loading_every_name_imports_no_framework_and_no_sdk() -> None:
    """Backends load when a URL names them, frameworks never; the OpenTelemetry API may load."""
    program = (
        "import sys, routecache_middleware as package\n"
        "for name in package.__all__: getattr(package, name)\n"
        f"print([name for name in sys.modules if name.split('.')[0] in {HEAVY}"
        " and (not name.startswith('opentelemetry') or name.startswith('opentelemetry.sdk'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", routecache_middleware.__all__)
def test_every_public_name_resolves_to_a_documented_thing_of_that_name(name: str) -> None:
    thing = getattr(routecache_middleware, name)
    assert thing.__name__ == name
    assert thing.__doc__
    assert vars(routecache_middleware)[name] is thing  # so the next access costs nothing


def test_there_are_at_most_twelve_names() -> None:
    assert len(routecache_middleware.__all__) == 12
    assert sorted(routecache_middleware.__all__) == routecache_middleware.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'RoutCache'"):
        routecache_middleware.RoutCache  # noqa: B018 - looking it up is the test


def test_dir_lists_the_names_before_they_are_loaded() -> None:
    assert set(routecache_middleware.__all__) <= set(dir(routecache_middleware))
    assert "__version__" in dir(routecache_middleware)


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == routecache_middleware.__version__
