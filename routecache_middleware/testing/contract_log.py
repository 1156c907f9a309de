"""Rows of the invalidation log come in order, and a lost log is told."""

import asyncio

from msgspec.structs import replace

from routecache_middleware.core.invalidation import (
    InvalidationRow,
    model_scope,
    tag_scope,
)
from routecache_middleware.core.models import START, Position
from routecache_middleware.core.ports import (
    Coordinator,
)
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract_base import (
    KEY,
    ContractBase,
    logged,
    row,
)

__all__ = ["LogContract"]


class LogContract(ContractBase):
    """Rows of the invalidation log come in order, and a lost log is told."""

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
