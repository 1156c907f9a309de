"""A scripted provider, and LiteLLM's globals as they were before each test."""

import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.litellm.provider import Provider
from tests.adapters.litellm.proxy import Config, Proxy, StartProxy
from tests.adapters.litellm.proxy import start_proxy as run_proxy
from tests.adapters.litellm.state import (
    Snapshot,
    close_clients,
    close_sync_clients,
    settle_logging,
    uninstall_cache,
)

_FOREIGN_WARNINGS = (
    # LiteLLM serialises unions of its own response types with pydantic.
    "ignore:Pydantic serializer warnings:UserWarning",
    "ignore:Items? .* on TypedDict class:UserWarning",
    # LiteLLM and its dependencies on newer versions of what they use.
    "ignore::DeprecationWarning:litellm.*",
    "ignore::DeprecationWarning:pydantic.*",
    "ignore::pydantic.PydanticDeprecatedSince20",
    "ignore:There is no current event loop:DeprecationWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let LiteLLM warn about itself; our own warnings stay errors."""
    for item in items:
        if "adapters/litellm" in item.nodeid:
            for warning in _FOREIGN_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="session")
def _provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def provider(_provider: Provider) -> Iterator[Provider]:
    """The session's provider, with nothing scripted and no calls counted."""
    _provider.reset()
    yield _provider
    _provider.reset()


@pytest.fixture
def start_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartProxy]:
    """Proxies of the test's own: ``start_proxy(proxy_config(deployment("m", provider)))``."""
    with ExitStack() as stack:

        def start(config: Config, *, folder: Path | None = None, **options: Any) -> Proxy:
            place = folder or tmp_path_factory.mktemp("proxy")
            return stack.enter_context(run_proxy(config, place, **options))

        yield start


@pytest.fixture(autouse=True)
def clean_litellm(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take the cache out after each test and put LiteLLM's globals back."""
    snapshot = Snapshot()
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("_quiet_litellm")
    yield
    uninstall_cache()
    close_sync_clients()
    snapshot.restore()


@pytest.fixture
async def _quiet_litellm() -> AsyncIterator[None]:
    """Finish in the test's loop what LiteLLM leaves under way there."""
    yield
    await settle_logging()
    await uninstall_cache_and_close()
    await close_clients()


async def uninstall_cache_and_close() -> None:
    """As at the end of a process."""
    hub = uninstall_cache()
    if hub is not None:
        await hub.aclose()
