"""Event streams: an incremental splitter, and how a stored stream is cut into messages.

Follows the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream", except that ``id``
and ``retry`` are dropped: no LLM API uses them. Everything works on bytes; all the marks are ASCII,
so a border inside of a UTF-8 character does no harm.
"""

import re
from itertools import pairwise
from typing import NamedTuple

__all__ = ["EventSplitter", "ServerSentEvent", "group_messages", "split_events", "split_frames"]

_BOM = b"\xef\xbb\xbf"
_CR = 13
_LF = 10
_LF_BORDERS = (b"\n\n",)
_ALL_BORDERS = (b"\n\n", b"\n\r\n", b"\n\r", b"\r\r\n", b"\r\r")  # CRLF CRLF ends with the second
_LF_BLANKS = re.compile(rb"\n\n+")
# From the last byte of a line end on; atomic, so that a CRLF is never taken for two line ends.
_ALL_BLANKS = re.compile(rb"[\r\n](?<!\r(?=\n))(?>\r\n|\n|\r)+")


class ServerSentEvent(NamedTuple):
    """One dispatched event.

    Attributes:
        event: Its type, ``message`` if the stream names none.
        data: Its data lines joined with line feeds; UTF-8 by the standard, but unchecked.
    """

    event: str
    data: bytes


class EventSplitter:
    """Turns the chunks of one stream into events; how the stream is cut makes no difference."""

    __slots__ = ("_after_cr", "_data", "_event", "_is_first", "_tail")

    def __init__(self) -> None:
        self._tail: list[bytes] = []  # pieces of a line that has not ended; none holds CR or LF
        self._after_cr = False  # the last line ended with CR, so an LF that follows belongs to it
        self._is_first = True  # no line has ended yet: a byte order mark may come
        self._event = b""
        self._data: list[bytes] = []

    @property
    def has_partial(self) -> bool:
        """Whether something is left that no event has carried: the stream stopped half-way."""
        return bool(self._tail or self._event or self._data)

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes; return the events that they complete."""
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == _LF:
                chunk = chunk[1:]
        if not chunk:
            return []
        lines = chunk.splitlines()  # of bytes: at LF, CR and CRLF only
        if chunk[-1] not in (_CR, _LF):
            rest = [lines.pop()]
        else:
            rest = []
            self._after_cr = chunk[-1] == _CR
        if not lines:
            self._tail += rest
            return []
        lines[0] = b"".join((*self._tail, lines[0]))
        self._tail = rest
        if self._is_first:
            self._is_first = False
            lines[0] = lines[0].removeprefix(_BOM)
        return self._interpret(lines)

    def _interpret(self, lines: list[bytes]) -> list[ServerSentEvent]:
        events = []
        for line in lines:
            if not line:
                if self._data:
                    name = self._event.decode("utf-8", "replace") or "message"
                    events.append(ServerSentEvent(name, b"\n".join(self._data)))
                    self._data = []
                self._event = b""
                continue
            name_bytes, _, value = line.partition(b":")
            if name_bytes == b"data":
                self._data.append(value.removeprefix(b" "))
            elif name_bytes == b"event":
                self._event = value.removeprefix(b" ")
        return events


def split_events(body: bytes) -> list[ServerSentEvent]:
    """Return the events of a whole stream; an unfinished one at its end is dropped."""
    return EventSplitter().feed(body)


def group_messages(body: bytes, limit: int = 16_384) -> list[bytes]:
    """Cut a stored stream into pieces of at most ``limit`` bytes, between events where possible.

    An event that is longer than ``limit`` is cut anywhere. The pieces joined are ``body``.

    Raises:
        ValueError: ``limit`` is less than 1.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; it has to be at least 1 byte")
    borders = _ALL_BORDERS if b"\r" in body else _LF_BORDERS
    pieces = []
    start = 0
    while len(body) - start > limit:
        end = max(_border(body, mark, start, start + limit) for mark in borders)
        end = end if end > start else start + limit
        pieces.append(body[start:end])
        start = end
    if start < len(body):
        pieces.append(body[start:])
    return pieces


def split_frames(body: bytes) -> list[bytes]:
    """Cut a stored stream after every blank line: each event and each comment by itself.

    The pieces joined are ``body``; what comes after the last blank line is the last piece.
    """
    blanks = _ALL_BLANKS if b"\r" in body else _LF_BLANKS
    ends = [found.end() for found in blanks.finditer(body)]
    if not ends or ends[-1] != len(body):
        ends.append(len(body))
    return [body[start:end] for start, end in pairwise([0, *ends]) if start < end]


def _border(body: bytes, mark: bytes, start: int, end: int) -> int:
    """Return where the last ``mark`` in a range ends, or -1."""
    found = body.rfind(mark, start, end)
    return found + len(mark) if found >= 0 else -1
