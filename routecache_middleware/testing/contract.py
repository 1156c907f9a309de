"""The rules of the Coordinator port. Every backend subclasses this and passes, or does not ship.

A backend provides the fixture ``coordinator`` (opened, empty). One that cannot be driven by the
fake clock overrides ``clock`` with a real one, ``let_time_pass`` with a real wait, and ``tick_s``
with a duration that is worth waiting.

A log may begin with a row for ``all``. It says that nothing captured before is current, which a
backend needs whose log can be lost while its entries stay.
"""

import asyncio
from collections.abc import Callable
from typing import ClassVar

import pytest
from msgspec.structs import replace

from routecache_middleware.core.cluster import NodeState
from routecache_middleware.core.invalidation import (
    ALL,
    InvalidationRow,
    LoggedRow,
    model_scope,
    tag_scope,
)
from routecache_middleware.core.keys import CacheKey, Layer, model_key, result_key, route_key
from routecache_middleware.core.models import START, Entry, Position, Scope
from routecache_middleware.core.ports import (
    Coordinator,
    CoordinatorEvent,
    Fetched,
    Filled,
    Follower,
    Found,
    Invalidated,
    Leader,
    Parallel,
    Released,
)
from routecache_middleware.testing.clock import FakeClock

KEY = result_key("0123456789abcdef0123456789abcdef", "gpt-4o", "acme")

ODD_PARTS = [
    "",
    " ",
    ":",
    "@",
    "a:b@c/d",
    "%3A",
    "Ü",
    "\u202e",
    "\x00\n",
    "\ud800",
    "🦜",
    "x" * 500,
]


def row(model_id: str) -> InvalidationRow:
    return InvalidationRow(model_scope(model_id))


def logged(fetched: Fetched) -> list[LoggedRow]:
    """Rows of the log, without the one for ``all`` that it may begin with."""
    rows = list(fetched.rows)
    return rows[1:] if rows and rows[0].row == InvalidationRow(ALL) else rows


class CoordinatorContract:
    """Rules every coordinator keeps."""

    tick_s: ClassVar[float] = 10.0

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def coordinator(self, clock: FakeClock) -> Coordinator:
        raise NotImplementedError

    async def let_time_pass(self, clock: FakeClock, seconds: float) -> None:
        clock.advance(seconds)

    def entry(self, clock: FakeClock, body: bytes = b"{}", *, ticks: float = 10.0) -> Entry:
        return Entry(
            layer=Layer.RESULT,
            body=body,
            created_s=clock.now_s(),
            freshness_lifetime_s=ticks * self.tick_s,
        )

    async def read(self, coordinator: Coordinator, key: CacheKey = KEY) -> Entry | None:
        return (await coordinator.fetch((key,), START)).entries[0]

    # -- entries

    async def test_what_was_stored_is_fetched_field_by_field(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        entry = replace(
            self.entry(clock, b'{"a": 1}'),
            stale_while_revalidate_s=self.tick_s,
            stale_if_error_s=2 * self.tick_s,
            cost_ms=12.5,
            scopes=(Scope("model:gpt-4o"), Scope("tag:t")),
            model_id="gpt-4o",
            router_version="v7",
            content_type="application/json",
            shape="stream+usage",
            has_usage=True,
            headers=((b"content-type", b"application/json"), (b"x", b"\xff")),
            origin="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        )
        assert await coordinator.store(KEY, entry)
        assert await self.read(coordinator) == entry

    async def test_nothing_is_fetched_under_a_key_that_was_never_stored(
        self, coordinator: Coordinator
    ) -> None:
        assert await self.read(coordinator) is None

    async def test_entries_come_in_the_order_of_the_keys(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        """One per requested key; None where there is nothing; a key may be asked for twice."""
        keys = [result_key(f"{number:032x}", "m") for number in range(5)]
        for number in (0, 3):
            await coordinator.store(keys[number], self.entry(clock, b"%d" % number))
        fetched = await coordinator.fetch([*keys, keys[3]], START)
        bodies = [entry.body if entry else None for entry in fetched.entries]
        assert bodies == [b"0", None, None, b"3", None, b"3"]

    async def test_fetching_no_keys_still_reads_the_log(self, coordinator: Coordinator) -> None:
        receipt = await coordinator.append((row("m"),))
        fetched = await coordinator.fetch((), START)
        assert not fetched.entries
        assert fetched.position == receipt.position
        assert len(logged(fetched)) == 1

    async def test_a_second_store_replaces_the_first(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        await coordinator.store(KEY, self.entry(clock, b"old"))
        await coordinator.store(KEY, self.entry(clock, b"new"))
        entry = await self.read(coordinator)
        assert entry is not None
        assert entry.body == b"new"

    async def test_layers_do_not_share_keys(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        keys = {
            Layer.ROUTING: route_key("h"),
            Layer.RESULT: result_key("h", "h"),
            Layer.METADATA: model_key(Layer.METADATA, "h"),
            Layer.LOAD: model_key(Layer.LOAD, "h"),
        }
        for layer, key in keys.items():
            entry = replace(self.entry(clock, layer.value.encode()), layer=layer)
            assert await coordinator.store(key, entry)
        for layer, key in keys.items():
            found = await self.read(coordinator, key)
            assert found is not None
            assert (found.layer, found.body) == (layer, layer.value.encode())

    async def test_expired_entries_are_absent(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        """An entry lives until ``expires_s``: freshness and the longer stale window."""
        entry = replace(self.entry(clock, ticks=1.0), stale_if_error_s=self.tick_s)
        await coordinator.store(KEY, entry)
        await self.let_time_pass(clock, 1.5 * self.tick_s)
        assert await self.read(coordinator) == entry
        await self.let_time_pass(clock, 1.0 * self.tick_s)
        assert await self.read(coordinator) is None

    async def test_an_entry_that_has_already_expired_is_not_kept(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        await coordinator.store(KEY, self.entry(clock, b"old"))
        dead = replace(self.entry(clock, ticks=1.0), created_s=clock.now_s() - 5 * self.tick_s)
        assert not await coordinator.store(KEY, dead)
        assert await self.read(coordinator) is None

    async def test_a_deleted_key_is_absent_and_may_be_deleted_again(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        await coordinator.store(KEY, self.entry(clock))
        await coordinator.delete(KEY)
        assert await self.read(coordinator) is None
        await coordinator.delete(KEY)

    @pytest.mark.parametrize(
        "body", [b"", b"\x00", bytes(range(256)), b"\xff\xfe{}", b"\r\n\r\n"], ids=repr
    )
    async def test_bodies_are_bytes_and_come_back_as_they_were(
        self, coordinator: Coordinator, clock: FakeClock, body: bytes
    ) -> None:
        await coordinator.store(KEY, self.entry(clock, body))
        entry = await self.read(coordinator)
        assert entry is not None
        assert entry.body == body

    async def test_a_body_of_a_megabyte_fits_with_default_settings(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        """``max_result_bytes`` is 1 MiB by default, so that has to be storable."""
        body = bytes(range(256)) * 4096
        assert await coordinator.store(KEY, self.entry(clock, body))
        entry = await self.read(coordinator)
        assert entry is not None
        assert entry.body == body

    async def test_what_cannot_fit_is_refused_and_the_old_entry_is_gone(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        """Serving the old value after a newer one was made would be a lie."""
        await coordinator.store(KEY, self.entry(clock, b"old"))
        limit = coordinator.stats().layers[Layer.RESULT].limit_bytes
        assert not await coordinator.store(KEY, self.entry(clock, bytes(limit + 1)))
        assert await self.read(coordinator) is None

    @pytest.mark.parametrize("part", ODD_PARTS, ids=ascii)
    async def test_keys_may_be_made_of_any_unicode(
        self, coordinator: Coordinator, clock: FakeClock, part: str
    ) -> None:
        keys = [route_key(part, part), result_key(part, part, part), model_key(Layer.LOAD, part)]
        layers = [Layer.ROUTING, Layer.RESULT, Layer.LOAD]
        for layer, key in zip(layers, keys, strict=True):
            await coordinator.store(key, replace(self.entry(clock, key.encode()), layer=layer))
        for key in keys:
            entry = await self.read(coordinator, key)
            assert entry is not None
            assert entry.body == key.encode()

    # -- the invalidation log

    async def test_positions_rise_with_every_row(self, coordinator: Coordinator) -> None:
        first = await coordinator.append((row("a"),))
        second = await coordinator.append((row("b"), row("c")))
        third = await coordinator.append((row("d"),))
        assert START < first.position < second.position < third.position
        rows = logged(await coordinator.fetch((), START))
        positions = [one.position for one in rows]
        assert positions == sorted(set(positions))

    async def test_rows_come_back_in_order_with_their_conditions(
        self, coordinator: Coordinator
    ) -> None:
        rows = [
            row("a"),
            InvalidationRow(tag_scope("t"), older_than_s=12.25),
            InvalidationRow(model_scope("Ü:\ud800"), router_version="v1"),
        ]
        receipt = await coordinator.append(rows)
        fetched = await coordinator.fetch((), START)
        assert [one.row for one in logged(fetched)] == rows
        assert fetched.rows[-1].position == fetched.position == receipt.position
        assert not fetched.is_rewound

    async def test_the_tail_starts_after_the_position_asked_for(
        self, coordinator: Coordinator
    ) -> None:
        first = await coordinator.append((row("a"),))
        await coordinator.append((row("b"),))
        fetched = await coordinator.fetch((), first.position)
        assert [one.row for one in fetched.rows] == [row("b")]
        again = await coordinator.fetch((), fetched.position)
        assert not again.rows
        assert again.position == fetched.position

    async def test_a_position_the_log_never_reached_is_rewound(
        self, coordinator: Coordinator
    ) -> None:
        """Flushed, restarted or failed over: what the reader knows of is not there any more."""
        receipt = await coordinator.append((row("a"),))
        asked = Position(receipt.position + 1_000)
        fetched = await coordinator.fetch((), asked)
        assert fetched.is_rewound
        assert fetched.position > asked
        assert (await coordinator.append((row("b"),))).position > fetched.position

    async def test_a_new_reader_of_a_whole_log_is_not_rewound(
        self, coordinator: Coordinator
    ) -> None:
        assert not (await coordinator.fetch((), START)).is_rewound

    async def test_appending_nothing_moves_nothing(self, coordinator: Coordinator) -> None:
        receipt = await coordinator.append((row("a"),))
        assert (await coordinator.append(())).position == receipt.position
        assert (await coordinator.fetch((), START)).position == receipt.position

    async def test_concurrent_appends_are_atomic_and_in_one_order(
        self, coordinator: Coordinator
    ) -> None:
        """The rows of one append stand side by side, and each has a position of its own."""

        async def append(number: int) -> Position:
            rows = [row(f"{number}-{part}") for part in range(3)]
            return (await coordinator.append(rows)).position

        ends = await asyncio.gather(*(append(number) for number in range(50)))
        rows = logged(await coordinator.fetch((), START))
        assert len({one.position for one in rows}) == len(rows) == 150
        assert set(ends) == {one.position for one in rows[2::3]}
        for first in range(0, 150, 3):
            scopes = [str(one.row.scope) for one in rows[first : first + 3]]
            assert len({scope.rpartition("-")[0] for scope in scopes}) == 1

    async def test_invalidating_leaves_the_entry_for_the_reader_to_judge(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        """A coordinator decides nothing about currency: entry and rows come in one read."""
        entry = replace(self.entry(clock), scopes=(model_scope("m"),))
        await coordinator.store(KEY, entry)
        await coordinator.append((row("m"),))
        fetched = await coordinator.fetch((KEY,), START)
        assert fetched.entries[0] in (entry, None)
        assert [one.row for one in logged(fetched)] == [row("m")]

    # -- leases

    async def test_of_two_tokens_one_leads(self, coordinator: Coordinator) -> None:
        first = await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s)
        second = await coordinator.acquire(KEY, token="b", ttl_s=self.tick_s)
        assert first == Leader("a")
        assert isinstance(second, Follower)
        assert 0 < second.remaining_s <= self.tick_s

    async def test_of_fifty_concurrent_tokens_one_leads(self, coordinator: Coordinator) -> None:
        answers = await asyncio.gather(
            *(coordinator.acquire(KEY, token=f"{n}", ttl_s=self.tick_s) for n in range(50))
        )
        assert sum(isinstance(answer, Leader) for answer in answers) == 1
        assert sum(isinstance(answer, Follower) for answer in answers) == 49

    async def test_leases_of_different_keys_are_independent(self, coordinator: Coordinator) -> None:
        assert isinstance(await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s), Leader)
        other = await coordinator.acquire(route_key("h"), token="b", ttl_s=self.tick_s)
        assert isinstance(other, Leader)

    async def test_taking_a_lease_again_with_its_token_is_harmless(
        self, coordinator: Coordinator
    ) -> None:
        """A retry after a lost answer must not follow itself."""
        await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s)
        assert await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s) == Leader("a")

    async def test_an_expired_lease_is_free(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s)
        await self.let_time_pass(clock, 1.5 * self.tick_s)
        assert await coordinator.acquire(KEY, token="b", ttl_s=self.tick_s) == Leader("b")
        assert not await coordinator.renew(KEY, token="a", ttl_s=self.tick_s)

    async def test_a_renewed_lease_lasts(self, coordinator: Coordinator, clock: FakeClock) -> None:
        await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s)
        await self.let_time_pass(clock, 0.5 * self.tick_s)
        assert await coordinator.renew(KEY, token="a", ttl_s=2 * self.tick_s)
        await self.let_time_pass(clock, 1.0 * self.tick_s)
        assert isinstance(await coordinator.acquire(KEY, token="b", ttl_s=self.tick_s), Follower)

    async def test_only_the_holder_renews_and_releases(self, coordinator: Coordinator) -> None:
        assert not await coordinator.renew(KEY, token="a", ttl_s=self.tick_s)
        await coordinator.release(KEY, token="a")
        await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s)
        assert not await coordinator.renew(KEY, token="b", ttl_s=self.tick_s)
        await coordinator.release(KEY, token="b")
        assert isinstance(await coordinator.acquire(KEY, token="c", ttl_s=self.tick_s), Follower)
        await coordinator.release(KEY, token="a")
        assert await coordinator.acquire(KEY, token="c", ttl_s=self.tick_s) == Leader("c")

    async def test_the_leader_stores_with_its_token(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s)
        assert await coordinator.store(KEY, self.entry(clock, b"mine"), token="a")
        entry = await self.read(coordinator)
        assert entry is not None
        assert entry.body == b"mine"

    async def test_a_late_store_of_a_former_leader_is_refused(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        """The token fences: a leader that was given up must not overwrite its successor."""
        await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s)
        await self.let_time_pass(clock, 1.5 * self.tick_s)
        await coordinator.acquire(KEY, token="b", ttl_s=self.tick_s)
        assert await coordinator.store(KEY, self.entry(clock, b"new"), token="b")
        assert not await coordinator.store(KEY, self.entry(clock, b"late"), token="a")
        entry = await self.read(coordinator)
        assert entry is not None
        assert entry.body == b"new"

    async def test_a_store_after_release_is_refused(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s)
        await coordinator.release(KEY, token="a")
        assert not await coordinator.store(KEY, self.entry(clock), token="a")
        assert await self.read(coordinator) is None

    async def test_acquire_finds_what_appeared_meanwhile(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        """Between lookup and acquire a whole flight may have come and gone."""
        entry = self.entry(clock)
        await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s)
        await coordinator.store(KEY, entry, token="a")
        assert await coordinator.acquire(KEY, token="b", ttl_s=self.tick_s) == Found(entry)
        await coordinator.release(KEY, token="a")
        assert await coordinator.acquire(KEY, token="b", ttl_s=self.tick_s) == Found(entry)

    async def test_acquire_does_not_find_a_stale_entry(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        """Somebody has to lead its refresh."""
        entry = replace(self.entry(clock, ticks=1.0), stale_while_revalidate_s=5 * self.tick_s)
        await coordinator.store(KEY, entry)
        await self.let_time_pass(clock, 2.0 * self.tick_s)
        assert await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s) == Leader("a")

    async def test_each_wire_form_has_a_lease_of_its_own(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s, form="json")
        other = await coordinator.acquire(KEY, token="b", ttl_s=self.tick_s, form="stream")
        assert other == Leader("b")
        assert not await coordinator.renew(KEY, token="a", ttl_s=self.tick_s, form="stream")
        assert not await coordinator.store(KEY, self.entry(clock), token="a", form="stream")
        assert await coordinator.renew(KEY, token="a", ttl_s=self.tick_s, form="json")
        assert await coordinator.store(KEY, self.entry(clock), token="b", form="stream")

    async def test_the_lease_of_a_doomed_leader_is_taken_over(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        """What it makes was invalidated meanwhile: nobody waits for it, and it stores nothing."""
        early = (await coordinator.append((row("a"),))).position
        late = (await coordinator.append((row("m"),))).position
        ttl_s = self.tick_s
        await coordinator.acquire(KEY, token="a", ttl_s=ttl_s, position=early)
        waiting = await coordinator.acquire(KEY, token="b", ttl_s=ttl_s, position=late, since=early)
        assert isinstance(waiting, Follower)
        leading = await coordinator.acquire(KEY, token="b", ttl_s=ttl_s, position=late, since=late)
        assert leading == Leader("b")
        assert not await coordinator.store(KEY, self.entry(clock), token="a")
        again = await coordinator.acquire(KEY, token="c", ttl_s=ttl_s, position=late, since=late)
        assert isinstance(again, Follower)

    async def test_nobody_waits_for_what_cannot_be_shared(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s)
        await coordinator.release(KEY, token="b", parallel_s=self.tick_s)
        assert isinstance(await coordinator.acquire(KEY, token="b", ttl_s=1.0), Follower)
        await coordinator.release(KEY, token="a", parallel_s=self.tick_s)
        answer = await coordinator.acquire(KEY, token="b", ttl_s=self.tick_s)
        assert isinstance(answer, Parallel)
        assert 0 < answer.remaining_s <= self.tick_s
        assert not await coordinator.renew(KEY, token="a", ttl_s=self.tick_s)
        await self.let_time_pass(clock, 1.5 * self.tick_s)
        assert await coordinator.acquire(KEY, token="b", ttl_s=self.tick_s) == Leader("b")

    # -- events

    async def test_events_tell_of_rows_and_fills(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        listener = _Listener(coordinator)
        await listener.start()
        receipt = await coordinator.append((row("m"),))
        await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s)
        await coordinator.store(KEY, self.entry(clock), token="a")
        events = await listener.until(lambda seen: Filled(KEY) in seen)
        rows = [r for event in events if isinstance(event, Invalidated) for r in event.rows]
        assert [(one.position, one.row) for one in rows] == [(receipt.position, row("m"))]
        await coordinator.aclose()
        await listener.ended()

    async def test_events_tell_who_waits_of_a_lease_that_came_to_nothing(
        self, coordinator: Coordinator
    ) -> None:
        listener = _Listener(coordinator)
        await listener.start()
        await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s)
        assert isinstance(await coordinator.acquire(KEY, token="b", ttl_s=self.tick_s), Follower)
        await coordinator.release(KEY, token="a")
        await listener.until(lambda seen: Released(KEY) in seen)
        await coordinator.aclose()
        await listener.ended()

    # -- life

    async def test_open_and_aclose_may_be_called_twice(self, coordinator: Coordinator) -> None:
        await coordinator.open()
        await coordinator.open()
        await coordinator.aclose()
        await coordinator.aclose()

    async def test_a_reopened_coordinator_works_and_its_positions_go_on(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        """A reader from before gets what it missed, or learns that it cannot."""
        before = await coordinator.append((row("a"), row("b")))
        await coordinator.aclose()
        await coordinator.open()
        after = await coordinator.append((row("c"),))
        assert after.position > before.position
        fetched = await coordinator.fetch((), START)
        assert fetched.is_rewound or len(logged(fetched)) == 3
        assert await coordinator.store(KEY, self.entry(clock))
        assert await self.read(coordinator) is not None

    async def test_fifty_tasks_may_use_it_at_once(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        async def use(number: int) -> None:
            key = result_key(f"{number % 7:032x}", "m")
            for turn in range(10):
                await coordinator.store(key, self.entry(clock, b"%d" % (number % 7)))
                entry = await self.read(coordinator, key)
                assert entry is None or entry.body == b"%d" % (number % 7)
                if turn == number % 10:
                    await coordinator.delete(key)

        await asyncio.gather(*(use(number) for number in range(50)))

    # -- inspection

    async def test_a_sample_holds_unexpired_entries_of_one_layer(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        live = {result_key(f"{n:032x}", "m"): self.entry(clock, b"%d" % n) for n in range(5)}
        for key, entry in live.items():
            await coordinator.store(key, entry)
        await coordinator.store(KEY, self.entry(clock, ticks=1.0))
        decision = replace(self.entry(clock), layer=Layer.ROUTING)
        await coordinator.store(route_key("h"), decision)
        await self.let_time_pass(clock, 2.0 * self.tick_s)
        assert dict(await coordinator.sample(Layer.RESULT, 100)) == live
        assert dict(await coordinator.sample(Layer.ROUTING, 100)) == {route_key("h"): decision}
        assert len(await coordinator.sample(Layer.RESULT, 2)) == 2
        assert not await coordinator.sample(Layer.RESULT, 0)

    async def test_stats_name_every_layer_and_count_entries(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        await coordinator.store(KEY, self.entry(clock, bytes(1000)))
        stats = coordinator.stats()
        assert set(stats.layers) == set(Layer)
        assert stats.nodes >= 1
        usage = stats.layers[Layer.RESULT]
        assert usage.entries == 1 or stats.age_s > 0
        assert usage.bytes <= usage.limit_bytes

    async def test_cluster_stats_name_nodes_and_where_the_log_ends(
        self, coordinator: Coordinator
    ) -> None:
        receipt = await coordinator.append((row("m"),))
        stats = await coordinator.cluster_stats()
        assert stats.position >= receipt.position
        assert stats.count(NodeState.UP) == len(stats.nodes) >= 1
        assert all(node.name and "@" not in node.name for node in stats.nodes)
        assert all(process.process for process in stats.processes)

    async def test_it_says_who_it_is(self, coordinator: Coordinator) -> None:
        assert coordinator.poll_s > 0
        assert coordinator.name.isascii()
        assert coordinator.is_shared in (True, False)


class _Listener:
    """Collects events in a task of its own."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._events = coordinator.events()
        self._seen: list[CoordinatorEvent] = []
        self._news = asyncio.Event()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        # Two turns of the loop, for a backend that has to connect before it hears anything.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _run(self) -> None:
        async for event in self._events:
            self._seen.append(event)
            self._news.set()

    async def until(
        self, is_enough: Callable[[list[CoordinatorEvent]], bool]
    ) -> list[CoordinatorEvent]:
        async with asyncio.timeout(5):
            while not is_enough(self._seen):
                self._news.clear()
                await self._news.wait()
        return self._seen

    async def ended(self) -> None:
        async with asyncio.timeout(5):
            await self._task
