"""``install`` and ``uninstall``: one line in, everything as before on the way out."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import litellm
import pytest

from routecache_middleware import RouteCache, Settings
from routecache_middleware.adapters import litellm as adapter
from routecache_middleware.adapters.litellm import hub as hubs
from routecache_middleware.adapters.litellm.proxy import start_callback
from routecache_middleware.adapters.litellm.sync.routers import holder
from routecache_middleware.errors import ConfigurationError
from tests.adapters.litellm.provider import Provider
from tests.adapters.litellm.state import close_clients, settle_logging
from tests.adapters.litellm.threads import Callers, apart, tidy

# Of the HTTP clients that several threads make at once LiteLLM keeps one, and closes none.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.filterwarnings("ignore:Router.cache_responses is deprecated:DeprecationWarning"),
]

HELLO = [{"role": "user", "content": "hello"}]
LISTS = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "service_callback",
    "_async_input_callback",
    "_async_success_callback",
    "_async_failure_callback",
)


@pytest.fixture(autouse=True)
def answers_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only what keeps answers is at work."""
    monkeypatch.setattr(hubs, "_PARTS", ("sync", "results"))
    with tidy():
        yield


def state() -> dict[str, Any]:
    """What an installation changes."""
    return {
        "cache": litellm.cache,
        "caching": vars(holder()[0])[holder()[1]],
        **{name: list(getattr(litellm, name)) for name in LISTS},
    }


async def _clean_up() -> None:
    """End in this loop what LiteLLM has begun in it."""
    await settle_logging()
    await close_clients()


async def both_ways(callers: Callers, text: str) -> None:
    """Ask twice, once async and once not."""
    asked = callers.arguments(messages=[{"role": "user", "content": text}])
    await litellm.acompletion(**asked)
    writes = callers.cache.stats().result.writes
    async with asyncio.timeout(10):
        while callers.cache.stats().result.writes == writes == 0:  # noqa: ASYNC110 - LiteLLM's task
            await asyncio.sleep(0.01)
    await asyncio.to_thread(litellm.completion, **asked)


def test_one_line_in_and_all_as_before_on_the_way_out(provider: Provider) -> None:
    before = state()
    callers = Callers(provider, adapter.install(url="memory://"))
    assert litellm.cache is not None
    callers.chat()
    callers.chat()
    assert callers.count == 1
    assert state() != before
    adapter.uninstall()
    assert state() == before
    adapter.uninstall()
    assert state() == before
    callers.chat()
    assert callers.count == 2


def test_lists_of_callbacks_are_kept_as_objects(provider: Provider) -> None:
    """LiteLLM's own modules hold on to them."""
    before = {name: getattr(litellm, name) for name in LISTS}
    adapter.install(url="memory://")
    adapter.uninstall()
    assert all(getattr(litellm, name) is one for name, one in before.items())


def test_a_second_installation_takes_the_place_of_the_first(provider: Provider) -> None:
    before = state()
    first = Callers(provider, adapter.install(url="memory://"))
    first.chat()
    second = Callers(provider, adapter.install(url="memory://"))
    second.chat()
    assert provider.count() == 2
    assert (first.cache.stats().result.misses, second.cache.stats().result.misses) == (1, 1)
    assert (
        len([one for one in litellm.callbacks if type(one).__name__ == "RouteCacheCallback"]) == 1
    )
    adapter.uninstall()
    assert state() == before


def test_it_works_over_several_event_loops_one_after_another(provider: Provider) -> None:
    callers = Callers(provider, adapter.install(url="memory://"))

    async def ask() -> None:
        await both_ways(callers, "hello")
        await _clean_up()

    apart(asyncio.run, ask())
    apart(asyncio.run, ask())
    assert callers.count == 1


async def test_it_can_be_installed_inside_a_running_loop(provider: Provider) -> None:
    callers = Callers(provider, adapter.install(url="memory://"))
    await both_ways(callers, "hello")
    assert callers.count == 1
    hubs.uninstall()
    await callers.cache.aclose()


@pytest.mark.parametrize("is_given", [True, False])
@pytest.mark.parametrize("is_made_before", [True, False])
def test_routers_of_both_kinds_hit_whenever_they_were_made(
    provider: Provider, *, is_given: bool, is_made_before: bool
) -> None:
    makers = Callers(provider, RouteCache.from_url("memory://"))
    router = makers.router("small") if is_made_before else None
    adapter.install(router if is_given else None, url="memory://")
    router = router or makers.router("small")

    async def twice() -> None:
        for _ in range(2):
            await router.acompletion("small", HELLO)
            await asyncio.sleep(0.2)
        await _clean_up()

    apart(router.completion, "small", HELLO)
    apart(router.completion, "small", HELLO)
    apart(asyncio.run, twice())
    assert provider.count() == 1
    adapter.uninstall()
    assert router.cache_responses is False
    apart(router.completion, "small", HELLO)
    assert provider.count() == 2


def test_a_routers_own_word_counts_again_afterwards(provider: Provider) -> None:
    router = Callers(provider, RouteCache.from_url("memory://")).router("small")
    adapter.install(url="memory://")
    router.cache_responses = None
    assert bool(router.cache_responses)
    adapter.uninstall()
    assert router.cache_responses is None
    assert vars(holder()[0])[holder()[1]] is False


def test_a_cache_of_the_users_is_used_and_left_open(provider: Provider) -> None:
    mine = RouteCache.from_url("memory://", settings=Settings(result_ttl_s=77))
    assert adapter.install(cache=mine, isolation="team") is mine
    callers = Callers(provider, mine)
    callers.chat()
    callers.chat()
    assert callers.count == 1
    assert hubs.current() is not None
    adapter.uninstall()
    assert mine.stats().result.entries == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"result_ttl": 5}, "did you mean result_ttl_s"),
        ({"isolatoin": "key"}, "did you mean isolation"),
        ({"url": "nowhere://x"}, "unknown scheme"),
        ({"rival": "x"}, "rival is 'x'; it has to be one of win, stand-back"),
        (
            {"url": "memory://", "cache": RouteCache.from_url("memory://")},
            "cache= was given together with url=",
        ),
        (
            {"cache": RouteCache.from_url("memory://"), "result_ttl_s": 5},
            "result_ttl_s was given together with cache=; give it to the cache itself",
        ),
    ],
)
def test_a_wrong_argument_changes_nothing(arguments: dict[str, Any], text: str) -> None:
    cache = adapter.install(url="memory://")
    before = state()
    with pytest.raises(ConfigurationError, match=text):
        adapter.install(**arguments)
    assert state() == before
    assert hubs.current() is not None
    assert hubs.current().cache is cache  # type: ignore[union-attr]


def test_an_installation_that_fails_half_way_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(hubs.Hub):
        pass

    def fails(_: object) -> None:
        raise ConfigurationError("it cannot work here")

    before = state()
    real = hubs._factory
    monkeypatch.setattr(hubs, "_PARTS", ("sync", "results", "broken"))
    monkeypatch.setattr(hubs, "_factory", lambda name: fails if name == "broken" else real(name))
    with pytest.raises(ConfigurationError, match="it cannot work here"):
        adapter.install(url="memory://")
    assert state() == before
    assert hubs.current() is None


def test_uninstalling_ends_the_thread_of_a_networked_coordinator(
    provider: Provider, valkey_url: str
) -> None:
    before = set(threading.enumerate())
    callers = Callers(provider, adapter.install(url=valkey_url))
    callers.chat()
    assert any("routecache" in thread.name for thread in set(threading.enumerate()) - before)
    adapter.uninstall()
    left = set(threading.enumerate()) - before
    assert not [thread.name for thread in left if "routecache" in thread.name]


def test_all_names_of_the_adapter_can_be_had() -> None:
    assert set(adapter.__all__) <= set(dir(adapter))
    assert callable(adapter.install)
    with pytest.raises(AttributeError, match="no attribute 'instal'"):
        adapter.instal  # noqa: B018


@pytest.mark.parametrize(("name", "is_told"), [("routecach", True), ("otel", False)])
def test_settings_under_a_name_with_a_typo_are_told(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, is_told: bool
) -> None:
    monkeypatch.setattr(litellm, "callback_settings", {name: {"isolation": "team"}})
    monkeypatch.setattr(hubs, "_PARTS", ())
    monkeypatch.setattr(hubs, "_current", None)
    start_callback()
    assert (f"callback_settings.{name} is not read" in caplog.text) is is_told
