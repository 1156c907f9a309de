"""What is stored is found, until it expires or is deleted."""

import pytest
from msgspec.structs import replace

from routecache_middleware.core.keys import Layer, model_key, result_key, route_key
from routecache_middleware.core.models import START, Scope
from routecache_middleware.core.ports import (
    Coordinator,
)
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract_base import KEY, ODD_PARTS, ContractBase, logged, row

__all__ = ["EntriesContract"]


class EntriesContract(ContractBase):
    """What is stored is found, until it expires or is deleted."""

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
