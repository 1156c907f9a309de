"""``routecache-least-loaded``: a routing strategy that goes by what is under way in all processes.

Turned on where LiteLLM's own strategies are::

    router_settings:
      routing_strategy: routecache-least-loaded

in a routing group's ``routing_strategy``, as an argument of a ``Router`` that is made after
``install()``, or with ``router.update_settings(routing_strategy="routecache-least-loaded")``.

To LiteLLM it is its own ``least-busy`` with another selector, which is asked last: cooldowns,
health, tags, order, context windows, pins and everything else that narrows deployments down have
had their say. Of what is left the deployment with the fewest calls under way is taken, then the one
that answers faster, then any. Weights (``weight``, or else ``rpm`` or ``tpm``) matter only where
LiteLLM would count one as 0 beside others: such a deployment gets nothing.

What is under way in this process is known exactly; what is under way in others as of their last
second, read in the background at most five times a second. Nothing waits for it. Processes that
know the same of each other may all favour the same idle deployment for that second.
"""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from cachetools import LRUCache
from litellm.integrations.custom_logger import CustomLogger

from routecache_middleware.adapters.litellm.decisions.patches import Patches
from routecache_middleware.adapters.litellm.part import Deployment
from routecache_middleware.adapters.litellm.router_core import core_class, strategy_names
from routecache_middleware.core.records import load_key
from routecache_middleware.core.shares import live_shares, total
from routecache_middleware.engine.engine import Engine

__all__ = ["STRATEGY", "SharedLoad", "install_strategy", "uninstall_strategy", "with_weight"]

STRATEGY = "routecache-least-loaded"

_MAX_DEPLOYMENTS = 4096
_READ_AGAIN_S = 0.2
_FORGET_S = 5.0


class _Name(str):
    """Equal to the strategy that LiteLLM knows, and told apart from it by its type."""

    __slots__ = ()


_logger = logging.getLogger("routecache")

_LEAST_LOADED = _Name("least-busy")


class _Elsewhere(msgspec.Struct, frozen=True):
    in_flight: int
    avg_response_time_ms: float
    read_s: float


_NOWHERE = _Elsewhere(0, 0.0, 0.0)


class SharedLoad:
    """Load of deployments: of this process exactly, of others as it was read a moment ago."""

    def __init__(self, engine: Engine) -> None:
        """Build it for an engine; nothing is read yet."""
        self._engine = engine
        self._elsewhere: LRUCache[str, _Elsewhere] = LRUCache(_MAX_DEPLOYMENTS)
        self._is_reading = False
        self._read_s = 0.0

    def pick(self, deployments: Sequence[Deployment]) -> Deployment:
        """Return the deployment with the least load; there has to be one."""
        able = with_weight(deployments)
        self._refresh([_id(one) for one in able])
        now_s = self._engine.clock.monotonic_s()
        return min(able, key=lambda one: (*self._load(_id(one), now_s), random.random()))  # noqa: S311

    def in_flight(self, deployment_id: str) -> int:
        """How many calls of a deployment are under way, as far as is known here."""
        return self._load(deployment_id, self._engine.clock.monotonic_s())[0]

    def _load(self, deployment_id: str, now_s: float) -> tuple[int, float]:
        other = self._elsewhere.get(deployment_id, _NOWHERE)
        if now_s - other.read_s > _FORGET_S:
            other = _NOWHERE
        own = self._engine.load.known().get(deployment_id)
        if own is None:
            return other.in_flight, other.avg_response_time_ms
        average_ms = own.avg_response_time_ms or other.avg_response_time_ms
        return own.in_flight + other.in_flight, average_ms

    def _refresh(self, ids: list[str]) -> None:
        """Begin to read what others have published, unless that was done a moment ago."""
        engine = self._engine
        if not engine.coordinator.is_shared or self._is_reading:
            return
        now_s = engine.clock.monotonic_s()
        known = [self._elsewhere.get(one) for one in ids]
        if all(one is not None and now_s - one.read_s < _READ_AGAIN_S for one in known):
            return
        with suppress(RuntimeError):  # a call that is not async: no event loop to read in
            if not engine.is_open():
                return
            self._is_reading = True
            engine.background.run(self._read(ids))

    async def _read(self, ids: list[str]) -> None:
        try:
            entries = await self._engine.peek([load_key(one) for one in ids])
            now_s, wall_s = self._engine.clock.monotonic_s(), self._engine.clock.now_s()
            for name, entry in zip(ids, entries, strict=True):
                shares = {} if entry is None else live_shares(entry, wall_s - entry.created_s)
                shares.pop(self._engine.load.source, None)
                load = total(name, shares)
                self._elsewhere[name] = _Elsewhere(load.in_flight, load.avg_response_time_ms, now_s)
        finally:
            self._is_reading = False


class _Selector(CustomLogger):
    """What a Router asks; it outlives an installation, and any one will do without ours."""

    async def async_get_available_deployments(
        self, model_group: str, healthy_deployments: list[Deployment], **_: Any
    ) -> Deployment | None:
        return self.get_available_deployments(model_group, healthy_deployments)

    def get_available_deployments(
        self, model_group: str, healthy_deployments: list[Deployment], **_: Any
    ) -> Deployment | None:
        if not healthy_deployments:
            return None
        if _installed is None:
            return random.choice(with_weight(healthy_deployments))  # noqa: S311
        return _installed.load.pick(healthy_deployments)


class _Installed(msgspec.Struct):
    load: SharedLoad
    patches: Patches
    names: tuple[str, ...]


_installed: _Installed | None = None


def install_strategy(load: SharedLoad) -> None:
    """Teach LiteLLM the strategy's name; undone by :func:`uninstall_strategy`."""
    global _installed  # noqa: PLW0603 - it is LiteLLM's classes that are taught
    uninstall_strategy()
    patches, owner = Patches(), core_class()
    try:
        routing_groups = strategy_names()
        names = routing_groups.VALID_ROUTING_STRATEGIES
        patches.wrap(owner, "_normalize_strategy", _normalize)
        patches.wrap(owner, "_build_strategy_selector", _build)
    except (AttributeError, ModuleNotFoundError) as error:
        patches.undo()
        _logger.warning("this release of LiteLLM does not take %s: %s", STRATEGY, error)
        return
    routing_groups.VALID_ROUTING_STRATEGIES = (*names, STRATEGY)
    _installed = _Installed(load, patches, names)


def uninstall_strategy() -> None:
    """Take it out again; idempotent. Routers that were made with it choose at random."""
    global _installed
    installed, _installed = _installed, None
    if installed is None:
        return
    installed.patches.undo()
    routing_groups = strategy_names()
    if routing_groups.VALID_ROUTING_STRATEGIES[:-1] == installed.names:
        routing_groups.VALID_ROUTING_STRATEGIES = installed.names


def _normalize(original: Any) -> Any:
    normalize: Callable[[Any], Any] = original.__func__

    def normalized(strategy: Any) -> Any:
        return _LEAST_LOADED if _is_ours(strategy) else normalize(strategy)

    return staticmethod(normalized)


def _build(original: Any) -> Any:
    def build(router: Any, strategy: Any, *args: Any, **kwargs: Any) -> Any:
        return _Selector() if _is_ours(strategy) else original(router, strategy, *args, **kwargs)

    return build


def _is_ours(strategy: object) -> bool:
    return isinstance(strategy, _Name) or strategy == STRATEGY


def with_weight(deployments: Sequence[Deployment]) -> Sequence[Deployment]:
    """Leave out what has no weight where others have, as LiteLLM's own shuffle does."""
    for metric in ("weight", "rpm", "tpm"):
        weighted = [one for one in deployments if _weight(one, metric) > 0]
        if weighted:
            return weighted
    return deployments


def _weight(deployment: Deployment, metric: str) -> float:
    params: Mapping[str, Any] = deployment.get("litellm_params") or {}
    value = params.get(metric)
    return float(value) if isinstance(value, int | float) else 0.0


def _id(deployment: Deployment) -> str:
    return str((deployment.get("model_info") or {}).get("id") or "")
