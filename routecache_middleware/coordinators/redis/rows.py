"""Rows of the invalidation log as a stream holds them, and positions as its ids.

A position is an id ``<ms>-<seq>`` in one number: ``ms << 20 | seq``. It stays below 2**62 until the
year 2109.

A row that cannot be read, of a newer version say, counts as one for ``all``: colder, never staler.
"""

from collections.abc import Sequence

import msgspec

from routecache_middleware.core.invalidation import ALL, InvalidationRow, LoggedRow
from routecache_middleware.core.models import Position, Scope

__all__ = [
    "MARKER",
    "fields_by_name",
    "fields_of",
    "id_of",
    "logged_rows",
    "position_of",
    "split_position",
]

_SEQ_BITS = 20
_MAX_SEQ = (1 << _SEQ_BITS) - 1
_VERSION = 1
_ROW = b"r"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, bytes, float | None, bytes | None])


def position_of(stream_id: bytes) -> Position:
    """Return the position of a stream's id."""
    ms, _, seq = stream_id.partition(b"-")
    # Nobody but us appends, and we never count that far; a greater number must not spill over.
    return Position(int(ms) << _SEQ_BITS | min(int(seq), _MAX_SEQ))


def split_position(position: Position) -> tuple[int, int]:
    """Return milliseconds and sequence number: Lua's numbers hold either, but not both in one."""
    return position >> _SEQ_BITS, position & _MAX_SEQ


def id_of(position: Position) -> str:
    """Return the stream id of a position."""
    ms, seq = split_position(position)
    return f"{ms}-{seq}"


def fields_of(row: InvalidationRow, offset_s: float = 0.0) -> tuple[bytes, int]:
    """Return what the log's scripts take for a row: its bytes, and whether it voids everything.

    ``offset_s`` is what the server's clock is ahead of ours. The mark is for scripts, which cannot
    read rows.
    """
    return _pack_row(row, offset_s), int(row.scope == ALL and not row.is_conditional)


def _pack_row(row: InvalidationRow, offset_s: float) -> bytes:
    older_than_s = None if row.older_than_s is None else row.older_than_s + offset_s
    # Text travels as bytes: a model's name may hold lone surrogates, a msgpack string cannot.
    router_version = None if row.router_version is None else _pack(row.router_version)
    return _encoder.encode((_VERSION, _pack(row.scope), older_than_s, router_version))


def logged_rows(
    items: Sequence[tuple[bytes, Sequence[bytes]]], offset_s: float = 0.0
) -> list[LoggedRow]:
    """Return a stream's rows; their fields come as names and values by turns."""
    return [
        LoggedRow(position_of(stream_id), _unpack_row(fields, offset_s))
        for stream_id, fields in items
    ]


def _unpack_row(fields: Sequence[bytes], offset_s: float) -> InvalidationRow:
    try:
        version, scope, older_than_s, router_version = _decoder.decode(
            fields_by_name(fields).get(_ROW, b"")
        )
        if version != _VERSION:
            return InvalidationRow(ALL)
        return InvalidationRow(
            Scope(_unpack(scope)),
            None if older_than_s is None else older_than_s - offset_s,
            None if router_version is None else _unpack(router_version),
        )
    except ValueError:  # of msgspec, or undecodable text
        return InvalidationRow(ALL)


def fields_by_name(fields: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return names and values that come by turns as a mapping."""
    return dict(zip(fields[::2], fields[1::2], strict=False))


def _pack(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _unpack(packed: bytes) -> str:
    return packed.decode("utf-8", "surrogatepass")


MARKER = _pack_row(InvalidationRow(ALL), 0.0)
