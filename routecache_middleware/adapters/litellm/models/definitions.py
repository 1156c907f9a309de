"""What a Router's names stand for, and which of them no longer stand for the same. Pure.

A group stands for the set of its deployments' definitions. What decides who may call how often, or
with which credentials, is no part of a definition: a new key gets the same answers. Everything else
is, also what nobody here has heard of. So is where a deployment stands: another ``api_base`` may
well be another model.
"""

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

__all__ = ["Definitions", "changed_names", "define", "describe"]

_CREDENTIALS = frozenset(
    {
        "api_key",
        "aws_access_key_id",
        "aws_external_id",
        "aws_profile_name",
        "aws_role_name",
        "aws_secret_access_key",
        "aws_session_name",
        "aws_session_tags",
        "aws_session_token",
        "aws_sts_endpoint",
        "aws_web_identity_token",
        "azure_ad_token",
        "azure_password",
        "azure_scope",
        "azure_username",
        "client_id",
        "client_secret",
        "tenant_id",
        "valkey_password",
        "vertex_credentials",
    }
)
_LIMITS = frozenset(
    {
        "allow_client_keepalive_override",
        "budget_duration",
        "configurable_clientside_auth_params",
        "cooldown_time",
        "default_api_key_rpm_limit",
        "default_api_key_tpm_limit",
        "itpm",
        "keepalive_seconds",
        "litellm_trace_id",
        "max_budget",
        "max_parallel_requests",
        "max_retries",
        "model_info",
        "order",
        "otpm",
        "provider_affinity_header",
        "rpm",
        "stream_timeout",
        "stream_timeout_by_service_tier",
        "tag_regex",
        "tags",
        "timeout",
        "timeout_by_service_tier",
        "tpm",
        "use_in_pass_through",
        "weight",
    }
)
_NO_DIFFERENCE = _CREDENTIALS | _LIMITS


class Definitions(msgspec.Struct, frozen=True):
    """What the names of a Router stand for.

    Attributes:
        groups: By the name that is asked for: definitions of its deployments.
        deployments: By id: its definition.
        aliases: Alias to the name it stands for.
        joined: Routing group to the groups in it.
        known: Definitions by entry of the model list, so that none is computed twice.
    """

    groups: Mapping[str, frozenset[str]] = {}
    deployments: Mapping[str, str] = {}
    aliases: Mapping[str, str] = {}
    joined: Mapping[str, frozenset[str]] = {}
    known: Mapping[int, tuple[Any, str]] = {}


def describe(
    model_list: Iterable[Any],
    aliases: Mapping[str, Any],
    joined: Mapping[str, Iterable[str]],
    former: Definitions,
) -> Definitions:
    """Return what the names of a Router stand for now.

    Args:
        model_list: Its deployments.
        aliases: ``model_group_alias``.
        joined: Routing groups and their models.
        former: What was described before: what has not been replaced is not looked at again.
    """
    groups: dict[str, set[str]] = {}
    deployments: dict[str, str] = {}
    known: dict[int, tuple[Any, str]] = {}
    for entry in model_list:
        if not isinstance(entry, Mapping):
            continue
        seen = former.known.get(id(entry))  # the entry is kept with it, so nobody else has its id
        digest = seen[1] if seen is not None and seen[0] is entry else define(entry)
        known[id(entry)] = (entry, digest)
        info = entry.get("model_info") or {}
        for name in (entry.get("model_name"), info.get("team_public_model_name")):
            if name:
                groups.setdefault(str(name), set()).add(digest)
        if info.get("id"):
            deployments[str(info["id"])] = digest
    return Definitions(
        groups={name: frozenset(digests) for name, digests in groups.items()},
        deployments=deployments,
        aliases={alias: _target(item) for alias, item in aliases.items()},
        joined={name: frozenset(models) for name, models in joined.items()},
        known=known,
    )


def define(entry: Mapping[str, Any]) -> str:
    """Return a digest of all that makes a difference in the answers of a deployment."""
    params = entry.get("litellm_params") or {}
    counted = {
        name: value
        for name, value in params.items()
        if value is not None and name not in _NO_DIFFERENCE and "cost" not in name
    }
    packed = json.dumps(counted, sort_keys=True, default=_plain)
    return blake2b(packed.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def changed_names(before: Definitions, after: Definitions) -> frozenset[str]:
    """Return names, and ids of deployments, that stood for something else before.

    Names that are new are not among them: nothing was kept under them.
    """
    changed = _differing(before.groups, after.groups) | _differing(before.aliases, after.aliases)
    changed |= before.groups.keys() & (after.aliases.keys() ^ before.aliases.keys())
    changed |= _differing(before.joined, after.joined)
    changed |= _differing(before.deployments, after.deployments)
    while True:  # an alias may stand for a routing group, whose groups have changed
        further = {
            name
            for one in (before, after)
            for name, targets in (*_singly(one.aliases), *one.joined.items())
            if name not in changed and not changed.isdisjoint(targets)
        }
        if not further:
            return frozenset(changed)
        changed |= further


def _differing(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    return {name for name, value in before.items() if after.get(name) != value}


def _singly(aliases: Mapping[str, str]) -> list[tuple[str, frozenset[str]]]:
    return [(alias, frozenset({target})) for alias, target in aliases.items()]


def _target(item: object) -> str:
    return str(item.get("model", "")) if isinstance(item, Mapping) else str(item)


def _plain(value: object) -> str:
    """Return what stays the same for an object that was made anew."""
    dumped = getattr(value, "model_dump_json", None)
    if callable(dumped):
        return str(dumped())
    return f"{type(value).__module__}.{type(value).__qualname__}"
