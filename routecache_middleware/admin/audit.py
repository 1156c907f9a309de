"""The audit log: what was changed through the app, by whom, and what came of it.

Where processes share a coordinator they share the log too: it is one entry, which whoever adds to
it rewrites under a lock. What cannot be written there stays in this process, is shown by it, and is
added with the next change. Changes are also told to the logger ``routecache.audit``.
"""

import asyncio
import logging
import secrets
from collections.abc import Coroutine
from typing import Final

import msgspec

from routecache_middleware.core.keys import Layer, model_key
from routecache_middleware.core.models import Entry
from routecache_middleware.core.ports import Leader
from routecache_middleware.engine.engine import Engine

__all__ = ["MOST_ROWS", "Audit", "AuditRow"]

MOST_ROWS: Final = 200
"""How many of the latest changes are kept."""

_OWNER: Final = "routecache.audit"
_LOG_KEY: Final = model_key(Layer.LOAD, "log", _OWNER)
_LOCK_KEY: Final = model_key(Layer.LOAD, "lock", _OWNER)
_LIFETIME_S: Final = 30 * 86_400.0
_LOCK_S: Final = 5.0
_PATIENCE_S: Final = 1.0
_TRIES: Final = 20
_PAUSE_S: Final = 0.025
_LONGEST: Final = 300

_logger = logging.getLogger("routecache.audit")


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One change.

    Attributes:
        id: Tells it apart.
        at_s: When, Unix seconds.
        who: By whom: which token, not what it is.
        client: From which address.
        action: ``invalidate`` or ``warm``.
        what: What it covered, in words.
        outcome: ``done``, or what went wrong.
    """

    id: str
    at_s: float
    who: str
    client: str
    action: str
    what: str
    outcome: str


_ROWS: Final = msgspec.json.Decoder(list[AuditRow])


class Audit:
    """Keeps the log."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rows: list[AuditRow] = []
        self._owed: list[AuditRow] = []

    async def add(self, *, who: str, client: str, action: str, what: str, outcome: str) -> None:
        """Note a change. Takes a second at most, and never raises."""
        row = AuditRow(
            id=secrets.token_hex(6),
            at_s=round(self._engine.clock.now_s(), 3),
            who=who,
            client=client,
            action=action,
            what=what if len(what) <= _LONGEST else f"{what[: _LONGEST - 1]}…",
            outcome=outcome,
        )
        _logger.info("%s by %s from %s: %s", action, who or "somebody", client, outcome)
        self._rows = [row, *self._rows][:MOST_ROWS]
        if self._is_shared:
            self._owed = [row, *self._owed][:MOST_ROWS]
            await self._within(self._write())

    async def rows(self) -> list[AuditRow]:
        """Return the latest changes, the latest first; never raises."""
        if self._is_shared:
            await self._within(self._read())
        return self._rows

    @property
    def _is_shared(self) -> bool:
        return self._engine.coordinator.is_shared

    async def _read(self) -> None:
        engine = self._engine
        await engine.ensure_open()
        (entry,) = await engine.inspect((_LOG_KEY,))
        self._rows = _joined(_read_rows(entry), [*self._owed, *self._rows])

    async def _write(self) -> None:
        coordinator, token = self._engine.coordinator, secrets.token_hex(8)
        await self._engine.ensure_open()
        for _ in range(_TRIES):
            acquired = await coordinator.acquire(_LOCK_KEY, token=token, ttl_s=_LOCK_S)
            if isinstance(acquired, Leader):
                break
            await asyncio.sleep(_PAUSE_S)
        else:
            return
        try:
            owed = list(self._owed)
            await self._read()
            body = msgspec.json.encode(self._rows)
            now_s, position = self._engine.clock.now_s(), self._engine.table.position
            entry = Entry(Layer.LOAD, body, now_s, _LIFETIME_S, position=position)
            if await coordinator.store(_LOG_KEY, entry):
                self._owed = [row for row in self._owed if row not in owed]
        finally:
            await coordinator.release(_LOCK_KEY, token=token)

    async def _within(self, call: Coroutine[object, object, None]) -> None:
        """Wait for a call that may hang or fail: then what is known here has to do."""
        task = asyncio.ensure_future(call)
        task.add_done_callback(_retrieve)
        await asyncio.wait((task,), timeout=_PATIENCE_S)
        task.cancel()


def _read_rows(entry: Entry | None) -> list[AuditRow]:
    if entry is None:
        return []
    try:
        return _ROWS.decode(entry.body)
    except (ValueError, RecursionError):
        return []


def _joined(some: list[AuditRow], others: list[AuditRow]) -> list[AuditRow]:
    every = {row.id: row for row in (*some, *others)}
    return sorted(every.values(), key=lambda row: row.at_s, reverse=True)[:MOST_ROWS]


def _retrieve(task: "asyncio.Future[None]") -> None:
    if not task.cancelled():
        task.exception()
