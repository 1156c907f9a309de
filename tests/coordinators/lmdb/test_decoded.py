"""What was decoded is kept beside its bytes: faster, and never anything but what the file says."""

import pytest

from routecache_middleware.coordinators.lmdb.coordinator import LmdbCoordinator
from routecache_middleware.coordinators.lmdb.decoded import DecodedEntries
from routecache_middleware.coordinators.lmdb.layout import slot_of
from routecache_middleware.core.codec import EntryCodec
from routecache_middleware.core.keys import result_key
from routecache_middleware.core.models import START, Entry
from routecache_middleware.errors import CorruptEntryError
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract import KEY
from tests.coordinators.lmdb.support import MIB, entry_of, flush

CODEC = EntryCodec(max_bytes=MIB)


def look(decoded: DecodedEntries, value: bytes) -> Entry:
    return decoded.decode(KEY, slot_of(KEY), memoryview(value))


def test_the_same_bytes_are_decoded_once(clock: FakeClock) -> None:
    decoded = DecodedEntries(CODEC)
    value = CODEC.encode(KEY, entry_of(clock, b"x"))
    assert look(decoded, value) is look(decoded, bytes(bytearray(value)))


def test_a_changed_byte_is_found(clock: FakeClock) -> None:
    decoded = DecodedEntries(CODEC)
    value = CODEC.encode(KEY, entry_of(clock, bytes(100)))
    look(decoded, value)
    with pytest.raises(CorruptEntryError):
        look(decoded, value[:-1] + b"\x01")
    other = CODEC.encode(KEY, entry_of(clock, b"other"))
    assert look(decoded, other).body == b"other"


def test_what_is_kept_is_bounded(clock: FakeClock) -> None:
    decoded = DecodedEntries(CODEC, max_bytes=100_000)
    for number in range(100):
        key = result_key(f"{number}", "m")
        value = CODEC.encode(key, entry_of(clock, bytes(5_000)))
        decoded.decode(key, slot_of(key), memoryview(value))
        decoded.decode(key, slot_of(key), memoryview(value))
    assert len(decoded) == 8  # of about 11 KB each: the bytes, the body and the bookkeeping


def test_large_values_are_not_kept(clock: FakeClock) -> None:
    decoded = DecodedEntries(CODEC)
    value = CODEC.encode(KEY, entry_of(clock, bytes(70_000)))
    assert look(decoded, value) == look(decoded, value)
    assert len(decoded) == 0


async def test_what_is_kept_is_not_served_when_it_has_left_the_file(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    await lmdb.store(KEY, entry_of(clock, b"x"))
    await flush(lmdb)
    for _ in range(2):
        fetched = lmdb.fetch_now((KEY,), START)
        assert fetched is not None
        assert fetched.entries[0] == entry_of(clock, b"x")
    await lmdb.delete(KEY)
    await flush(lmdb)
    fetched = lmdb.fetch_now((KEY,), START)
    assert fetched is not None
    assert fetched.entries[0] is None
