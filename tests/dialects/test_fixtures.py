"""What holds for every stream of every API; a new fixture is tested without further ado."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.sse import EventSplitter, ServerSentEvent, split_events
from routecache_middleware.dialects.table import DIALECTS
from tests.support.wire import FIXTURES

STREAMS = sorted(FIXTURES.glob("*/*/*.sse"))


def fed(*pieces: bytes) -> tuple[list[ServerSentEvent], bool]:
    splitter = EventSplitter()
    return [event for piece in pieces for event in splitter.feed(piece)], splitter.has_partial


def test_every_api_has_fixtures() -> None:
    with_streams = {path.parts[-3] for path in STREAMS}
    assert {"openai.chat", "openai.completions"} <= with_streams <= set(DIALECTS)


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: "/".join(path.parts[-3:]))
def test_how_a_stream_is_cut_makes_no_difference(path: Path) -> None:
    """Byte by byte, and in two pieces wherever that can be between two bytes."""
    body = path.read_bytes()
    whole = fed(body)
    assert fed(*(body[at : at + 1] for at in range(len(body)))) == whole
    step = 1 + len(body) // 500
    for at in range(0, len(body), step):
        assert fed(body[:at], body[at:]) == whole, at


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: "/".join(path.parts[-3:]))
def test_line_ends_and_comments_make_no_difference(path: Path) -> None:
    body = path.read_bytes().replace(b"\r\n", b"\n")
    whole = split_events(body)
    for end in (b"\r\n", b"\r"):
        assert split_events(body.replace(b"\n", end)) == whole
    assert split_events(b"\xef\xbb\xbf: hello\n\n" + body.replace(b"\n\n", b"\n\n:\n\n")) == whole


@given(st.data())
def test_any_cuts_make_no_difference(data: st.DataObject) -> None:
    body = data.draw(st.sampled_from(STREAMS)).read_bytes()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)), max_size=6)))
    edges = [0, *cuts, len(body)]
    pieces = [body[start:end] for start, end in pairwise(edges)]
    assert fed(*pieces) == fed(body)
