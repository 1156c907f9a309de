"""The invalidation log in the file: positions that outlive it, and a floor where rows were dropped.

A position is the time in milliseconds, shifted, or one more than the last, whichever is greater. So
a log that starts anew, because the file was wiped, goes on beyond every position that was handed
out before. It starts with a row for ``all``: whatever was captured before that row is void.

The same row takes the place of rows that are dropped, so no reader ever has to be told more than
the tail: what it missed is covered by a row that covers everything. Entries that were captured at
the last dropped row or later are not affected.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from routecache_middleware.coordinators.lmdb.layout import NUMBER, DamagedError
from routecache_middleware.core.invalidation import ALL, InvalidationRow, LoggedRow
from routecache_middleware.core.models import Position, Scope

__all__ = ["MAX_ROWS", "POSITION", "append", "begin", "lift", "tail", "top"]

POSITION = b"position"
"""Where ``meta`` says how far the log reaches."""

MAX_ROWS = 16_384
"""How many rows are kept at most."""

_MAX_AGE_MS = 86_400_000
_TRIMMED_PER_APPEND = 64
_SEQUENCE_BITS = 20
_Row = tuple[bytes, float | None, bytes | None]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Row)


def begin(txn: Any, tables: Mapping[str, Any], now_s: float, after: Position) -> None:
    """Start the log of a new file, beyond what this process has read in another one."""
    if txn.get(POSITION, db=tables["meta"]) is None:
        _put(txn, tables, [InvalidationRow(ALL)], after=after, now_s=now_s)


def top(txn: Any, tables: Mapping[str, Any]) -> Position:
    """Return where the log ends."""
    found = txn.get(POSITION, db=tables["meta"])
    if found is None or len(found) != NUMBER.size:
        raise DamagedError("the end of the log is lost")
    return Position(int.from_bytes(found, "big"))


def append(
    txn: Any, tables: Mapping[str, Any], rows: Sequence[InvalidationRow], now_s: float
) -> Position:
    """Append rows, drop a few that are too old or too many, and return where the log ends."""
    last = top(txn, tables)
    if rows:
        last = _put(txn, tables, rows, after=last, now_s=now_s)
        _trim(txn, tables, now_s)
    return last


def lift(txn: Any, tables: Mapping[str, Any], after: Position, now_s: float) -> Position:
    """Let the log go on beyond ``after``, which it never handed out, and void what came before."""
    last = top(txn, tables)
    if after <= last:  # somebody else has seen to it
        return last
    return _put(txn, tables, [InvalidationRow(ALL)], after=after, now_s=now_s)


def tail(txn: Any, tables: Mapping[str, Any], after: Position) -> list[LoggedRow]:
    """Return the rows after ``after``, oldest first."""
    cursor = txn.cursor(db=tables["log"])
    if not cursor.set_range(NUMBER.pack(after + 1)):
        return []
    return [
        LoggedRow(Position(int.from_bytes(position, "big")), _decode(row))
        for position, row in cursor
    ]


def _put(
    txn: Any,
    tables: Mapping[str, Any],
    rows: Sequence[InvalidationRow],
    *,
    after: Position,
    now_s: float,
) -> Position:
    last = max(after, (int(now_s * 1000) << _SEQUENCE_BITS) - 1)
    for row in rows:
        last += 1
        txn.put(NUMBER.pack(last), _encode(row), db=tables["log"])
    txn.put(POSITION, NUMBER.pack(last), db=tables["meta"])
    return Position(last)


def _trim(txn: Any, tables: Mapping[str, Any], now_s: float) -> None:
    oldest = int(now_s * 1000) - _MAX_AGE_MS << _SEQUENCE_BITS
    surplus = txn.stat(tables["log"])["entries"] - MAX_ROWS
    dropped = None
    for count in range(_TRIMMED_PER_APPEND):
        cursor = txn.cursor(db=tables["log"])
        cursor.first()
        position = cursor.key()
        is_old = int.from_bytes(position, "big") < oldest
        # One more than the surplus, as a row for ``all`` takes the place of those dropped.
        is_surplus = surplus > 0 and count <= surplus
        if not (is_old or is_surplus) or not cursor.next():  # the last row is always kept
            break
        txn.delete(position, db=tables["log"])
        dropped = position
    if dropped is not None:
        txn.put(dropped, _encode(InvalidationRow(ALL)), db=tables["log"])


def _encode(row: InvalidationRow) -> bytes:
    version = row.router_version
    packed = None if version is None else version.encode("utf-8", "surrogatepass")
    return _encoder.encode((row.scope.encode("utf-8", "surrogatepass"), row.older_than_s, packed))


def _decode(packed: bytes | memoryview) -> InvalidationRow:
    try:
        scope, older_than_s, version = _decoder.decode(packed)
        return InvalidationRow(
            Scope(scope.decode("utf-8", "surrogatepass")),
            older_than_s,
            None if version is None else version.decode("utf-8", "surrogatepass"),
        )
    except ValueError:
        return InvalidationRow(ALL)  # whatever it covered is covered: colder, never staler
