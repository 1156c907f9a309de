"""Which keys may get a lease: those that LiteLLM does nothing for but let them in.

A key with a limit, a budget or a guardrail has to pass LiteLLM each time. So a key is judged by
an allow-list: a field that is not on it must be as good as unset. A limit that a later release
adds is not on it either.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from routecache_middleware.adapters.litellm.fastlane.dialect import LaneDialect
from routecache_middleware.adapters.litellm.fastlane.leases import Accepted

__all__ = ["accepted", "objection"]

# Names, accounts kept and dates: nothing here is compared with anything when a request comes in.
# What is (models, routes, roles) was, for this very model and path, when the lease was given.
_HARMLESS = frozenset(
    {
        "allowed_routes",
        "api_key",
        "authenticated_by_custom_auth",
        "created_at",
        "created_by",
        "end_user_id",
        "expires",  # judged by itself
        "key_alias",
        "key_name",
        "key_rotation_at",
        "key_type",
        "last_active",
        "last_refreshed_at",
        "last_rotation_at",
        "models",
        "org_id",
        "organization_alias",
        "parent_otel_span",
        "request_route",
        "rotation_count",
        "auto_rotate",
        "rotation_interval",
        "settings_updated_at",
        "spend",
        "model_spend",
        "team_alias",
        "team_id",
        "team_member_spend",
        "team_models",
        "team_spend",
        "token",
        "total_spend",
        "updated_at",
        "updated_by",
        "user_email",
        "user_id",
        "user_role",
        "user_spend",
        "via_virtual_key",
    }
)
# LiteLLM writes here what it is going to do besides answering.
_MORE_THAN_ANSWER = (
    "_guardrail_pipelines",
    "applied_policies",
    "guardrail_config",
    "guardrails",
    "policies",
    "sensitive_data_routing_applied",
)


def objection(principal: Any, *, now_s: float, ttl_s: float) -> str | None:
    """Name the field for which a key gets no lease, or None.

    Args:
        principal: LiteLLM's ``UserAPIKeyAuth``.
        now_s: Unix seconds.
        ttl_s: How long a lease lasts.
    """
    if not isinstance(principal.api_key, str) or not principal.api_key:
        return "api_key"
    if getattr(principal, "model_extra", None):
        return "model_extra"
    if any((principal.__pydantic_private__ or {}).values()):
        return "private"
    for name, field in type(principal).model_fields.items():
        if name not in _HARMLESS and not _is_unset(getattr(principal, name), field):
            return str(name)
    return None if _lasts(principal.expires, now_s + ttl_s) else "expires"


def accepted(
    principal: Any, data: Mapping[str, Any], lane: LaneDialect, *, now_s: float, ttl_s: float
) -> Accepted | None:
    """Return what to write into a lease; None when the request must pass LiteLLM each time.

    Args:
        principal: LiteLLM's ``UserAPIKeyAuth``.
        data: The request as LiteLLM's hooks see it.
        lane: The request's API.
        now_s: Unix seconds.
        ttl_s: How long a lease lasts.
    """
    metadata = data.get(lane.metadata)
    if not isinstance(metadata, dict):
        return None
    if objection(principal, now_s=now_s, ttl_s=ttl_s) is not None:
        return None
    # LiteLLM's hooks write their marks to `metadata`, wherever it notes who is asking.
    places = [data, metadata, data.get("metadata")]
    marks = [place for place in places if isinstance(place, Mapping)]
    if any(place.get(name) for place in marks for name in _MORE_THAN_ANSWER):
        return None
    return Accepted(
        key=str(metadata.get("user_api_key") or principal.api_key),
        model=str(data.get("model") or ""),
        user=str(principal.end_user_id or ""),
        metadata={
            name: value
            for name, value in metadata.items()
            if name.startswith("user_api_key")
            and isinstance(value, str | int | float | None)
            and value is not None
        },
        lane=lane,
    )


def _is_unset(value: object, field: Any) -> bool:
    if value is None or value is False:
        return True
    if isinstance(value, str | list | tuple | dict | set | frozenset):
        return not value
    # Zero is a limit, unless it is what everybody has.
    return bool(value == field.get_default(call_default_factory=True))


def _lasts(expires: object, until_s: float) -> bool:
    """Whether a key is still good when a lease would end."""
    if expires is None:
        return True
    if isinstance(expires, str):
        try:
            expires = datetime.fromisoformat(expires)
        except ValueError:
            return False
    if not isinstance(expires, datetime):
        return False
    if expires.tzinfo is None:
        expires = expires.replace(tzinfo=UTC)
    return expires.timestamp() > until_s
