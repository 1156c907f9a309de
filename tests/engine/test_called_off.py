"""Whoever is called off half-way leaves no span open, and blames nobody for it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from routecache_middleware import CachePolicy, Settings
from routecache_middleware.core.events import Finished, Operation, RequestFinished
from routecache_middleware.core.invalidation import InvalidationRow, model_scope
from routecache_middleware.core.keys import Layer, result_key
from routecache_middleware.core.models import Entry
from routecache_middleware.core.ports import OpenOperation
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.many import lookup_many, put_many
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from tests.support.asgi import settle
from tests.support.faulty import FaultyCoordinator

KEY = result_key("0" * 32, "m", "t")
ENTRY = Entry(Layer.RESULT, b"{}", 0.0, 60.0, model_id="m")
ROW = InvalidationRow(model_scope("m"))


class Counting:
    """An observer that counts what was begun, and what ended."""

    is_watched = True
    traceparent = ""

    def __init__(self) -> None:
        self.begun = 0
        self.finished: list[Finished] = []

    def begin(
        self,
        operation: Operation,
        target: str,
        *,
        model: str = "",
        verb: str = "",
    ) -> OpenOperation:
        self.begun += 1
        return self

    def finish(self, record: Finished) -> None:
        self.finished.append(record)

    def request(self, record: RequestFinished) -> None:
        raise AssertionError(f"there is no request: {record}")


Act = Callable[[Engine], Coroutine[Any, Any, object]]


@pytest.mark.parametrize(
    ("method", "act"),
    [
        ("fetch", lambda engine: engine.lookup(Layer.RESULT, KEY)),
        ("fetch", lambda engine: lookup_many(engine, [KEY])),
        ("store", lambda engine: engine.put(KEY, ENTRY)),
        ("store", lambda engine: put_many(engine, [(KEY, ENTRY)])),
        ("append", lambda engine: engine.invalidate([ROW])),
    ],
    ids=["lookup", "lookup_many", "put", "put_many", "invalidate"],
)
async def test_a_span_ends_also_when_its_operation_is_called_off(method: str, act: Act) -> None:
    observer = Counting()
    coordinator = FaultyCoordinator(FakeClock(1000.0))
    engine = Engine(coordinator, Settings(), CachePolicy(), FakeClock(1000.0), observer)
    await engine.ensure_open()
    coordinator.hang(method)
    task = asyncio.ensure_future(act(engine))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (observer.begun, len(observer.finished)) == (1, 1)
    assert not engine.recorder.backend_errors
    coordinator.heal()
    await engine.aclose()


async def test_a_lookup_that_is_called_off_while_it_records_what_is_owed_ends_too() -> None:
    observer = Counting()
    clock = FakeClock(1000.0)
    coordinator = FaultyCoordinator(clock)
    engine = Engine(coordinator, Settings(), CachePolicy(), clock, observer)
    await engine.ensure_open()
    coordinator.fail("append")
    with pytest.raises(CoordinatorError):
        await engine.invalidate([ROW])
    coordinator.heal()
    coordinator.hang("append")
    clock.advance(60)
    task = asyncio.ensure_future(engine.lookup(Layer.RESULT, KEY))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert observer.begun == len(observer.finished) == 2
    coordinator.heal()
    await engine.aclose()
