"""Configurations of test proxies."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the plugins import this module inside the proxy
    from tests.adapters.litellm.provider import Provider

__all__ = ["CALLBACK", "FORBIDDEN", "GUARD", "LOGGER", "MASTER_KEY", "deployment", "proxy_config"]

MASTER_KEY = "sk-test-master-key-0123456789abcdef"
CALLBACK = "routecache_middleware.adapters.litellm.callback"
LOGGER = "tests.adapters.litellm.plugins.logger"
GUARD = "tests.adapters.litellm.plugins.guard"
FORBIDDEN = "open sesame"
"""What the guard refuses."""
_AUTH = "tests.adapters.litellm.custom_auth.authenticate"


def deployment(
    group: str, provider: "Provider", *, model: str | None = None, **params: object
) -> dict[str, Any]:
    """One entry of ``model_list`` that asks the scripted provider.

    Args:
        group: What clients ask for.
        provider: Who answers.
        model: LiteLLM's name of the model; None: ``openai/<group>``.
        params: Further ``litellm_params``.
    """
    name = model or f"openai/{group}"
    base = provider.origin if name.startswith("anthropic/") else provider.url
    return {
        "model_name": group,
        "litellm_params": {"model": name, "api_base": base, "api_key": "upstream", **params},
    }


def proxy_config(
    *deployments: Mapping[str, Any],
    callbacks: tuple[str, ...] = (CALLBACK, LOGGER),
    cache: Mapping[str, Any] | None = None,
    litellm: Mapping[str, Any] | None = None,
    router: Mapping[str, Any] | None = None,
    general: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A ``config.yaml``.

    Args:
        deployments: ``model_list``.
        callbacks: What is loaded, in order.
        cache: ``callback_settings.routecache``; None: the block is not there.
        litellm: Further ``litellm_settings``.
        router: ``router_settings``.
        general: Further ``general_settings``.
    """
    settings = {"callbacks": list(callbacks), "enable_post_custom_auth_checks": True}
    found: dict[str, Any] = {
        "model_list": list(deployments),
        "litellm_settings": {**settings, **(litellm or {})},
        "general_settings": {
            "master_key": MASTER_KEY,
            "custom_auth": _AUTH,
            "custom_auth_run_common_checks": True,
            **(general or {}),
        },
    }
    if cache is not None:
        found["callback_settings"] = {"routecache": dict(cache)}
    if router is not None:
        found["router_settings"] = dict(router)
    return found
