"""Where a Router keeps its models and methods: in itself, or since LiteLLM 1.109 in a core.

``litellm.Router`` has become a front that hands everything on to a core. Attributes of old are
deprecated there, and patches of its class would miss what the core calls itself.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["aliases_of", "core_class", "core_of", "groups_of", "models_of", "strategy_names"]

_STRATEGY_MODULES = (
    "litellm.litellm_core_utils.routing_groups",
    "litellm.router_utils.routing_groups",
)


def core_class() -> Any:
    """Return the class whose methods do the work."""
    from litellm import Router

    return vars(Router).get("_core_class", Router)


def core_of(router: Any) -> Any:
    """Return the object whose methods do the work for a Router."""
    return vars(router).get("_core", router)


def models_of(router: Any) -> Iterable[Any]:
    """Return the entries of its model list; none before they were loaded."""
    if hasattr(router, "registry"):
        return list(router.registry().all()) if "_core_model_list" in vars(router) else ()
    return list(getattr(router, "model_list", None) or ())


def aliases_of(router: Any) -> Mapping[str, Any]:
    """Return ``model_group_alias``."""
    if hasattr(router, "registry"):
        known = "_core_model_group_alias" in vars(router)
        return dict(router.registry().aliases() or {}) if known else {}
    return dict(getattr(router, "model_group_alias", None) or {})


def groups_of(router: Any) -> Mapping[str, Iterable[str]]:
    """Return its routing groups: name to the groups in each."""
    if hasattr(router, "registry"):
        groups = (
            router.registry().routing_groups() if "_core_routing_groups" in vars(router) else {}
        )
    else:
        groups = getattr(router, "routing_groups", None)
    return {name: list(group.models) for name, group in dict(groups or {}).items()}


def strategy_names() -> Any:
    """Return the module that lists the names of routing strategies.

    Raises:
        ModuleNotFoundError: This release keeps them elsewhere.
    """
    for name in _STRATEGY_MODULES[:-1]:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    return import_module(_STRATEGY_MODULES[-1])
