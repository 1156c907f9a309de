"""The mirror of the log and its proof, as a near cache uses them."""

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest

from routecache_middleware.coordinators.redis.entries import Entries
from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.redis.link import Link
from routecache_middleware.coordinators.redis.server_time import ServerTime
from routecache_middleware.core.codec import EntryCodec
from routecache_middleware.core.models import START, Position
from routecache_middleware.core.ports import Fetched
from routecache_middleware.errors import CoordinatorError
from tests.coordinators.redis.support import CLOCK, KEY, build, entry, eventually, opened, row
from tests.support.valkey import ValkeyServer


async def test_the_proof_is_younger_than_a_second_while_all_is_well(valkey_url: str) -> None:
    async with opened(valkey_url) as coordinator:
        ages_s = []
        for _ in range(30):
            await asyncio.sleep(0.02)
            ages_s.append(coordinator.proof_age_s)
        assert sorted(ages_s)[15] < 0.6  # a round, and the server's timer


async def test_the_tail_is_handed_out_without_waiting(valkey_url: str) -> None:
    async with opened(valkey_url) as coordinator:
        before = coordinator.tail_now(START)
        receipt = await coordinator.append((row("a"),))
        await eventually(lambda: coordinator.tail_now(START).position == receipt.position)
        tail = coordinator.tail_now(before.position)
        assert [one.row for one in tail.rows] == [row("a")]
        assert not tail.is_rewound
        assert coordinator.tail_now(Position(before.position - 1)).is_rewound


async def test_nothing_is_proven_before_it_is_open_or_after_it_is_closed(valkey_url: str) -> None:
    coordinator = build(valkey_url)
    assert coordinator.proof_age_s == math.inf
    assert coordinator.tail_now(Position(7)) == Fetched((), Position(7))
    await coordinator.open()
    assert coordinator.proof_age_s < 1.0
    await coordinator.aclose()
    assert coordinator.proof_age_s == math.inf


async def test_nothing_is_proven_until_an_own_row_was_read_back(valkey_url: str) -> None:
    async with opened(valkey_url) as coordinator:
        await coordinator._session().reader.stop()
        assert coordinator.proof_age_s < 60
        await coordinator.append((row("a"),))
        assert coordinator.proof_age_s == math.inf
        coordinator._session().reader.start()
        await eventually(lambda: coordinator.proof_age_s < 1.0)


async def test_a_reader_that_stumbles_goes_on(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it stumbles over: without it every lookup would read the log for ever."""
    async with opened(valkey_url) as coordinator:
        reader = coordinator._session().reader
        wait: Callable[..., Awaitable[object]] = reader._log.wait
        failures = [RuntimeError("a bug"), CoordinatorError("an outage")]

        async def stumble(*args: object, **options: object) -> object:
            if failures:
                raise failures.pop()
            return await wait(*args, **options)

        monkeypatch.setattr(type(reader._log), "wait", stumble_with(stumble))
        await eventually(lambda: not failures)
        before = reader.mirror.position
        await coordinator.append((row("a"),))
        await eventually(lambda: reader.mirror.position > before)


def stumble_with(function: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
    """A method that ignores whose it is."""

    async def method(_self: object, *args: object, **options: object) -> object:
        return await function(*args, **options)

    return method


class UnwellLink(Link):
    """Answers every command of a batch with the same error."""

    def __init__(self, text: str) -> None:
        super().__init__(CLOCK)
        self._text = text

    async def batch(self, commands: object) -> list[object]:
        return [RuntimeError(self._text)] * len(commands)  # type: ignore[arg-type]


@pytest.mark.parametrize("keys", [(KEY,), (KEY, KEY)])
async def test_an_error_reply_to_a_lookup_is_no_miss(keys: tuple[object, ...]) -> None:
    """A failure is never encoded as a value."""
    entries = Entries(
        UnwellLink("LOADING the dataset"),
        Keys(),
        EntryCodec(max_bytes=1_000),
        limit_bytes=1_000,
        time=ServerTime(CLOCK),
        clock=CLOCK,
    )
    with pytest.raises(CoordinatorError):
        await entries.fetch(keys)  # type: ignore[arg-type]


async def test_a_fill_that_does_not_fit_leaves_nothing(valkey_url: str) -> None:
    async with opened(valkey_url) as coordinator:
        await coordinator.store(KEY, entry(b"old"))
        limit_bytes = coordinator.stats().layers[entry().layer].limit_bytes
        await coordinator.acquire(KEY, token="a", ttl_s=5.0, seen=entry(b"old"))
        assert not await coordinator.store(KEY, entry(bytes(limit_bytes + 1)), token="a")
        assert (await coordinator.fetch((KEY,), START)).entries == [None]


async def test_estimates_of_keys_per_layer_come_with_their_age(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    async with opened(valkey_url) as coordinator:
        for number in range(40):
            key = KEY.replace("0123", f"{number:04x}")
            assert await coordinator.store(key, entry())  # type: ignore[arg-type]
        await coordinator._session().upkeep._ask()
        stats = coordinator.stats()
        assert 20 <= stats.layers[entry().layer].entries <= 45
        assert 0 <= stats.age_s < 30
        assert stats.nodes == 1
