"""Coroutines that begin in one task and are finished there, or in another one."""

import asyncio
import contextvars

import pytest

from routecache_middleware.engine.eager import Begun, begin, start_eagerly
from tests.support.asgi import settle

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


class Script:
    """A coroutine that waits for an event and notes what happens to it."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.notes: list[object] = []

    async def run(self) -> None:
        self.notes.append("began")
        try:
            await self.event.wait()
            self.notes.append(("in", asyncio.current_task(), VARIABLE.get()))
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.notes.append("cancelled")
            raise
        finally:
            self.notes.append("ended")


def begun_from(script: Script) -> Begun:
    begun = begin(script.run())
    assert begun is not None
    return begun


async def test_what_never_waits_is_done_at_once() -> None:
    """No task is made for it."""
    script = Script()
    script.event.set()

    async def at_once() -> None:
        script.notes.append("done")

    assert begin(at_once()) is None
    assert start_eagerly(at_once()) is None
    assert script.notes == ["done", "done"]


async def test_what_fails_at_once_raises_at_once() -> None:
    """As awaiting it would."""

    async def fail() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        begin(fail())


async def test_going_on_here_is_as_good_as_awaiting() -> None:
    """Same task, same context variables."""
    script = Script()
    begun = begun_from(script)
    VARIABLE.set("mine")
    asyncio.get_running_loop().call_soon(script.event.set)
    assert await begun.here()
    assert script.notes == ["began", ("in", asyncio.current_task(), "mine"), "ended"]


async def test_cancelling_who_goes_on_here_cancels_what_is_waited_for() -> None:
    """Native semantics: the inner future is cancelled first."""
    script = Script()

    async def caller() -> None:
        await begun_from(script).here()

    task = asyncio.create_task(caller())
    await settle()
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert script.notes == ["began", "cancelled", "ended"]


async def test_a_timeout_inside_acts_on_the_right_task() -> None:
    """A ``send`` of middleware above may use ``asyncio.timeout``; it has to become TimeoutError."""

    async def send() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    async def caller() -> str:
        begun = begin(send())
        assert begun is not None
        with pytest.raises(TimeoutError):
            await begun.here()
        return "went on"

    assert await asyncio.create_task(caller()) == "went on"


async def test_a_shielded_wait_is_cancelled_without_what_it_shields() -> None:
    """``inner.cancel`` decides, as it does natively."""
    inner = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await asyncio.shield(inner)

    async def caller() -> None:
        begun = begin(wait())
        assert begun is not None
        await begun.here()

    task = asyncio.create_task(caller())
    await settle()
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert not inner.cancelled()
    inner.cancel()


async def test_another_task_takes_over_in_the_middle() -> None:
    """The first is let go at once; the rest runs in the context variables it began with."""
    script = Script()
    notes: list[object] = []
    handed: list[Begun] = []

    async def caller() -> None:
        VARIABLE.set("callers")
        begun = begun_from(script)
        handed.append(begun)
        notes.append(await begun.here())

    async def taker() -> None:
        await handed[0].finish()
        notes.append(asyncio.current_task())

    first = asyncio.create_task(caller())
    await settle()
    handed[0].release()
    second = asyncio.create_task(taker())
    await first
    assert notes == [False]
    assert script.notes == ["began"]
    script.event.set()
    await second
    assert script.notes[1:] == [("in", second, "callers"), "ended"]
    assert notes[1] is second


async def test_taking_over_when_the_wait_has_just_ended() -> None:
    """Both wake-ups in one turn of the loop: it goes on once, with the one who took over."""
    script = Script()
    begun = begun_from(script)
    first = asyncio.ensure_future(begun.here())
    await settle()
    script.event.set()
    begun.release()

    async def taker() -> None:
        await begun.finish()

    second = asyncio.create_task(taker())
    assert await first is False
    await second
    assert script.notes[1:] == [("in", second, "unset"), "ended"]


async def test_cancelling_who_was_let_go_does_not_touch_what_was_taken_over() -> None:
    """The cancellation is meant for the first task alone, also in the same turn of the loop."""
    script = Script()
    begun = begun_from(script)

    async def caller() -> None:
        await begun.here()

    async def taker() -> None:
        await begun.finish()

    first = asyncio.create_task(caller())
    await settle()
    begun.release()
    first.cancel()
    second = asyncio.create_task(taker())
    await asyncio.wait((first,))
    assert first.cancelled()
    script.event.set()
    await second
    assert script.notes[-1] == "ended"
    assert "cancelled" not in script.notes


async def test_what_gave_way_can_be_taken_over_too() -> None:
    """``sleep(0)`` waits for no future; there is nothing to let go of but a turn."""
    notes: list[object] = []

    async def give_way() -> None:
        await asyncio.sleep(0)
        notes.append(asyncio.current_task())

    begun = begin(give_way())
    assert begun is not None
    first = asyncio.ensure_future(begun.here())

    async def taker() -> None:
        await begun.finish()

    asyncio.get_running_loop().call_soon(begun.release)
    second = asyncio.create_task(taker())
    assert await first is False
    await second
    assert notes == [second]


async def test_cancelling_who_took_over_reaches_the_coroutine() -> None:
    """It may clean up, and the cancellation comes out."""
    script = Script()
    task = start_eagerly(script.run())
    assert task is not None
    await settle()
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert script.notes == ["began", "cancelled", "ended"]


async def test_a_task_cancelled_before_it_ran_still_closes_the_coroutine() -> None:
    """Its ``finally`` runs; no "was never awaited"."""
    script = Script()
    task = start_eagerly(script.run())
    assert task is not None
    task.cancel()
    await asyncio.wait((task,))
    await settle()
    assert script.notes == ["began", "ended"]


@pytest.mark.parametrize("is_here", [True, False])
async def test_closing_from_outside_closes_the_coroutine(*, is_here: bool) -> None:
    """As when a loop is torn down with the task pending."""
    script = Script()
    begun = begun_from(script)
    waiting = begun.here() if is_here else begun.finish()
    waiting.send(None)
    waiting.close()
    assert script.notes == ["began", "ended"]


async def test_waiting_for_what_asyncio_does_not_know_is_an_error() -> None:
    """As in a task."""

    class Foreign:
        def __await__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204
            yield "something"

    async def wait() -> None:
        await Foreign()

    with pytest.raises(RuntimeError, match="asyncio does not know"):
        begin(wait())
