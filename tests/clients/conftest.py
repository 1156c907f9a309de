"""Gateways over real connections; each test asks with an API key, and so a tenant, of its own."""

import itertools
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.clients.equal")

from tests.clients.kit import Kit  # noqa: E402 - asserts in there are to say what was not so
from tests.clients.scripted import Scripted  # noqa: E402
from tests.clients.serving import Gateway, serve  # noqa: E402
from tests.support.child import ModuleChild  # noqa: E402

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def scripted() -> Scripted:
    """The upstream that does as told."""
    return Scripted()


@pytest.fixture(scope="session")
def scripted_gateway(scripted: Scripted) -> Iterator[Gateway]:
    with serve(scripted) as upstream, Gateway(upstream.url) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def llama_gateway() -> Iterator[Gateway]:
    child = ModuleChild("tests.clients.llama")
    try:
        with Gateway(f"http://127.0.0.1:{child.port}") as gateway:
            yield gateway
    finally:
        child.close()


@pytest.fixture
def key() -> str:
    """An API key that nobody has used."""
    return f"sk-client-{next(_numbers)}"


@pytest.fixture
def kit(scripted_gateway: Gateway, scripted: Scripted, key: str) -> Kit:
    """Clients of the scripted upstream, through the cache and past it."""
    return Kit(scripted_gateway, key, scripted)


@pytest.fixture
def llama(llama_gateway: Gateway, key: str) -> Kit:
    """Clients of the real model, through the cache and past it."""
    return Kit(llama_gateway, key)
