"""What is known of each router: what it decides by, and what that costs."""

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from routecache_middleware.adapters.litellm.decisions.kinds import Kind
from routecache_middleware.adapters.litellm.decisions.seam import registered, router_behind
from routecache_middleware.core.fingerprint import Domain, new_hash

__all__ = ["Known", "KnownRouters"]

_WEIGHT = 0.2  # of the latest decision in the moving average
_PARAMS_S = 1.0


class Known:
    """One router.

    Attributes:
        fingerprint: Of its kind and configuration; 16 bytes.
        decide_ms: What a decision costs, a moving average in milliseconds; None before the second.
    """

    __slots__ = ("_is_warm", "_params", "decide_ms", "fingerprint")

    def __init__(self, fingerprint: bytes) -> None:
        self.fingerprint = fingerprint
        self.decide_ms: float | None = None
        self._is_warm = False
        self._params: dict[tuple[object, str], tuple[float, Any]] = {}

    def params(self, tier: object, model: str, make: Callable[[], Any]) -> Any:
        """Return the ``litellm_params`` of a model of a tier, at most a second old.

        LiteLLM copies all it knows of the model to find its output limit: 0.25 ms, most of a hit.
        """
        now_s = time.monotonic()
        made_s, params = self._params.get((tier, model), (-math.inf, None))
        if now_s - made_s > _PARAMS_S:
            params = make()
            self._params[tier, model] = (now_s, params)
        return params

    def learn(self, elapsed_ms: float) -> None:
        """A decision took so long. The first is left out: routers load things then."""
        if not self._is_warm:
            self._is_warm = True
        elif self.decide_ms is None:
            self.decide_ms = elapsed_ms
        else:
            self.decide_ms += _WEIGHT * (elapsed_ms - self.decide_ms)


class KnownRouters:
    """The routers that were asked so far, for as long as LiteLLM keeps them.

    A router whose configuration changes is a new object: LiteLLM makes it anew.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._known: WeakKeyDictionary[Any, Known] = WeakKeyDictionary()

    def of(self, kind: Kind, strategy: Any) -> Known:
        """Return what is known of a router."""
        known = self._known.get(strategy)
        if known is None:
            known = self._known[strategy] = Known(self._fingerprint(kind, strategy))
        return known

    def _fingerprint(self, kind: Kind, strategy: Any) -> bytes:
        where = list(registered(router_behind(strategy), strategy))
        named = [kind.name, kind.configuration(strategy), where]
        state = new_hash(Domain.LITELLM_ROUTER, self._secret)
        state.update(json.dumps(_sortable(named), default=_described).encode())
        return state.digest()


def _sortable(value: Any) -> Any:
    """Return a value whose mappings are lists of pairs, in order: keys need not be strings."""
    if isinstance(value, Mapping):
        pairs = [[str(name), _sortable(item)] for name, item in value.items()]
        return ["map", *sorted(pairs, key=lambda pair: pair[0])]
    if isinstance(value, list | tuple):
        return [_sortable(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return value


def _described(value: Any) -> str:
    """Name an object that is part of a configuration, such as a classifier of the operator's."""
    return f"{type(value).__module__}.{type(value).__qualname__}"
