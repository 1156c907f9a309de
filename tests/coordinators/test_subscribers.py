"""Subscribers: every listener hears everything in order, or of a gap; nobody is waited for."""

import asyncio
import threading

from routecache_middleware.coordinators.subscribers import Subscribers
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.ports import CoordinatorEvent, Filled, Gap


def filled(number: int) -> Filled:
    return Filled(CacheKey(f"{number}"))


async def collect(subscribers: Subscribers) -> list[CoordinatorEvent]:
    return [event async for event in subscribers.listen()]


async def test_events_come_in_order_and_end_when_it_closes() -> None:
    subscribers = Subscribers()
    subscribers.publish(filled(0))  # before anybody listens
    task = asyncio.create_task(collect(subscribers))
    await asyncio.sleep(0)
    subscribers.publish(filled(1))
    subscribers.publish(filled(2))
    await asyncio.sleep(0)
    subscribers.publish(filled(3))
    subscribers.close()
    assert await task == [filled(1), filled(2), filled(3)]
    assert len(subscribers) == 0


async def test_a_full_queue_becomes_a_gap_and_goes_on() -> None:
    subscribers = Subscribers(max_events=3)
    task = asyncio.create_task(collect(subscribers))
    await asyncio.sleep(0)
    for number in range(4):
        subscribers.publish(filled(number))
    subscribers.close()
    assert await task == [Gap(), filled(3)]


async def test_a_cancelled_listener_is_forgotten() -> None:
    subscribers = Subscribers()
    task = asyncio.create_task(collect(subscribers))
    await asyncio.sleep(0)
    assert len(subscribers) == 1
    task.cancel()
    subscribers.publish(filled(1))  # while its waiter is being cancelled
    await asyncio.gather(task, return_exceptions=True)
    assert len(subscribers) == 0


async def test_a_listener_in_another_loop_is_woken_there() -> None:
    subscribers = Subscribers()
    heard: list[CoordinatorEvent] = []
    is_listening = threading.Event()

    async def listen() -> None:
        task = asyncio.create_task(collect(subscribers))
        await asyncio.sleep(0)
        is_listening.set()
        heard.extend(await task)

    thread = threading.Thread(target=lambda: asyncio.run(listen()))
    thread.start()
    await asyncio.to_thread(is_listening.wait)
    for number in range(100):
        subscribers.publish(filled(number))
    subscribers.close()
    await asyncio.to_thread(thread.join)
    assert heard == [filled(number) for number in range(100)]


def test_a_listener_whose_loop_has_closed_disturbs_nobody() -> None:
    subscribers = Subscribers()
    loop = asyncio.new_event_loop()
    task: asyncio.Task[CoordinatorEvent] = loop.create_task(_first(subscribers))
    loop.run_until_complete(asyncio.sleep(0))
    (listener,) = subscribers._listeners
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    subscribers._listeners.append(listener)  # as if its task had died with the loop
    subscribers.publish(filled(1))
    subscribers.close()
    assert len(subscribers) == 0


async def _first(subscribers: Subscribers) -> CoordinatorEvent:
    return await anext(subscribers.listen())
