"""Work that outlives its request."""

import asyncio

import pytest

from routecache_middleware.core.budget import Budget, current_budget, open_budget
from routecache_middleware.engine.background import Background
from tests.support.asgi import settle


class Work:
    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.notes: list[object] = []

    async def run(self) -> None:
        self.notes.append(asyncio.current_task())
        try:
            await self.event.wait()
            self.notes.append("done")
        except asyncio.CancelledError:
            self.notes.append("cancelled")
            raise


async def fail() -> None:
    raise ZeroDivisionError("on purpose")


async def fail_later() -> None:
    await asyncio.sleep(0)
    raise ZeroDivisionError("on purpose")


async def test_it_begins_inline_and_goes_on_in_a_task() -> None:
    """What never waits costs no task."""
    background, work = Background(), Work()
    background.run(work.run())
    assert work.notes == [asyncio.current_task()]
    work.event.set()
    await background.drain(1.0)
    assert work.notes[1:] == ["done"]
    await background.drain(1.0)


async def test_what_may_use_timeouts_runs_in_a_task_from_the_start() -> None:
    """``asyncio.timeout`` belongs to the task that enters it."""
    background, work = Background(is_eager=False), Work()
    background.run(work.run())
    assert work.notes == []
    await settle()
    assert work.notes != [asyncio.current_task()]
    work.event.set()
    await background.drain(1.0)
    assert work.notes[1:] == ["done"]


async def test_what_is_late_is_cancelled() -> None:
    """Shutdown waits for a bounded time."""
    background, work = Background(), Work()
    background.run(work.run())
    await background.drain(0.0)
    assert work.notes[1:] == ["cancelled"]


@pytest.mark.parametrize("is_eager", [True, False])
async def test_errors_are_logged_once(caplog: pytest.LogCaptureFixture, *, is_eager: bool) -> None:
    """No request fails for them, and the disk does not fill."""
    background = Background(is_eager=is_eager)
    for work in (fail, fail_later, fail):
        background.run(work())
    await background.drain(1.0)
    await settle()
    (record,) = caplog.records
    start = "background work failed with ZeroDivisionError at " + __file__
    assert record.getMessage().startswith(start)
    assert record.getMessage().endswith("; logged only once")
    assert "on purpose" not in caplog.text
    assert record.exc_info is None


async def test_work_in_the_background_has_no_budget() -> None:
    seen: list[Budget | None] = []

    async def work() -> None:
        seen.append(current_budget())

    background = Background(is_eager=False)
    with open_budget(0.05):
        background.run(work())
    await background.drain(1)
    assert seen == [None]
