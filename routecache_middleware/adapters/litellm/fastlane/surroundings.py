"""What else looks at requests in this proxy: with a guardrail at work nobody gets a lease."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

__all__ = ["Surroundings"]

# A hit runs none of these. What merely logs has other hooks.
_HOOKS = (
    "async_pre_call_hook",
    "async_moderation_hook",
    "async_post_call_success_hook",
    "async_post_call_streaming_hook",
    "async_post_call_streaming_iterator_hook",
    "async_post_call_response_headers_hook",
)
# LiteLLM's own callbacks that do nothing to a request that the lane takes, of a key that may have a
# lease, by any of its APIs: they are about limits, sessions (which LiteLLM reads out of metadata
# and headers), skills (out of `container`) and responses that are continued, none of which such a
# key or request has got; or they count and trace. The ids of responses they encrypt are sent to the
# very credential that they were encrypted for.
_HARMLESS = frozenset(
    {
        ("litellm.integrations.opentelemetry", "OpenTelemetry"),
        ("litellm.integrations.otel.langfuse_logger", "LangfuseContentOpenTelemetryV2"),
        ("litellm.integrations.otel.logger", "OpenTelemetryV2"),
        ("litellm.integrations.prometheus", "PrometheusLogger"),
        ("litellm.proxy.hooks.cache_control_check", "_PROXY_CacheControlCheck"),
        ("litellm.proxy.hooks.litellm_skills.main", "SkillsInjectionHook"),
        (
            "litellm.proxy.hooks.max_budget_per_session_limiter",
            "_PROXY_MaxBudgetPerSessionHandler",
        ),
        ("litellm.proxy.hooks.max_iterations_limiter", "_PROXY_MaxIterationsHandler"),
        ("litellm.proxy.hooks.parallel_request_limiter", "_PROXY_MaxParallelRequestsHandler"),
        ("litellm.proxy.hooks.parallel_request_limiter_v3", "_PROXY_MaxParallelRequestsHandler_v3"),
        ("litellm.proxy.hooks.responses_id_security", "ResponsesIDSecurity"),
        ("litellm.proxy.hooks.sensitive_data_routing", "_PROXY_SensitiveDataRoutingHandler"),
        ("litellm.router_strategy.adaptive_router.hooks", "AdaptiveRouterPostCallHook"),
    }
)
_BUDGETS = ("max_budget", "max_user_budget", "max_end_user_budget", "max_end_user_budget_id")
_TAG_BUDGETS = "tag_budget_config"
_RESTRICTIONS = ("allowed_ips", "global_max_parallel_requests", "max_parallel_requests")


class Surroundings:
    """Watches what LiteLLM has loaded and how it is configured."""

    def __init__(self, litellm: ModuleType, ours: object) -> None:
        """Watch.

        Args:
            litellm: The module: its globals are its configuration.
            ours: Our own callback.
        """
        self._litellm = litellm
        self._ours = ours
        self._judged: tuple[object, ...] | None = None
        self._judgement: str | None = None

    def objection(self) -> str | None:
        """Name what every request has to pass, or None."""
        return self._callback() or self._budget() or self._restriction()

    def _callback(self) -> str | None:
        callbacks = tuple(self._litellm.callbacks)
        if self._judged is None or not _is_same(callbacks, self._judged):
            self._judgement = next(self._inspecting(callbacks), None)
            # One that is only named so far is loaded by LiteLLM when it is first wanted.
            is_final = not any(isinstance(callback, str) for callback in callbacks)
            self._judged = callbacks if is_final else None
        return self._judgement

    def _inspecting(self, callbacks: tuple[object, ...]) -> Iterator[str]:
        from litellm.integrations.custom_guardrail import CustomGuardrail
        from litellm.integrations.custom_logger import CustomLogger

        for named in callbacks:
            callback = _resolved(named) if isinstance(named, str) else named
            kind = type(callback)
            if callback is self._ours or not isinstance(callback, CustomLogger):
                continue  # LiteLLM calls the hooks of no others
            is_known = (kind.__module__, kind.__name__) in _HARMLESS
            if isinstance(callback, CustomGuardrail) or hasattr(kind, "apply_guardrail"):
                yield f"guardrail {kind.__name__}"
            elif not is_known and any(
                getattr(kind, hook) is not getattr(CustomLogger, hook) for hook in _HOOKS
            ):
                yield f"callback {kind.__name__}"

    def _budget(self) -> str | None:
        for name in _BUDGETS:
            if getattr(self._litellm, name, None):
                return f"litellm_settings.{name}"
        return _TAG_BUDGETS if getattr(self._litellm, _TAG_BUDGETS, None) else None

    def _restriction(self) -> str | None:
        from litellm.proxy import proxy_server
        from litellm.proxy.policy_engine.policy_registry import get_policy_registry

        settings: dict[str, Any] = proxy_server.general_settings or {}
        for name in _RESTRICTIONS:
            if settings.get(name) is not None:
                return f"general_settings.{name}"
        return "policies" if get_policy_registry().is_initialized() else None


def _is_same(callbacks: tuple[object, ...], judged: tuple[object, ...]) -> bool:
    return len(callbacks) == len(judged) and all(
        now is then for now, then in zip(callbacks, judged, strict=True)
    )


def _resolved(name: str) -> object:
    from litellm.litellm_core_utils.litellm_logging import get_custom_logger_compatible_class

    return get_custom_logger_compatible_class(name)
