"""Event streams: WHATWG HTML, section 9.2.6, and cutting them for replay."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routecache_middleware.core.sse import (
    EventSplitter,
    ServerSentEvent,
    group_messages,
    split_events,
    split_frames,
)

CASES: list[tuple[bytes, list[tuple[str, bytes]]]] = [
    (b"", []),
    (b"data: a\n\n", [("message", b"a")]),
    (b"data:a\n\ndata:  b\n\n", [("message", b"a"), ("message", b" b")]),
    (b"data: a\r\n\r\ndata: b\r\n\r\n", [("message", b"a"), ("message", b"b")]),
    (b"data: a\r\rdata: b\r\r", [("message", b"a"), ("message", b"b")]),
    (b"data: a\n\r\ndata: b\r\n\n", [("message", b"a"), ("message", b"b")]),
    (b"data: a\ndata\ndata: c\n\n", [("message", b"a\n\nc")]),
    (b"data\n\n", [("message", b"")]),
    (b"event: error\ndata: x\n\ndata: y\n\n", [("error", b"x"), ("message", b"y")]),
    (b"event: a\nevent: b\ndata: x\n\n", [("b", b"x")]),
    (b"event:\ndata: x\n\n", [("message", b"x")]),
    (b"event: lost\n\ndata: x\n\n", [("message", b"x")]),
    (b": comment\n\n:\n\ndata: x\n: more\n\n", [("message", b"x")]),
    (b"id: 1\nretry: 5\nnonsense\ndata: x\n\n", [("message", b"x")]),
    (b"data : x\nDATA: x\n\n", []),
    (b"\xef\xbb\xbfdata: x\n\n", [("message", b"x")]),
    (b"data: x\n\n\xef\xbb\xbfdata: y\n\n", [("message", b"x")]),
    ("data: ü😀\u2028\x0b\x85\n\n".encode(), [("message", "ü😀\u2028\x0b\x85".encode())]),
    (b"event: \xff\ndata: x\n\n", [("\ufffd", b"x")]),
    (b"data: a\n\ndata: cut", [("message", b"a")]),
    (b"\n\n\ndata: a\n\n\n\n", [("message", b"a")]),
]


@pytest.mark.parametrize(("body", "expected"), CASES)
def test_a_stream_is_split_as_the_standard_says(
    body: bytes, expected: list[tuple[str, bytes]]
) -> None:
    assert split_events(body) == [ServerSentEvent(*event) for event in expected]


@pytest.mark.parametrize(
    ("body", "has_partial"),
    [
        (b"", False),
        (b"data: a\n\n", False),
        (b"data: a\r\n\r\n", False),
        (b"data: a\r\n\r", False),
        (b"data: a\n\n: bye\n", False),
        (b"data: a\n", True),
        (b"data: a", True),
        (b"data: a\n\n: bye", True),
        (b"data: a\n\nevent: b\n", True),
        (b"data: a\n\nd", True),
    ],
)
def test_what_no_event_has_carried_is_known(body: bytes, has_partial: bool) -> None:  # noqa: FBT001 - a parameter
    splitter = EventSplitter()
    splitter.feed(body)
    assert splitter.has_partial is has_partial


streams = st.lists(
    st.sampled_from(
        [
            b"data:",
            b"event:",
            b": c",
            b" ",
            b"x",
            "ü".encode(),
            b"\n",
            b"\r",
            b"\r\n",
            b"\xef\xbb\xbf",
        ]
    )
).map(b"".join)


def cut_at(body: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return [body[start:end] for start, end in pairwise(places)]


@given(streams, st.lists(st.integers(0, 1000)))
@example(b"data: a\r\n\r\ndata: b\r\r\n", list(range(100)))
@example(b"\xef\xbb\xbfdata: a\n\n", list(range(100)))
def test_any_split_of_a_stream_parses_alike(body: bytes, cuts: list[int]) -> None:
    whole = EventSplitter()
    pieces = EventSplitter()
    expected = whole.feed(body)
    found = [
        event for piece in cut_at(body, cuts) for event in (*pieces.feed(piece), *pieces.feed(b""))
    ]
    assert found == expected
    assert pieces.has_partial == whole.has_partial


@given(streams, st.integers(1, 40))
def test_grouping_loses_nothing_and_keeps_the_limit(body: bytes, limit: int) -> None:
    pieces = group_messages(body, limit)
    assert b"".join(pieces) == body
    assert all(0 < len(piece) <= limit for piece in pieces)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_pieces_end_where_events_end(end: bytes) -> None:
    event = b"data: 0123456789" + 2 * end
    pieces = group_messages(event * 100, limit=5 * len(event) + 7)
    assert pieces == [event * 5] * 20


def test_an_event_longer_than_the_limit_is_cut_anywhere() -> None:
    pieces = group_messages(b"data: a\n\ndata: " + b"x" * 30 + b"\n\ndata: b\n\n", limit=20)
    assert pieces == [
        b"data: a\n\n",
        b"data: " + b"x" * 14,
        b"x" * 16 + b"\n\n",
        b"data: b\n\n",
    ]


def test_a_short_stream_is_one_piece_and_an_empty_one_is_none() -> None:
    assert group_messages(b"data: a\n\ndata: b\n\n") == [b"data: a\n\ndata: b\n\n"]
    assert group_messages(b"") == []


@given(streams)
def test_cutting_at_blank_lines_loses_nothing(body: bytes) -> None:
    pieces = split_frames(body)
    assert b"".join(pieces) == body
    assert all(pieces)
    splitter = EventSplitter()
    found = [splitter.feed(piece) for piece in pieces]
    assert all(len(events) <= 1 for events in found)
    assert [event for events in found for event in events] == split_events(body)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_and_comments_are_pieces_of_their_own(end: bytes) -> None:
    frames = [b"event: a\ndata: b\ndata: c\n\n", b": still here\n\n", b"data: d\n\n"]
    frames = [frame.replace(b"\n", end) for frame in frames]
    assert split_frames(b"".join(frames)) == frames
    assert split_frames(b"".join(frames) + b"data: cut o") == [*frames, b"data: cut o"]


def test_several_blank_lines_end_one_event() -> None:
    assert split_frames(b"data: a\n\n\n\r\ndata: b\n\n") == [b"data: a\n\n\n\r\n", b"data: b\n\n"]
    assert split_frames(b"") == []


def test_a_limit_below_one_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="limit is 0"):
        group_messages(b"x", limit=0)
