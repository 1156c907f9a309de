"""What else looks at requests: with a guardrail at work nobody gets a lease."""

from importlib import import_module
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.integrations.custom_logger import CustomLogger

from routecache_middleware.adapters.litellm.fastlane import surroundings as module
from routecache_middleware.adapters.litellm.fastlane.surroundings import Surroundings


class Ours(CustomLogger):
    async def async_pre_call_hook(self, *_: Any, **__: Any) -> None:
        pass


class Moderating(CustomLogger):
    async def async_moderation_hook(self, *_: Any, **__: Any) -> None:
        pass


class Rewriting(CustomLogger):
    async def async_post_call_success_hook(self, *_: Any, **__: Any) -> None:
        pass


class InheritingIt(Rewriting):
    pass


class Filtering(CustomLogger):
    async def async_post_call_streaming_iterator_hook(self, *_: Any, **__: Any) -> Any:
        yield None


class Guarding(CustomGuardrail):
    pass


class Logging(CustomLogger):
    async def async_log_success_event(self, *_: Any, **__: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def proxy_server() -> Any:
    """LiteLLM's proxy; imported here because it warns about itself."""
    return import_module("litellm.proxy.proxy_server")


@pytest.fixture
def around() -> Surroundings:
    litellm.callbacks = []
    return Surroundings(litellm, Ours())


def test_nothing_stands_against_leases_in_an_empty_proxy(around: Surroundings) -> None:
    assert around.objection() is None


@pytest.mark.parametrize("kind", [Ours, Moderating, Rewriting, InheritingIt, Filtering])
def test_a_callback_that_looks_at_requests_or_answers_does(
    around: Surroundings, kind: type[CustomLogger]
) -> None:
    litellm.callbacks = [kind()]
    assert around.objection() == f"callback {kind.__name__}"
    litellm.callbacks = []
    assert around.objection() is None


def test_a_guardrail_does(around: Surroundings) -> None:
    litellm.callbacks = [Logging(), Guarding(guardrail_name="g")]
    assert around.objection() == "guardrail Guarding"


def test_what_only_logs_does_not_nor_do_we(around: Surroundings) -> None:
    litellm.callbacks = [Logging(), around._ours, print]
    assert around.objection() is None


def test_the_hooks_that_litellm_always_loads_do_not() -> None:
    """Each is known by name; a new one, or one that was renamed, keeps the lane closed."""
    unknown = set()
    for kind in import_module("litellm.proxy.hooks").PROXY_HOOKS.values():
        looks = any(
            getattr(kind, name) is not getattr(CustomLogger, name) for name in module._HOOKS
        )
        if looks and (kind.__module__, kind.__name__) not in module._HARMLESS:
            unknown.add(kind.__name__)
    assert unknown == set()


def test_prometheus_does_not() -> None:
    kind = import_module("litellm.integrations.prometheus").PrometheusLogger
    assert (kind.__module__, kind.__name__) in module._HARMLESS


def test_the_hooks_that_are_watched_are_litellms() -> None:
    for name in module._HOOKS:
        assert callable(getattr(CustomLogger, name, None)), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_budget", 10.0),
        ("max_user_budget", 1.0),
        ("max_end_user_budget", 1.0),
        ("tag_budget_config", {"t": {}}),
    ],
)
def test_a_budget_of_the_whole_proxy_does(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    assert hasattr(litellm, name)
    monkeypatch.setattr(litellm, name, value)
    found = around.objection()
    assert found is not None
    assert name in found


@pytest.mark.parametrize(
    "settings",
    [{"allowed_ips": []}, {"global_max_parallel_requests": 1}, {"max_parallel_requests": 1}],
)
def test_a_restriction_of_the_whole_proxy_does(
    around: Surroundings,
    monkeypatch: pytest.MonkeyPatch,
    proxy_server: Any,
    settings: dict[str, object],
) -> None:
    monkeypatch.setattr(proxy_server, "general_settings", settings)
    assert around.objection() == f"general_settings.{next(iter(settings))}"
