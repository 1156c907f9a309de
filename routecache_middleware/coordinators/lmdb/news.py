"""The latest fills and releases, for waiters in other processes; older ones are forgotten."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from routecache_middleware.coordinators.lmdb.layout import NUMBER, pack_key, unpack_key
from routecache_middleware.core.ports import CoordinatorEvent, Filled, Gap, Released

__all__ = ["MAX_NEWS", "News", "add_news", "last_news", "news_after"]

MAX_NEWS = 1024
"""How many are kept."""

_LAST = b"news"
_KINDS: dict[bytes, type[Filled | Released]] = {b"f": Filled, b"r": Released}
_LETTERS = {kind: letter for letter, kind in _KINDS.items()}


class News(NamedTuple):
    """What was told since, and the number of the last piece of it."""

    events: list[CoordinatorEvent]
    last: int


def add_news(txn: Any, tables: Mapping[str, Any], event: Filled | Released) -> None:
    """Tell everybody."""
    number = last_news(txn, tables) + 1
    text = _LETTERS[type(event)] + pack_key(event.key)
    txn.put(NUMBER.pack(number), text, db=tables["news"])
    txn.put(_LAST, NUMBER.pack(number), db=tables["meta"])
    if number > MAX_NEWS:
        txn.delete(NUMBER.pack(number - MAX_NEWS), db=tables["news"])


def last_news(txn: Any, tables: Mapping[str, Any]) -> int:
    """Return the number of the last piece of news; 0 before any."""
    found = txn.get(_LAST, db=tables["meta"])
    return 0 if found is None else int.from_bytes(found[: NUMBER.size], "big")


def news_after(txn: Any, tables: Mapping[str, Any], after: int) -> News:
    """Return what was told after ``after``; a ``Gap`` first when some of it is forgotten."""
    last = last_news(txn, tables)
    if last == after:
        return News([], last)
    events: list[CoordinatorEvent] = []
    if not last - MAX_NEWS <= after <= last:
        events.append(Gap())
        after = min(last, max(after, last - MAX_NEWS))
    cursor = txn.cursor(db=tables["news"])
    if cursor.set_range(NUMBER.pack(after + 1)):
        for _, text in cursor:
            kind = _KINDS.get(bytes(text[:1]))
            if kind is not None:
                events.append(kind(unpack_key(text[1:])))
    return News(events, last)
