"""Which arguments of a LiteLLM call are part of its cache key: all but those listed here.

An argument that is a field of the API counts as its dialect says. Any other counts

* always, when it is a parameter of some LLM API, or one that LiteLLM does not know: a new parameter
  of a provider never lets two different requests meet. LiteLLM's own arguments (logging, prices,
  retries, callbacks, ...: several hundred) do not count, but for ``OWNED`` below.
* never, when it stands in ``_NEVER``: it says who asks, or how long to wait for the answer.
* by name, when it holds request headers: those that only trace a request do not.
* as an *endpoint* (``_ENDPOINT``), when the caller chose it. Where a Router's call goes, and with
  which credential, is the deployment's matter: all deployments of a group share answers. What the
  client itself has sent along still counts.

None counts as absent. ``model`` stands in the key itself.
"""

from collections.abc import Collection, Mapping
from enum import Enum, auto
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from routecache_middleware.adapters.litellm.results.apis import Api

__all__ = ["OWNED", "Counts", "counted", "counts", "semantic_headers"]


class Counts(Enum):
    """Whether an argument is part of the key."""

    ALWAYS = auto()
    NEVER = auto()
    HEADERS = auto()
    ENDPOINT = auto()


_NEVER = frozenset(
    {
        "allowed_cache_controls",
        "cache",  # what the caller asks of the cache; its namespace counts
        "cache_key",
        "caching",
        "client",
        "dynamic_cache_object",
        "litellm_metadata",
        "litellm_params",
        "litellm_parent_otel_span",
        "mock_delay",
        "mock_testing_content_policy_fallbacks",
        "mock_testing_context_fallbacks",
        "mock_testing_fallbacks",
        "mock_testing_rate_limit_error",
        "mock_testing_timeout",
        "model",
        "original_function",
        "parent_otel_span",
        "specific_deployment",
        "timeout",
    }
)

# LiteLLM takes these for its own business, but they change what is sent or what comes back.
OWNED = frozenset(
    {
        "allowed_openai_params",
        "assistant_continue_message",
        "bos_token",
        "custom_prompt_dict",
        "ensure_alternating_roles",
        "eos_token",
        "final_prompt_value",
        "guardrails",
        "hf_model_name",
        "initial_prompt_value",
        "litellm_system_prompt",
        "merge_reasoning_content_in_choices",
        "mock_response",
        "prompt_environment",
        "prompt_id",
        "prompt_label",
        "prompt_variables",
        "prompt_version",
        "roles",
        "search_tool_name",
        "supports_system_message",
        "use_chat_completions_api",
        "user_continue_message",
    }
)
_HEADERS = frozenset({"extra_headers", "headers", "provider_specific_header"})
_ENDPOINT = frozenset(
    {
        "api_base",
        "api_key",
        "api_version",
        "base_model",
        "base_url",
        "client_id",
        "client_secret",
        "custom_llm_provider",
        "data_residency",
        "deployment_id",
        "litellm_credential_name",
        "organization",
        "project",
        "project_id",
        "region_name",
        "space_id",
        "tenant_id",
        "token",
        "use_litellm_proxy",
        "use_xai_oauth",
        "wx_credentials",
        "zen_api_key",
    }
)
_ENDPOINT_PREFIXES = (
    "anthropic_",
    "aws_",
    "azure_",
    "databricks_",
    "oci_",
    "openai_identity_",
    "openai_service_",
    "s3_",
    "sap_",
    "vertex_",
    "watsonx_",
)
# Theirs by prefix, but parameters of an API.
_NO_ENDPOINT = frozenset({"anthropic_beta", "anthropic_version"})

_TRACING = frozenset(
    {
        "b3",
        "baggage",
        "elastic-apm-traceparent",
        "grpc-trace-bin",
        "newrelic",
        "request-id",
        "sentry-trace",
        "sw8",
        "traceparent",
        "tracestate",
        "uber-trace-id",
        "user-agent",
        "x-amzn-trace-id",
        "x-client-request-id",
        "x-cloud-trace-context",
        "x-correlation-id",
        "x-request-id",
    }
)
_TRACING_PREFIXES = ("uberctx-", "x-b3-", "x-datadog-", "x-stainless-")


@lru_cache(maxsize=4096)  # names come from clients, and asking LiteLLM takes 5 µs
def counts(name: str) -> Counts:
    """Whether an argument of this name is part of the key, when it is no field of the API."""
    if name in _NEVER:
        return Counts.NEVER
    if name in _HEADERS:
        return Counts.HEADERS
    if name in OWNED:
        return Counts.ALWAYS
    is_endpoint = name in _ENDPOINT or name.startswith(_ENDPOINT_PREFIXES)
    if is_endpoint and name not in _NO_ENDPOINT:
        return Counts.ENDPOINT
    return Counts.NEVER if _is_litellms(name) else Counts.ALWAYS


def counted(
    kwargs: Mapping[str, Any],
    api: "Api",
    *,
    ignored: Collection[str],
    endpoint: Collection[str] | None,
) -> dict[str, Any]:
    """Return the arguments that are part of the key, as they came.

    Args:
        kwargs: All arguments.
        api: Whose fields are known.
        ignored: Further names to leave out.
        endpoint: Which of the endpoint's arguments the caller has chosen; None: all of them.
    """
    found: dict[str, Any] = {}
    for name, value in kwargs.items():
        if value is None or name in ignored or name in api.ignored:
            continue
        kind = _ALWAYS if name in api.counted else counts(name)
        if kind is _ALWAYS:
            found[name] = value
        elif kind is _NEVER_COUNTS:
            continue
        elif kind is Counts.HEADERS:
            headers = semantic_headers(value)
            if headers:
                found[name] = headers
        elif endpoint is None or name in endpoint:
            found[name] = value
    return found


def semantic_headers(value: Any) -> Any:
    """Return request headers without those that only trace a request; names in lower case."""
    if isinstance(value, list | tuple):
        return [semantic_headers(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    nested = value.get("extra_headers")
    if isinstance(nested, Mapping):  # headers for one provider
        return {**value, "extra_headers": semantic_headers(nested)}
    # Pairs: two names that differ only in their case are two headers.
    pairs = ((str(name).lower(), item) for name, item in value.items())
    return sorted(([name, item] for name, item in pairs if not _is_tracing(name)), key=_first)


def _first(pair: list[Any]) -> Any:
    return pair[0]


def _is_tracing(name: str) -> bool:
    return name in _TRACING or name.startswith(_TRACING_PREFIXES)


def _is_litellms(name: str) -> bool:
    from litellm.litellm_core_utils.model_param_helper import ModelParamHelper
    from litellm.types.utils import is_litellm_owned_kwarg

    if name in ModelParamHelper.get_all_llm_api_params():
        return False
    return bool(is_litellm_owned_kwarg(name))


_ALWAYS, _NEVER_COUNTS = Counts.ALWAYS, Counts.NEVER  # reading them from the class takes 75 ns
