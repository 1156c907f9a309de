"""Entry <-> bytes, for coordinators that keep entries outside this process.

    magic (2) | format version (1) | checksum (8) | msgpack array

The checksum is XXH3-64, seeded with the hash of the key: it finds damage, and a value that ended up
under another key. It is no protection against somebody who can write to the store. Nothing is ever
unpickled, every field is type-checked, and whatever is wrong is one :class:`CorruptEntryError`.
"""

import re
from math import isfinite
from typing import Protocol

import msgspec
import xxhash

from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import Entry, Position, ResponseMode, Scope
from routecache_middleware.errors import CorruptEntryError

__all__ = ["FORMAT_VERSION", "Compressor", "EntryCodec"]

FORMAT_VERSION = 1
"""Raised with every change of the layout; coordinators also put it in their key prefix."""

# Readers of version 1 refuse a field more. So the tokens, which came later, travel as a scope that
# no row of the log has: older versions read such an entry as it is meant, and newer ones theirs.
_TOKENS = b"tokens:"
_COUNTS = re.compile(rb"([0-9]{1,15}):([0-9]{1,15})")

_PREFIX = b"rc" + bytes([FORMAT_VERSION])
_CHECKSUM_BYTES = 8
_HEADER_BYTES = len(_PREFIX) + _CHECKSUM_BYTES

# Below 1 KB a frame saves less than the bookkeeping of an entry costs; a gain under 10 % is not
# worth the time to undo it.
_MIN_COMPRESSED_BYTES = 1024
_MAX_COMPRESSED_SHARE = 0.9


class Compressor(Protocol):
    """A way to make bodies smaller."""

    @property
    def name(self) -> str:
        """What is written into the envelope, such as ``zstd``."""

    def compress(self, data: bytes) -> bytes:
        """Return ``data`` made smaller, or not."""

    def decompress(self, data: bytes, max_bytes: int) -> bytes:
        """Undo :meth:`compress`; never allocates more than ``max_bytes``.

        Raises:
            CorruptEntryError: ``data`` is damaged, or would be larger than ``max_bytes``.
        """


# Text travels as bytes: JSON lets lone surrogates through, which a msgpack string cannot hold.
class _Envelope(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    layer: Layer
    created_s: float
    freshness_lifetime_s: float
    stale_while_revalidate_s: float
    stale_if_error_s: float
    cost_ms: float
    position: int
    scopes: tuple[bytes, ...]
    model_id: bytes
    router_version: bytes
    content_type: bytes
    mode: ResponseMode
    shape: bytes
    has_usage: bool
    headers: tuple[tuple[bytes, bytes], ...]
    origin: bytes
    compression: str
    raw_bytes: int
    body: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Envelope)


class EntryCodec:
    """Turns entries into bytes and back. Immutable, so one serves all threads.

    ``decode(key, encode(key, entry)) == entry`` for every entry whose times are finite and not
    negative and whose body is within the limit.
    """

    __slots__ = ("_compressor", "_max_bytes")

    def __init__(self, *, max_bytes: int, compressor: Compressor | None = None) -> None:
        """Prepare a codec.

        Args:
            max_bytes: Bodies that are, or declare to be, larger are refused when read.
            compressor: Applied to bodies of 1 KB and more, and kept if it gains 10 %.
        """
        self._max_bytes = max_bytes
        self._compressor = compressor

    def encode(self, key: CacheKey, entry: Entry) -> bytes:
        """Return ``entry`` as bytes that only :meth:`decode` with the same ``key`` accepts."""
        compression, body = self._compress(entry.body)
        payload = _encoder.encode(_envelope(entry, compression, body))
        return b"".join((_PREFIX, _checksum(key, payload), payload))

    def decode(self, key: CacheKey, data: bytes | bytearray | memoryview) -> Entry:
        """Return the entry that was encoded under ``key``.

        Raises:
            CorruptEntryError: ``data`` is anything else, whatever it is.
        """
        view = memoryview(data)
        if view[: len(_PREFIX)] != _PREFIX:
            raise CorruptEntryError("stored value is not an entry of this format version")
        payload = view[_HEADER_BYTES:]
        if view[len(_PREFIX) : _HEADER_BYTES] != _checksum(key, payload):
            raise CorruptEntryError("stored value is damaged, or belongs to another key")
        try:
            envelope = _decoder.decode(payload)
            return _entry(envelope, self._decompress(envelope))
        except ValueError:  # of msgspec, or undecodable text
            # Not chained: its text may quote what was stored.
            raise CorruptEntryError("stored value has wrong fields") from None

    def _compress(self, body: bytes) -> tuple[str, bytes]:
        if self._compressor is not None and len(body) >= _MIN_COMPRESSED_BYTES:
            packed = self._compressor.compress(body)
            if len(packed) <= len(body) * _MAX_COMPRESSED_SHARE:
                return self._compressor.name, packed
        return "", body

    def _decompress(self, envelope: _Envelope) -> bytes:
        body = envelope.body
        if not 0 <= envelope.raw_bytes <= self._max_bytes:
            raise CorruptEntryError("stored body is larger than allowed")
        if envelope.compression:
            if self._compressor is None or self._compressor.name != envelope.compression:
                raise CorruptEntryError("stored body is compressed in a way not configured here")
            body = self._compressor.decompress(body, envelope.raw_bytes)
        if len(body) != envelope.raw_bytes:
            raise CorruptEntryError("stored body does not have its declared length")
        return body


def _checksum(key: CacheKey, payload: bytes | memoryview) -> bytes:
    seed = xxhash.xxh3_64_intdigest(_pack(key))
    return xxhash.xxh3_64_digest(payload, seed=seed)


def _envelope(entry: Entry, compression: str, body: bytes) -> _Envelope:
    return _Envelope(
        layer=entry.layer,
        created_s=entry.created_s,
        freshness_lifetime_s=entry.freshness_lifetime_s,
        stale_while_revalidate_s=entry.stale_while_revalidate_s,
        stale_if_error_s=entry.stale_if_error_s,
        cost_ms=entry.cost_ms,
        position=entry.position,
        scopes=_packed_scopes(entry),
        model_id=_pack(entry.model_id),
        router_version=_pack(entry.router_version),
        content_type=_pack(entry.content_type),
        mode=entry.mode,
        shape=_pack(entry.shape),
        has_usage=entry.has_usage,
        headers=entry.headers,
        origin=_pack(entry.origin),
        compression=compression,
        raw_bytes=len(entry.body),
        body=body,
    )


def _packed_scopes(entry: Entry) -> tuple[bytes, ...]:
    scopes = tuple(map(_pack, entry.scopes))
    if entry.input_tokens or entry.output_tokens:
        return (*scopes, b"%b%d:%d" % (_TOKENS, entry.input_tokens, entry.output_tokens))
    return scopes


def _tokens(scopes: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], int, int]:
    """Return the true scopes, and the tokens that are written behind them, if any."""
    if not scopes or not scopes[-1].startswith(_TOKENS):
        return scopes, 0, 0
    found = _COUNTS.fullmatch(scopes[-1], len(_TOKENS))
    if found is None:
        return scopes[:-1], 0, 0
    return scopes[:-1], int(found[1]), int(found[2])


def _entry(envelope: _Envelope, body: bytes) -> Entry:
    created_s, lifetime_s = envelope.created_s, envelope.freshness_lifetime_s
    revalidate_s, error_s = envelope.stale_while_revalidate_s, envelope.stale_if_error_s
    cost_ms, position = envelope.cost_ms, envelope.position
    # The sum of anything with a NaN or an infinity is not finite.
    if (
        not isfinite(created_s + lifetime_s + revalidate_s + error_s + cost_ms)
        or min(created_s, lifetime_s, revalidate_s, error_s, cost_ms, position) < 0
    ):
        raise CorruptEntryError("stored times are negative or not finite")
    scopes, input_tokens, output_tokens = _tokens(envelope.scopes)
    return Entry(  # by position: keywords cost half as much again
        envelope.layer,
        body,
        created_s,
        lifetime_s,
        revalidate_s,
        error_s,
        cost_ms,
        Position(position),
        tuple(map(_scope, scopes)),
        _unpack(envelope.model_id),
        _unpack(envelope.router_version),
        _unpack(envelope.content_type),
        envelope.mode,
        _unpack(envelope.shape),
        envelope.has_usage,
        envelope.headers,
        _unpack(envelope.origin),
        input_tokens,
        output_tokens,
    )


def _scope(packed: bytes) -> Scope:
    return Scope(_unpack(packed))


def _pack(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _unpack(packed: bytes) -> str:
    return packed.decode("utf-8", "surrogatepass")
