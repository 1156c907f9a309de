"""What a caller asks of the cache: LiteLLM's ``cache`` argument.

Its words are read in :mod:`routecache_middleware.core.body_directives`. Here LiteLLM has taken it
in already, so that it is read as LiteLLM does where that differs: a number may be given as text,
words that nobody knows are passed over, and with an age that is no number nothing is answered from
a cache.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from routecache_middleware.core.body_directives import (
    BODY_FIELD,
    BodyDirectives,
    read_body_directives,
    with_body,
)

__all__ = ["NO_CONTROLS", "read_controls"]

NO_CONTROLS = BodyDirectives()
_AGES = ("s-maxage", "s-max-age")
_FLAGS = ("no-cache", "no-store", "use-cache")


def read_controls(cache: object, namespace: object = None) -> BodyDirectives:
    """Read the argument; what makes no sense is left out, but for an age, which then is 0.

    ``namespace``: what holds when the argument names none.
    """
    asked: Mapping[object, object] = cache if isinstance(cache, Mapping) else {}
    namespace = asked.get("namespace") or namespace
    if not asked and not namespace:
        return NO_CONTROLS
    known = {name: asked[name] for name in _FLAGS if name in asked}
    known["namespace"] = namespace or None
    known["ttl"] = _seconds(asked.get("ttl"))
    for name in _AGES:
        if asked.get(name) is not None:
            known[name] = _seconds(asked[name]) or 0
    found = read_body_directives({BODY_FIELD: known}) or NO_CONTROLS
    # ``use-cache: false``: none of this
    return replace(found, directives=with_body(found.directives, found))


def _seconds(value: object) -> float | None:
    """Return a number of seconds, 0 or more; None: it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):  # the latter: an integer beyond all floats
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
