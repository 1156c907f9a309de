"""EntryCodec: what goes in comes out, and anything else is one kind of error."""

import contextlib
import math
import pickle
import struct
import zlib
from typing import Any

import msgspec
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from routecache_middleware.core.codec import FORMAT_VERSION, EntryCodec
from routecache_middleware.core.invalidation import InvalidationTable
from routecache_middleware.core.keys import CacheKey, Layer, result_key, route_key
from routecache_middleware.core.models import Entry, Position, ResponseMode, Scope
from routecache_middleware.errors import CorruptEntryError

KEY = result_key("h", "m", "t")
LIMIT = 100_000


class Deflate:
    """A compressor of the standard library, as strict as the port asks for."""

    name = "deflate"

    def compress(self, data: bytes) -> bytes:
        return zlib.compress(data, 1)

    def decompress(self, data: bytes, max_bytes: int) -> bytes:
        unpacker = zlib.decompressobj()
        try:
            raw = unpacker.decompress(data, max_bytes + 1)
        except zlib.error:
            raise CorruptEntryError("damaged") from None
        if len(raw) > max_bytes:
            raise CorruptEntryError("too large")
        return raw


class Stealth(Deflate):
    """Says it is the other one, and gives back something shorter."""

    def decompress(self, data: bytes, max_bytes: int) -> bytes:
        return super().decompress(data, max_bytes)[1:]


PLAIN = EntryCodec(max_bytes=LIMIT)
PACKING = EntryCodec(max_bytes=LIMIT, compressor=Deflate())
codecs = pytest.mark.parametrize("codec", [PLAIN, PACKING], ids=["plain", "packing"])

TEXT = st.text(st.characters(), max_size=20)
SECONDS = st.floats(0, 1e12)
ENTRIES = st.builds(
    Entry,
    layer=st.sampled_from(Layer),
    body=st.one_of(st.binary(max_size=200), st.binary(max_size=9).map(lambda part: part * 400)),
    created_s=SECONDS,
    freshness_lifetime_s=SECONDS,
    stale_while_revalidate_s=SECONDS,
    stale_if_error_s=SECONDS,
    cost_ms=SECONDS,
    position=st.integers(0, 2**63 - 1).map(Position),
    scopes=st.lists(TEXT.map(Scope), max_size=4).map(tuple),
    model_id=TEXT,
    router_version=TEXT,
    content_type=TEXT,
    mode=st.sampled_from(ResponseMode),
    shape=TEXT,
    has_usage=st.booleans(),
    headers=st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=3).map(
        tuple
    ),
    origin=TEXT,
    input_tokens=st.integers(0, 10**15 - 1),
    output_tokens=st.integers(0, 10**15 - 1),
)


def an_entry(body: bytes = b"{}") -> Entry:
    return Entry(layer=Layer.RESULT, body=body, created_s=100.0, freshness_lifetime_s=60.0)


def seal(payload: bytes, key: CacheKey = KEY) -> bytes:
    """What a writer with a valid checksum but wrong ideas would store."""
    seed = xxhash.xxh3_64_intdigest(key.encode())
    digest = xxhash.xxh3_64_digest(payload, seed=seed)
    return b"rc" + bytes([FORMAT_VERSION]) + digest + payload


def fields_of(data: bytes) -> list[Any]:
    fields: list[Any] = msgspec.msgpack.decode(data[11:])
    return fields


def tampered(index: int, value: object, entry: Entry | None = None) -> bytes:
    fields = fields_of(PLAIN.encode(KEY, entry or an_entry()))
    fields[index] = value
    return seal(msgspec.msgpack.encode(fields))


@given(ENTRIES, st.sampled_from([PLAIN, PACKING]))
def test_what_was_encoded_is_decoded(entry: Entry, codec: EntryCodec) -> None:
    data = codec.encode(KEY, entry)
    assert codec.decode(KEY, data) == entry
    assert codec.decode(KEY, memoryview(bytearray(data))) == entry


def test_a_tampering_hand_with_nothing_changed_is_accepted() -> None:
    """So that the tests below fail for the reason they state."""
    assert PLAIN.decode(KEY, tampered(1, 100.0)) == an_entry()


@given(st.binary())
def test_random_bytes_are_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptEntryError):
        PACKING.decode(KEY, data)


@given(st.binary())
def test_random_bytes_with_a_valid_checksum_are_corrupt(payload: bytes) -> None:
    with pytest.raises(CorruptEntryError):
        PACKING.decode(KEY, seal(payload))


@given(ENTRIES, st.data())
def test_truncations_are_corrupt(entry: Entry, data: st.DataObject) -> None:
    whole = PACKING.encode(KEY, entry)
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(CorruptEntryError):
        PACKING.decode(KEY, whole[:length])
    with pytest.raises(CorruptEntryError):
        PACKING.decode(KEY, seal(whole[11:length]))


@given(ENTRIES, st.data())
def test_flipped_bits_are_corrupt(entry: Entry, data: st.DataObject) -> None:
    spoilt = bytearray(PACKING.encode(KEY, entry))
    bit = data.draw(st.integers(0, len(spoilt) * 8 - 1))
    spoilt[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptEntryError):
        PACKING.decode(KEY, bytes(spoilt))


@given(ENTRIES, st.data())
def test_flipped_bits_under_a_valid_checksum_raise_nothing_else(
    entry: Entry, data: st.DataObject
) -> None:
    spoilt = bytearray(PACKING.encode(KEY, entry)[11:])
    bit = data.draw(st.integers(0, len(spoilt) * 8 - 1))
    spoilt[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(CorruptEntryError):
        assert isinstance(PACKING.decode(KEY, seal(bytes(spoilt))), Entry)


def test_a_value_copied_under_another_key_is_corrupt() -> None:
    data = PLAIN.encode(KEY, an_entry())
    for key in (result_key("h", "m", "other"), route_key("h")):
        with pytest.raises(CorruptEntryError, match="another key"):
            PLAIN.decode(key, data)


def test_another_format_version_is_corrupt() -> None:
    data = bytearray(PLAIN.encode(KEY, an_entry()))
    data[2] += 1
    with pytest.raises(CorruptEntryError, match="format version"):
        PLAIN.decode(KEY, data)


def test_pickles_are_never_loaded() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(an_entry(), protocol)
        for forged in (data, seal(data)):
            with pytest.raises(CorruptEntryError):
                PLAIN.decode(KEY, forged)


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, "bogus"),
        (0, 7),
        *(
            (index, value)
            for index in range(1, 6)
            for value in (-1.0, math.nan, math.inf, "1", None)
        ),
        (6, -1),
        (6, 1.5),
        (7, b"not a list"),
        (7, [1]),
        (7, [b"\xff"]),
        (8, "text, not bytes"),
        (8, b"\xff\xfe"),
        (11, "bogus"),
        (13, 1),
        (14, [[b"one"]]),
        (14, [["a", "b"]]),
        (16, b"\x00"),
        (17, -1),
        (17, 3),
        (17, LIMIT + 1),
        (18, None),
    ],
)
def test_wrong_fields_are_corrupt(index: int, value: object) -> None:
    with pytest.raises(CorruptEntryError):
        PLAIN.decode(KEY, tampered(index, value))


@pytest.mark.parametrize(
    "change", [lambda f: f[:-1], lambda f: [*f, 1], lambda _: {}, lambda _: []]
)
def test_another_number_of_fields_is_corrupt(change: Any) -> None:
    fields = change(fields_of(PLAIN.encode(KEY, an_entry())))
    with pytest.raises(CorruptEntryError):
        PLAIN.decode(KEY, seal(msgspec.msgpack.encode(fields)))


def test_a_declared_array_of_four_billion_items_costs_nothing() -> None:
    with pytest.raises(CorruptEntryError):
        PLAIN.decode(KEY, seal(b"\xdd" + struct.pack(">I", 2**32 - 1)))


def test_no_error_quotes_what_was_stored() -> None:
    with pytest.raises(CorruptEntryError) as caught:
        PLAIN.decode(KEY, tampered(0, "my secret prompt"))
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("body", "is_packed"),
    [
        (b"a" * 1023, False),
        (b"a" * 1024, True),
        (bytes((i * i * 7919 >> 3) % 256 for i in range(200)) * 8, True),
        (b"".join(xxhash.xxh3_128_digest(b"%d" % i) for i in range(99)), False),
    ],
    ids=["under 1 KB", "1 KB", "repetitive", "no gain"],
)
def test_bodies_are_compressed_when_it_pays(body: bytes, is_packed: bool) -> None:  # noqa: FBT001 - a parameter
    data = PACKING.encode(KEY, an_entry(body))
    assert (fields_of(data)[16] == "deflate") == is_packed
    assert PACKING.decode(KEY, data).body == body


def test_the_declared_length_is_checked_before_anything_is_decompressed() -> None:
    class Tripwire(Deflate):
        def decompress(self, data: bytes, max_bytes: int) -> bytes:
            raise AssertionError("it was asked to")

    data = PACKING.encode(KEY, an_entry(bytes(LIMIT + 1)))
    with pytest.raises(CorruptEntryError, match="larger than allowed"):
        EntryCodec(max_bytes=LIMIT, compressor=Tripwire()).decode(KEY, data)


def test_a_body_that_is_larger_than_it_declares_is_corrupt() -> None:
    fields = fields_of(PACKING.encode(KEY, an_entry(bytes(50_000))))
    fields[17] = 10
    with pytest.raises(CorruptEntryError):
        PACKING.decode(KEY, seal(msgspec.msgpack.encode(fields)))


def test_a_body_that_is_smaller_than_it_declares_is_corrupt() -> None:
    data = PACKING.encode(KEY, an_entry(bytes(5_000)))
    with pytest.raises(CorruptEntryError, match="declared length"):
        EntryCodec(max_bytes=LIMIT, compressor=Stealth()).decode(KEY, data)


def test_a_compression_that_is_not_configured_is_corrupt() -> None:
    """A process without the extra treats what others compressed as a miss."""
    data = PACKING.encode(KEY, an_entry(bytes(5_000)))
    with pytest.raises(CorruptEntryError, match="not configured"):
        PLAIN.decode(KEY, data)
    fields = fields_of(data)
    fields[16] = "lzma"
    with pytest.raises(CorruptEntryError, match="not configured"):
        PACKING.decode(KEY, seal(msgspec.msgpack.encode(fields)))


@codecs
def test_uncompressed_entries_are_read_by_every_codec(codec: EntryCodec) -> None:
    assert codec.decode(KEY, PLAIN.encode(KEY, an_entry(b"x" * 5_000))).body == b"x" * 5_000


def test_readers_that_know_of_no_tokens_read_such_an_entry_as_it_is_meant() -> None:
    """During a rolling upgrade both are at work: same layout, same version, same key."""
    entry = replace(an_entry(), scopes=(Scope("model:m"),), input_tokens=5, output_tokens=7)
    fields = fields_of(PLAIN.encode(KEY, entry))
    plain = fields_of(PLAIN.encode(KEY, replace(entry, input_tokens=0, output_tokens=0)))
    # What differs is one scope more, which no row of the log has: to them it is still current.
    assert fields[7] == [b"model:m", b"tokens:5:7"]
    assert [*fields[:7], *fields[8:]] == [*plain[:7], *plain[8:]]
    assert InvalidationTable().is_current(KEY, replace(entry, scopes=(Scope("tokens:5:7"),)))


def test_entries_of_writers_that_know_of_no_tokens_have_none() -> None:
    entry = replace(an_entry(), scopes=(Scope("tenant:t"), Scope("model:m")))
    found = PLAIN.decode(KEY, PLAIN.encode(KEY, entry))
    assert (found.input_tokens, found.output_tokens, found.scopes) == (0, 0, entry.scopes)


@pytest.mark.parametrize(
    "word", [b"tokens:", b"tokens:1", b"tokens:1:x", b"tokens:-1:2", b"tokens:%b:1" % (b"9" * 16)]
)
def test_tokens_that_cannot_be_read_are_unknown(word: bytes) -> None:
    found = PLAIN.decode(KEY, tampered(7, [b"model:m", word]))
    assert (found.input_tokens, found.output_tokens) == (0, 0)
    assert found.scopes == (Scope("model:m"),)
