"""One leads per key and form, and only who leads may store."""

import asyncio

from msgspec.structs import replace

from routecache_middleware.core.keys import route_key
from routecache_middleware.core.ports import (
    Coordinator,
    Follower,
    Found,
    Leader,
    Parallel,
)
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract_base import (
    KEY,
    ContractBase,
    row,
)

__all__ = ["LeasesContract"]


class LeasesContract(ContractBase):
    """One leads per key and form, and only who leads may store."""

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
