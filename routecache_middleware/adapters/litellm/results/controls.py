"""What a caller asks of the cache: LiteLLM's ``cache`` argument."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from routecache_middleware.core.directives import NO_DIRECTIVES, Directives

__all__ = ["NO_CONTROLS", "Controls", "read_controls"]


class Controls(msgspec.Struct, frozen=True):
    """What is honoured of it.

    Attributes:
        directives: ``no-cache``, ``no-store`` and ``s-maxage``.
        ttl_s: ``ttl``: the lifetime that the answer is to have, or None.
        namespace: Entries of different namespaces never meet.
    """

    directives: Directives = NO_DIRECTIVES
    ttl_s: float | None = None
    namespace: str = ""


NO_CONTROLS = Controls()


def read_controls(cache: object, namespace: object = None) -> Controls:
    """Read the argument; what makes no sense is left out, but for an age, which then is 0.

    ``namespace``: what holds when the argument names none.
    """
    asked: Mapping[str, Any] = cache if isinstance(cache, Mapping) else {}
    namespace = asked.get("namespace") or namespace
    if not asked and not namespace:
        return NO_CONTROLS
    age = asked.get("s-maxage", asked.get("s-max-age"))
    max_age_s = None if age is None else math.floor(_seconds(age) or 0.0)
    no_cache, no_store = asked.get("no-cache") is True, asked.get("no-store") is True
    directives = NO_DIRECTIVES
    if no_cache or no_store or max_age_s is not None:
        directives = Directives(no_cache=no_cache, no_store=no_store, max_age_s=max_age_s)
    ttl = asked.get("ttl")
    return Controls(
        directives=directives,
        ttl_s=None if ttl is None else _seconds(ttl),
        namespace=namespace if isinstance(namespace, str) else "",
    )


def _seconds(value: object) -> float | None:
    """Return a number of seconds, 0 or more; None: it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
