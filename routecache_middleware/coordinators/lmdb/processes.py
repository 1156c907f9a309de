"""How far each live process has read the log, as the processes themselves have told."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from routecache_middleware.core.cluster import ProcessStats
from routecache_middleware.core.models import Position

__all__ = ["drop_dead", "forget", "list_processes", "process_name", "tell"]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, float])


def process_name() -> str:
    """Return host name and process id of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def tell(txn: Any, tables: Mapping[str, Any], position: Position, now_s: float) -> None:
    """Note how far this process has read."""
    row = _encoder.encode((position, now_s))
    txn.put(process_name().encode(), row, db=tables["processes"])


def forget(txn: Any, tables: Mapping[str, Any]) -> None:
    """Note that this process is no more."""
    txn.delete(process_name().encode(), db=tables["processes"])


def drop_dead(txn: Any, tables: Mapping[str, Any]) -> None:
    """Remove processes that ended without a word."""
    names = [bytes(name) for name, _ in txn.cursor(db=tables["processes"])]
    for name in names:
        if not _is_alive(name.decode(errors="replace")):
            txn.delete(name, db=tables["processes"])


def list_processes(txn: Any, tables: Mapping[str, Any], now_s: float) -> list[ProcessStats]:
    """Return the live processes that have told something, this one first."""
    found: list[ProcessStats] = []
    for name_bytes, row in txn.cursor(db=tables["processes"]):
        name = bytes(name_bytes).decode(errors="replace")
        with suppress(ValueError):  # not a row of ours
            position, told_s = _decoder.decode(row)
            if _is_alive(name):
                age_s = max(0.0, now_s - told_s)
                found.append(ProcessStats(process=name, position=Position(position), age_s=age_s))
    own = process_name()
    return sorted(found, key=lambda stats: stats.process != own)


def _is_alive(name: str) -> bool:
    host, _, pid = name.rpartition(":")
    if host != socket.gethostname() or not pid.isdecimal():
        return False  # from before the machine, or the container, got its present name
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's, so it is alive
        return True
    return True
