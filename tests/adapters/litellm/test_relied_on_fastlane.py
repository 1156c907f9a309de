"""What of LiteLLM's inside the fast lane and the administration API rely on."""

import inspect
from importlib import import_module
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth
from starlette.applications import Starlette


@pytest.fixture
def proxy_server() -> Any:
    return import_module("litellm.proxy.proxy_server")


def test_starlette_looks_its_stack_up_for_each_request() -> None:
    source = inspect.getsource(Starlette.__call__)
    assert "self.middleware_stack" in source, "the lane cannot stand before a running app any more"


def test_the_proxys_app_is_where_it_was(proxy_server: Any) -> None:
    assert isinstance(proxy_server.app, Starlette)
    assert isinstance(proxy_server.app.router.routes, list), (
        "the administration API is mounted here"
    )


def test_the_proxys_settings_are_where_they_were(proxy_server: Any) -> None:
    for name in ("general_settings", "master_key", "user_custom_auth"):
        assert hasattr(proxy_server, name), (
            f"proxy_server.{name} is read for leases and by /routecache"
        )


def test_hooks_are_called_with_the_names_that_we_take() -> None:
    names = list(inspect.signature(CustomLogger.async_pre_call_hook).parameters)
    assert names[1:] == ["user_api_key_dict", "cache", "data", "call_type"]


def test_keys_are_records_whose_fields_can_be_listed() -> None:
    fields = UserAPIKeyAuth.model_fields
    assert {"api_key", "rpm_limit", "max_budget", "metadata", "expires"} <= set(fields)
    assert fields["metadata"].get_default(call_default_factory=True) == {}


def test_keys_take_no_unknown_fields_unseen() -> None:
    """Either they are dropped, or they are in ``model_extra``, where they stand against a lease."""
    key = UserAPIKeyAuth(api_key="k", a_limit_of_tomorrow=5)
    assert not hasattr(key, "a_limit_of_tomorrow") or key.model_extra


def test_the_role_of_an_administrator_has_its_name() -> None:
    assert LitellmUserRoles.PROXY_ADMIN.value == "proxy_admin"


def test_authentication_depends_on_what_can_be_asked_of_a_request() -> None:
    auth = import_module("litellm.proxy.auth.user_api_key_auth").user_api_key_auth
    parameters = dict(inspect.signature(auth).parameters)
    assert next(iter(parameters)) == "request"
    del parameters["request"]
    for name, parameter in parameters.items():
        dependency = getattr(parameter.default, "dependency", None)
        assert callable(dependency), f"{name} of user_api_key_auth is no dependency"


def test_policies_can_be_asked_for() -> None:
    module = import_module("litellm.proxy.policy_engine.policy_registry")
    assert module.get_policy_registry().is_initialized() in (True, False)


def test_logging_can_be_told_of_a_hit() -> None:
    wanted = {"model", "messages", "stream", "call_type", "start_time", "litellm_call_id"}
    assert wanted <= set(inspect.signature(Logging.__init__).parameters)
    assert "cache_hit" in inspect.signature(Logging.async_success_handler).parameters
    assert callable(Logging.update_environment_variables)


def test_callbacks_can_be_added_under_way() -> None:
    assert callable(litellm.logging_callback_manager.add_litellm_callback)
    assert isinstance(litellm.callbacks, list)
