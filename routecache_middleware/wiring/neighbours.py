"""The stored answers nearest to a request that found none, and what tells them apart.

Candidates are the requests that this process remembers having read lately. Nothing is kept for this
beyond that memo, and no request pays for it. It holds requests of all tenants; but what is asked of
the coordinator are keys of the asking tenant alone, so another tenant's request comes up only if
the asking tenant has an answer of its own to the very same request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import takewhile
from typing import NamedTuple

from routecache_middleware.core.canonical import DoubtfulJSONError
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.core.explain import Explanation, difference
from routecache_middleware.core.fingerprint import Fingerprint, KeyContext
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import Entry
from routecache_middleware.core.ports import Clock
from routecache_middleware.engine.identify import Identified, Identifier

__all__ = ["Candidate", "Keyed", "nearest"]

_MAX_CANDIDATES = 256
_MAX_BYTES = 4_194_304
_MAX_S = 0.25  # for comparing all of them
_BATCH = 32  # keys asked for at once: most of the time the first one does it

Keyed = tuple[CacheKey, str]
"""The key of an answer, and the model that makes it."""


class Candidate(NamedTuple):
    """A request seen lately.

    Attributes:
        fingerprint: Its hashes.
        requested: The model that it asks for.
        differs: Where it differs from the request explained.
    """

    fingerprint: Fingerprint
    requested: str
    differs: tuple[str, ...]


async def nearest(
    identifier: Identifier,
    dialect: Dialect,
    asked: Explanation,
    *,
    keys_of: Callable[[Sequence[Candidate]], Awaitable[Sequence[Keyed]]],
    usable: Callable[[Sequence[CacheKey]], Awaitable[Sequence[Entry | None]]],
    clock: Clock,
) -> tuple[Candidate, CacheKey, str, Entry] | None:
    """Return the nearest request whose answer is there, with its key, model and answer; or None.

    Args:
        identifier: Who remembers requests.
        dialect: Only requests of this API count.
        asked: The request explained.
        keys_of: Says under which key of the asking tenant each one's answer would be.
        usable: Reads answers; None for what cannot be used now.
        clock: Bounds the time that is spent.
    """
    seen = _seen(identifier, dialect, asked)
    if not seen:
        return None
    ranked = await asyncio.to_thread(_ranked, identifier, dialect, asked, seen, clock)
    for start in range(0, len(ranked), _BATCH):
        batch = ranked[start : start + _BATCH]
        keyed = await keys_of(batch)
        entries = await usable([key for key, _ in keyed])
        for candidate, (key, model), entry in zip(batch, keyed, entries, strict=False):
            if entry is not None:
                return candidate, key, model, entry
    return None


_Seen = tuple[bytes, KeyContext, Identified]


def _seen(identifier: Identifier, dialect: Dialect, asked: Explanation) -> list[_Seen]:
    """The latest requests of the same API that are not the very same and could be stored."""
    found: list[_Seen] = []
    size = 0
    for number, seen in enumerate(identifier.recent()):
        body, context, identified = seen
        size += len(body)
        if number >= _MAX_CANDIDATES or size > _MAX_BYTES:
            break
        is_same = identified.fingerprint.result == asked.fingerprint.result
        if context.dialect == dialect.name and identified.parsed.bypass is None and not is_same:
            found.append(seen)
    return found


def _ranked(
    identifier: Identifier,
    dialect: Dialect,
    asked: Explanation,
    seen: Sequence[_Seen],
    clock: Clock,
) -> list[Candidate]:
    """Those, the fewest differences first and of equals the latest; in a thread."""
    until_s = clock.monotonic_s() + _MAX_S
    found = []
    for body, context, identified in takewhile(lambda _: clock.monotonic_s() < until_s, seen):
        try:
            other = identifier.explain(dialect, context, body)
        except DoubtfulJSONError:  # nested so deeply that it depends on who asks
            continue
        found.append(
            Candidate(identified.fingerprint, identified.parsed.model, difference(asked, other))
        )
    return sorted(found, key=lambda candidate: len(candidate.differs))
