"""ZstdCompressor: round trips, refuses bombs and garbage, and says what to install."""

import sys
import threading

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.coordinators.compression import ZstdCompressor
from routecache_middleware.core.codec import EntryCodec
from routecache_middleware.core.keys import Layer, result_key
from routecache_middleware.core.models import Entry
from routecache_middleware.errors import ConfigurationError, CorruptEntryError

COMPRESSOR = ZstdCompressor()


@given(st.binary(max_size=5_000))
def test_what_was_compressed_comes_back(data: bytes) -> None:
    assert COMPRESSOR.decompress(COMPRESSOR.compress(data), len(data)) == data


def test_a_bomb_is_refused_before_anything_is_allocated() -> None:
    bomb = COMPRESSOR.compress(bytes(50_000_000))
    assert len(bomb) < 10_000
    with pytest.raises(CorruptEntryError):
        COMPRESSOR.decompress(bomb, 1_048_576)


def test_a_frame_that_does_not_say_its_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 1_000)
    with pytest.raises(CorruptEntryError):
        COMPRESSOR.decompress(frame, 10_000)


@pytest.mark.parametrize(
    "spoil", [lambda f: f[:-5], lambda f: f + b"x", lambda f: b"", bytes.lower]
)
def test_damage_is_corruption(spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(CorruptEntryError):
        COMPRESSOR.decompress(spoil(COMPRESSOR.compress(b"AbC" * 1_000)), 10_000)


@given(st.binary(max_size=300))
def test_garbage_is_corruption(data: bytes) -> None:
    with pytest.raises(CorruptEntryError):
        COMPRESSOR.decompress(b"\x00" + data, 10_000)


def test_contexts_are_reused_within_a_thread_and_never_shared() -> None:
    pairs = [COMPRESSOR._pair(), COMPRESSOR._pair()]
    thread = threading.Thread(target=lambda: pairs.append(COMPRESSOR._pair()))
    thread.start()
    thread.join()
    assert pairs[0] is pairs[1]
    assert pairs[2] is not pairs[0]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'routecache-middleware\[zstd\]'"):
        ZstdCompressor()


def test_the_codec_uses_it() -> None:
    key = result_key("h", "m")
    body = b'{"choices": [{"message": {"content": "hello"}}]}' * 100
    entry = Entry(layer=Layer.RESULT, body=body, created_s=1.0, freshness_lifetime_s=1.0)
    codec = EntryCodec(max_bytes=10_000, compressor=COMPRESSOR)
    data = codec.encode(key, entry)
    assert len(data) < 1_000
    assert codec.decode(key, data) == entry
