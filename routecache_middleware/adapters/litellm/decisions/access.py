"""Whether whoever asks could call a model by its own name, in the proxy.

LiteLLM checks access to the router alone: where it routes to is the operator's doing. So being
routed to a model does not mean that one may call it. A kept decision is used unless its maker could
and the one who asks cannot; then LiteLLM decides anew.
"""

from typing import Any

from routecache_middleware.adapters.litellm.decisions.request import Request, metadata_of

__all__ = ["has_direct_access"]


def has_direct_access(request: Request, model: str, router: Any) -> bool:
    """Whether key and team of a request may call ``model`` by its name; outside the proxy: yes."""
    auths = [metadata.get("user_api_key_auth") for metadata in metadata_of(request)]
    return all(_may_call(auth, model, router) for auth in auths if auth is not None)


def _may_call(auth: Any, model: str, router: Any) -> bool:
    from litellm.proxy.auth import auth_checks

    key_models = auth_checks._resolve_key_models_for_auth_check(valid_token=auth)  # noqa: SLF001 - pinned by a test
    try:
        for models, whose in ((key_models, "key"), (auth.team_models or [], "team")):
            auth_checks.can_object_call_model(
                model=model,
                llm_router=router,
                models=list(models),
                team_model_aliases=auth.team_model_aliases,
                team_id=auth.team_id,
                object_type=whose,
            )
    except Exception:  # noqa: BLE001 - that is how it says no
        return False
    return True
