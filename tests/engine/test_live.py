"""An answer being made, and who reads it."""

import asyncio

import pytest

from routecache_middleware.core.models import Position
from routecache_middleware.engine.live import Live, ReaderLeftError
from routecache_middleware.errors import TruncatedResponseError
from tests.support.asgi import settle


def live() -> Live:
    return Live(Position(3), "")


async def test_readers_get_every_chunk_from_the_beginning() -> None:
    """Whenever they join; empty chunks mean nothing."""
    answer = live()
    early = answer.reader()
    for chunk in (b"a", b"", b"bc"):
        answer.append(chunk)
    late = answer.reader()
    answer.complete()
    for reader in (early, late):
        assert [await reader.next() for _ in range(3)] == [b"a", b"bc", None]
    assert answer.body() == b"abc"
    assert answer.total_bytes == 3


async def test_a_reader_waits_for_the_next_chunk() -> None:
    """Woken by the writer, not by a timer."""
    answer = live()
    reader = answer.reader()
    waiting = asyncio.ensure_future(reader.next())
    await settle()
    assert not waiting.done()
    answer.append(b"a")
    assert await waiting == b"a"


async def test_a_waiting_reader_that_is_cancelled_wakes_nobody() -> None:
    """The others go on waiting for the same change."""
    answer = live()
    first, second = (asyncio.ensure_future(answer.reader().next()) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    assert not second.done()
    answer.append(b"a")
    assert await second == b"a"


async def test_an_answer_that_ends_early_is_truncated_after_its_last_chunk() -> None:
    """What there is comes first."""
    answer = live()
    reader = answer.reader()
    answer.append(b"a")
    answer.abort()
    assert await reader.next() == b"a"
    with pytest.raises(TruncatedResponseError):
        await reader.next()


async def test_aborting_what_is_complete_changes_nothing() -> None:
    """The app may still fail in its background work."""
    answer = live()
    answer.complete()
    answer.abort()
    assert not answer.is_broken


async def test_who_left_or_was_cut_reads_no_more() -> None:
    """By an exception each."""
    answer = live()
    left, cut = answer.reader(), answer.reader()
    left.leave()
    cut.cut()
    with pytest.raises(ReaderLeftError):
        await left.next()
    with pytest.raises(TruncatedResponseError):
        await cut.next()
    assert answer.others(None) == 0
    assert not cut.was_interrupted(), "it had no task to interrupt"


async def test_chunks_go_once_nobody_needs_them() -> None:
    """After capturing ended, only what a reader has not had yet stays."""
    answer = live()
    slow, quick = answer.reader(), answer.reader()
    for chunk in (b"a", b"b", b"c"):
        answer.append(chunk)
        assert await quick.next() == chunk
        quick.consumed(1)
    answer.stop_capturing()
    assert len(answer._chunks) == 3
    assert await slow.next() == b"a"
    slow.consumed(1)
    assert answer._chunks == [b"b", b"c"]
    slow.remove()
    assert answer._chunks == []
    answer.append(b"d")
    assert await quick.next() == b"d"
    quick.remove()
    answer.append(b"e")
    assert answer._chunks == []
    assert answer.total_bytes == 5


async def test_others_counts_without_the_one_who_asks() -> None:
    """A leader's own pump is no follower."""
    answer = live()
    assert answer.others(None) == 0
    own = answer.queued_reader()
    assert answer.others(own) == 0
    answer.reader()
    assert answer.others(own) == 1
    assert answer.others(None) == 2
    own.remove()
    own.remove()
    assert answer.others(own) == 1


async def test_abandoned_waits_for_the_last_follower() -> None:
    """Or for the end."""
    answer = live()
    own, follower = answer.queued_reader(), answer.reader()
    waiting = asyncio.ensure_future(answer.abandoned(own))
    await settle()
    assert not waiting.done()
    follower.leave()
    await waiting
    answer.reader()
    again = asyncio.ensure_future(answer.abandoned(own))
    await settle()
    answer.complete()
    await again


async def test_nobody_is_held_back_within_the_lag() -> None:
    """And never when nobody reads."""
    answer = live()
    answer.append(b"abc")
    assert not await answer.hold_back(0, 0.0)
    answer.reader()
    assert not await answer.hold_back(3, 0.0)


async def test_several_slow_readers_are_cut_one_after_the_other() -> None:
    """The last one alone is waited for without limit, as without sharing."""
    answer = live()
    readers = [answer.reader() for _ in range(3)]
    answer.append(b"abc")
    held = asyncio.ensure_future(answer.hold_back(1, 0.001))
    while answer.others(None) > 1:  # noqa: ASYNC110 - the timeout is what is tested
        await asyncio.sleep(0)
    await settle()
    assert not held.done()
    (left,) = (reader for reader in readers if not reader.is_cut)
    left.consumed(3)
    assert await held


async def test_an_app_that_sends_from_two_tasks_is_held_back_in_both() -> None:
    """Both go on as soon as the reader has caught up."""
    answer = live()
    reader = answer.reader()
    answer.append(b"abc")
    held = [asyncio.ensure_future(answer.hold_back(1, 0.0)) for _ in range(2)]
    await settle()
    assert not any(task.done() for task in held)
    reader.consumed(3)
    assert await asyncio.gather(*held) == [False, False]
