"""What load, pinning, the routing strategy and the watch over models need LiteLLM to be like.

Each test fails when a release changes one of these; the message says what was relied on.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import litellm
import pytest
from litellm import Router
from litellm.constants import LITELLM_LOGGING_NO_UPSTREAM_LLM_CALL
from litellm.integrations.custom_logger import CustomLogger
from litellm.types.router import Deployment

from routecache_middleware.adapters.litellm.load import part as load_part
from routecache_middleware.adapters.litellm.models.watch import METHODS
from routecache_middleware.adapters.litellm.router_core import (
    aliases_of,
    core_class,
    core_of,
    groups_of,
    models_of,
    strategy_names,
)
from tests.adapters.litellm.provider import Provider
from tests.adapters.litellm.with_parts import MESSAGES, deployment, until

pytestmark = pytest.mark.filterwarnings("ignore:Router.* is deprecated:DeprecationWarning")
CORE = core_class()


class _Spy(CustomLogger):
    """Notes the record that each event is given."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.records: dict[str, Any] = {}
        self.asked: list[dict[str, Any]] = []

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        kwargs["planted"] = self
        self._note("calling", kwargs)

    async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> None:
        self._note("before", kwargs)

    async def async_post_call_success_deployment_hook(
        self, request_data: Any, response: Any, call_type: Any
    ) -> None:
        self._note("answered", request_data)

    async def async_log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        self._note("succeeded", kwargs)

    async def async_filter_deployments(
        self,
        model: Any,
        healthy_deployments: Any,
        messages: Any,
        request_kwargs: Any = None,
        parent_otel_span: Any = None,
    ) -> Any:
        self.asked.append({"messages": messages, **(request_kwargs or {})})
        return healthy_deployments

    def _note(self, event: str, record: Any) -> None:
        self.events.append(event)
        self.records[event] = record


@pytest.fixture
async def spy(provider: Provider) -> _Spy:
    """One call of a Router, watched."""
    spy = _Spy()
    litellm.callbacks.append(spy)
    router = Router(model_list=[deployment(provider.url, "g", "d1")])
    await router.acompletion("g", MESSAGES, temperature=0.5)

    async def is_over() -> bool:
        return "succeeded" in spy.events

    await until(is_over)
    return spy


async def test_events_of_a_call_come_in_order_and_once(spy: _Spy) -> None:
    assert spy.events == ["before", "calling", "answered", "succeeded"]


async def test_the_record_of_a_call_is_one_mapping_from_the_call_to_its_log_event(
    spy: _Spy,
) -> None:
    record = spy.records["calling"]
    for event in ("before", "answered"):
        found = spy.records[event]["litellm_logging_obj"].model_call_details
        assert found is record, f"{event}: litellm_logging_obj.model_call_details is another one"
    assert spy.records["succeeded"].get("planted") is spy, "what stands in the record is lost"


async def test_the_record_says_which_deployment_and_group_is_called(spy: _Spy) -> None:
    params = spy.records["calling"]["litellm_params"]
    assert params["model_info"]["id"] == "d1", "litellm_params.model_info.id"
    assert params["custom_llm_provider"] == "openai", "litellm_params.custom_llm_provider"
    metadata = params["metadata"]
    assert metadata["deployment_model_name"] == metadata["model_group"] == "g"
    assert spy.records["calling"]["model"] == "d1", "model is the name at the provider"
    before = spy.records["before"]
    assert before["model_info"]["id"] == "d1", "kwargs.model_info.id before the call"
    assert before["litellm_call_id"] == spy.records["succeeded"]["litellm_call_id"]


async def test_a_filter_is_shown_messages_and_arguments(spy: _Spy) -> None:
    (asked,) = spy.asked
    assert asked["messages"] == MESSAGES
    assert asked["temperature"] == 0.5


def test_calls_that_never_reach_a_provider_are_marked() -> None:
    assert LITELLM_LOGGING_NO_UPSTREAM_LLM_CALL == load_part._UPSTREAM_NOT_CALLED


def test_the_model_map_is_a_mapping_of_names_to_plain_values() -> None:
    entry = litellm.model_cost["gpt-4o-mini"]
    assert isinstance(entry, Mapping)
    for name in ("max_input_tokens", "input_cost_per_token", "litellm_provider", "mode"):
        assert name in entry, name


def test_strategies_are_normalised_built_and_checked_where_we_expect() -> None:
    assert isinstance(vars(CORE)["_normalize_strategy"], staticmethod)
    parameters = list(inspect.signature(CORE._build_strategy_selector).parameters)
    assert parameters[:2] == ["self", "strategy"], "Router._build_strategy_selector"
    routing_groups = strategy_names()
    assert "least-busy" in routing_groups.VALID_ROUTING_STRATEGIES
    source = inspect.getsource(routing_groups.validate_routing_strategy)
    assert "VALID_ROUTING_STRATEGIES" in source
    assert CORE._DEFAULT_SELECTOR_ATTR_BY_STRATEGY["least-busy"] == "leastbusy_logger"


@pytest.mark.parametrize("name", ["_select_deployment_async", "_select_deployment_sync"])
def test_a_least_busy_selector_is_asked_with_the_group_and_what_is_left_of_it(name: str) -> None:
    source = inspect.getsource(getattr(CORE, name))
    case = source[source.index('case "least-busy"') :].split("case ", 2)[1]
    assert "get_available_deployments(" in case
    assert "model_group=model" in case
    assert "healthy_deployments=healthy_deployments" in case


@pytest.mark.parametrize("names", METHODS)
def test_models_change_through_methods_of_one_class(names: tuple[str, ...]) -> None:
    assert any(inspect.isfunction(vars(CORE).get(name)) for name in names), f"{CORE}: {names}"


def test_a_router_takes_attributes_where_we_see_it_and_can_be_held_weakly() -> None:
    assert ("__setattr__" in vars(CORE)) == ("apply" in vars(CORE)), "assigned aliases are not seen"
    assert CORE.__hash__ is object.__hash__
    assert CORE.__weakref__ is not None


def test_models_aliases_and_routing_groups_can_be_read(provider: Provider) -> None:
    group = {"group_name": "mine", "models": ["g"], "routing_strategy": "simple-shuffle"}
    router = Router(
        model_list=[deployment(provider.url, "g", "d1")],
        model_group_alias={"alias": "g"},
        routing_groups=[group],
    )
    core = core_of(router)
    assert isinstance(core, CORE)
    (entry,) = models_of(core)
    assert entry["model_info"]["id"] == "d1"
    assert aliases_of(core) == {"alias": "g"}
    assert groups_of(core) == {"mine": ["g"]}


def test_an_unchanged_deployment_is_left_alone_and_says_so(provider: Provider) -> None:
    entry = deployment(provider.url, "g", "d1")
    router = Router(model_list=[entry])
    core = core_of(router)
    (kept,) = models_of(core)
    assert isinstance(kept, dict)
    same = Deployment(**entry)
    assert router.upsert_deployment(same) is None, "upsert_deployment returns None"
    assert router.add_deployment(same) is None, "add_deployment returns None"
    assert router.delete_deployment("nobody") is None, "delete_deployment returns None"
    assert next(iter(models_of(core))) is kept, "an unchanged deployment is replaced"
    assert router.upsert_deployment(Deployment(**deployment(provider.url, "g", "d1", rpm=9)))
    assert next(iter(models_of(core))) is not kept, "a changed deployment is changed in place"


@pytest.mark.parametrize(
    "name",
    [
        "_excluded_deployment_ids",
        "_retry_skipped_deployment_ids",
        "_routing_plugin_candidate_models",
        "_target_order",
    ],
)
def test_what_has_been_decided_stands_under_names_that_we_know(name: str) -> None:
    assert f'"{name}"' in inspect.getsource(CORE), f"request_kwargs[{name!r}]"
