"""Inboxes: how a process learns that a lease ended which one of its requests waits for.

Each process reads one stream of its own, together with the log, so whoever ends a lease tells
exactly those that wait, and nobody holds a connection per waiting request. A message that is lost
costs time, never an answer: waiting requests also ask again by themselves.
"""

from collections.abc import Iterator, Sequence

from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.redis.link import Command, Link
from routecache_middleware.coordinators.redis.rows import fields_by_name
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.ports import CoordinatorEvent, Filled, Released

__all__ = ["MESSAGE_LIFE_MS", "notify", "read_messages"]

MESSAGE_LIFE_MS = 60_000
_MAX_MESSAGES = 512
_KEY, _KIND = b"k", b"e"
_FILLED, _RELEASED = b"f", b"r"


async def notify(link: Link, keys: Keys, inboxes: Sequence[str], event: Filled | Released) -> None:
    """Tell processes of an event.

    Raises:
        CoordinatorError: The server did not answer.
    """
    kind = _FILLED if isinstance(event, Filled) else _RELEASED
    commands: list[Command] = []
    for inbox in map(keys.inbox, inboxes):
        commands += (
            ("XADD", inbox, "MAXLEN", "~", _MAX_MESSAGES, "*", _KEY, event.key, _KIND, kind),
            ("PEXPIRE", inbox, MESSAGE_LIFE_MS),
        )
    if commands:
        await link.batch(commands)


def read_messages(
    messages: Sequence[tuple[bytes, Sequence[bytes]]],
) -> Iterator[CoordinatorEvent]:
    """Yield the events in messages; what is none of ours is passed over."""
    for _, fields in messages:
        named = fields_by_name(fields)
        key, kind = named.get(_KEY), named.get(_KIND)
        if key is None or not key.isascii():
            continue
        if kind == _FILLED:
            yield Filled(CacheKey(key.decode()))
        elif kind == _RELEASED:
            yield Released(CacheKey(key.decode()))
