"""Options: what is special to LiteLLM, beside Settings and CachePolicy; and where all three stand.

In the proxy's ``config.yaml``::

    callback_settings:
      routecache:
        url: redis://cache:6379/0
        result_ttl_s: 900
        fast_lane: true

Names of all three records may stand there side by side. The environment wins over the file:
``ROUTECACHE_<SETTING>``, ``ROUTECACHE_POLICY_<SETTING>`` and ``ROUTECACHE_LITELLM_<OPTION>``. The
policy's ``decide`` is named there as callbacks are: ``decide: rules:function``, see :mod:`.named`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from routecache_middleware.adapters.litellm.named import VARIABLE, named_decide
from routecache_middleware.core.checks import check_flag, freeze_set, is_amount, wrong
from routecache_middleware.core.choices import Word
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.settings import Settings
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.config import (
    check_name,
    configured_url,
    load_policy,
    load_settings,
    load_table,
)

if TYPE_CHECKING:
    from routecache_middleware.wiring.cache import RouteCache

__all__ = ["Configured", "Isolation", "Options", "Rival", "configure", "for_cache"]

_TABLE = "callback_settings.routecache of LiteLLM's configuration"
_ANY_MODEL = ("/v1", "", "/engines/{model}", "/openai/deployments/{model}")
_FAST_LANE_PATHS = frozenset(
    {
        *(f"{place}/chat/completions" for place in _ANY_MODEL),
        *(f"{place}/completions" for place in _ANY_MODEL),
        *(f"{place}/embeddings" for place in _ANY_MODEL),
        "/v1/messages",
        "/v1/responses",
        "/responses",
        "/openai/v1/responses",
    }
)


class Isolation(StrEnum):
    """Who shares answers and decisions with whom behind the proxy."""

    KEY = "key"
    TEAM = "team"
    ORGANIZATION = "organization"
    NONE = "none"


class Rival(StrEnum):
    """What happens when the user has also configured LiteLLM's own cache."""

    WIN = "win"
    STAND_BACK = "stand-back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is special to LiteLLM.

    Attributes:
        isolation: ``key``: each virtual key sees only what was made for itself. ``team``,
            ``organization``: all keys of one share; keys that belong to none stay alone. ``none``:
            one cache for all.
        rival: What to do when ``cache: true`` is set besides: ``win`` (LiteLLM's own cache is not
            used) or ``stand-back`` (answers are left to it).
        decisions: Whether decisions of auto-routers are cached.
        adaptive_decisions: Whether those of the adaptive router (a bandit) are too. It learns from
            every pick, so caching them freezes what it learns.
        cheap_router_ms: Decisions of routers that take less than this stay in this process.
        pin_deployments: Whether a query goes to the deployment that it went to before.
        flight_timeout_s: How long a request waits for an identical one that is under way.
        report_load: Whether load and metadata of deployments are published.
        fast_lane: Whether hits are answered before LiteLLM's own stack: no hooks, no guardrails.
        fast_lane_paths: The paths that the fast lane answers; ``{model}`` stands for a model's
            name.
        admin: Whether ``/routecache`` of the proxy serves statistics and invalidation, to the
            master key and proxy admins.
    """

    isolation: Word[Isolation, Literal["key", "team", "organization", "none"]] = Word(Isolation.KEY)
    rival: Word[Rival, Literal["win", "stand-back"]] = Word(Rival.WIN)
    decisions: bool = True
    adaptive_decisions: bool = False
    cheap_router_ms: float = 5.0
    pin_deployments: bool = False
    flight_timeout_s: float = 30.0
    report_load: bool = True
    fast_lane: bool = False
    fast_lane_paths: frozenset[str] = _FAST_LANE_PATHS
    admin: bool = True

    def __post_init__(self) -> None:
        for name, kind in (("isolation", Isolation), ("rival", Rival)):
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, kind(value))
            except ValueError:
                raise wrong(name, value, "one of " + ", ".join(kind)) from None
        for name in ("decisions", "adaptive_decisions", "pin_deployments", "report_load"):
            check_flag(name, getattr(self, name))
        for name in ("fast_lane", "admin"):
            check_flag(name, getattr(self, name))
        if not is_amount(self.cheap_router_ms):
            raise wrong("cheap_router_ms", self.cheap_router_ms, "milliseconds, 0 or more")
        if not is_amount(self.flight_timeout_s):
            raise wrong("flight_timeout_s", self.flight_timeout_s, "seconds, 0 or more")
        freeze_set(self, "fast_lane_paths")


class Configured(msgspec.Struct, frozen=True):
    """Everything that configures the cache of one LiteLLM process.

    ``url`` may hold a password; it is empty for a coordinator that was built elsewhere.
    """

    url: str
    settings: Settings
    policy: CachePolicy
    options: Options


def configure(
    table: Mapping[str, object] | None = None,
    *,
    url: str | None = None,
    environ: Mapping[str, str] | None = None,
    **overrides: Any,
) -> Configured:
    """Bring together what stands in LiteLLM's configuration, the environment and arguments.

    Args:
        table: ``callback_settings.routecache`` of the proxy, if any.
        url: Coordinator URL; wins over everything else.
        environ: The environment; None: that of the process.
        overrides: Settings, policy and options by name; they win over the rest.

    Raises:
        ConfigurationError: A value is wrong or a name is none of theirs.
    """
    nested = _nested(table or {})
    mine = _split(overrides, "argument")
    environ = os.environ if environ is None else environ
    policy = _mapping(nested, "policy")
    if "decide" not in mine.policy:
        mine.policy["decide"] = named_decide(policy, environ)
    nested["policy"] = {name: value for name, value in policy.items() if name != "decide"}
    environ = {name: value for name, value in environ.items() if name != VARIABLE}
    profile = mine.settings.pop("profile", None)
    found: dict[str, Any] = {"environ": environ, "table": nested, "table_name": _TABLE}
    settings = load_settings(
        profile=None if profile is None else str(profile), **found, **mine.settings
    )
    return Configured(
        url=configured_url(url, **found),
        settings=settings,
        policy=load_policy(**found, **mine.policy),
        options=load_table(Options, "litellm", **found, **mine.options),
    )


def for_cache(cache: "RouteCache", **options: Any) -> Configured:
    """Bring together what configures LiteLLM's side of a cache that somebody else has built.

    Raises:
        ConfigurationError: As for :func:`configure`; or one of ``options`` is a setting of the
            cache itself, which it would be too late for.
    """
    mine = _split(options, "argument")
    for name in (*mine.settings, *mine.policy):
        raise ConfigurationError(
            f"argument {name} was given together with cache=; give it to the cache itself"
        )
    return Configured(
        url=cache.url or "",
        settings=cache.settings,
        policy=cache.engine.policy,
        options=load_table(Options, "litellm", **mine.options),
    )


class _Parts(msgspec.Struct):
    settings: dict[str, Any]
    policy: dict[str, Any]
    options: dict[str, Any]


def _split(given: Mapping[str, object], where: str) -> _Parts:
    """Sort names by the record that they belong to."""
    parts = _Parts({}, {}, {})
    for name, value in given.items():
        if name in {"profile", "url"}:
            parts.settings[name] = value
            continue
        check_name((Settings, CachePolicy, Options), name, f"{where} {name}")
        for kind, part in (
            (Settings, parts.settings),
            (CachePolicy, parts.policy),
            (Options, parts.options),
        ):
            if name in {field.name for field in fields(kind)}:
                part[name] = value
    return parts


def _nested(table: Mapping[str, object]) -> dict[str, object]:
    """Return the proxy's flat table as the tables that a TOML file would have."""
    if not isinstance(table, Mapping):
        raise ConfigurationError("callback_settings.routecache is not a mapping of settings")
    flat = {name: value for name, value in table.items() if name not in {"policy", "litellm"}}
    if isinstance(flat.get("mode"), bool):  # YAML takes a bare `off` for a boolean
        flat["mode"] = "on" if flat["mode"] else "off"
    parts = _split(flat, "callback_settings.routecache:")
    return {
        **parts.settings,
        "policy": {**_mapping(table, "policy"), **parts.policy},
        "litellm": {**_mapping(table, "litellm"), **parts.options},
    }


def _mapping(table: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = table.get(name) or {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"callback_settings.routecache.{name} is not a mapping")
    return value
