"""Canaries: words that occur nowhere else, planted in whatever has to stay secret.

Each has two halves of twelve letters and digits, so that half of one is found as well: what shows
the first characters of a key, or cuts a prompt in the middle, gives one of them away. No half
changes when it is written as JSON, in a URL or in a ``repr``; what would change it (base64, hex,
percent signs and backslashes for every character, other cases, a plain digest) is looked for too.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["PLANTED", "leaks", "planted", "prose"]

_NAMES: Final = (
    # What clients send.
    *("system prompt", "prompt", "second prompt", "tool name", "tool arguments", "tool schema"),
    *("tool result", "image url", "file id", "document", "metadata", "metadata name", "user"),
    *("reasoning", "stop word", "prompt cache key", "broken json", "bytes"),
    # Who they are.
    *("authorization", "x-api-key", "api-key", "x-goog-api-key", "query key", "cookie"),
    *("forwarded user", "identity", "tenant", "tag", "idempotency key", "baggage"),
    # What models answer.
    *("completion", "answered name", "answered arguments", "refusal", "thoughts", "annotation"),
    *("answered id", "error text", "set-cookie", "response header"),
    # What operators hold.
    *("secret", "former secret", "url password", "url user", "url option", "admin token"),
    *("read token", "upstream key", "client key", "admin url password", "wrong token"),
    *("raised", "capabilities"),
)
_HALF: Final = 12


def _halves(name: str) -> tuple[str, str]:
    digest = hashlib.blake2b(name.encode(), digest_size=10, person=b"canary").hexdigest()
    return f"Zq{digest[:10]}", f"Yx{digest[10:]}"


PLANTED: Final[Mapping[str, str]] = MappingProxyType(
    {name: "".join(_halves(name)) for name in _NAMES}
)
"""What a canary stands for to its word: 24 letters and digits."""


def planted(name: str) -> str:
    """Return the canary of that name: fit for headers, URLs and tokens."""
    return PLANTED[name]


def prose(name: str) -> str:
    """Return the canary of that name among characters that have to be escaped here and there."""
    word = PLANTED[name]
    return f'say "{word[:_HALF]}"\n\\ é/✓ 100% {word[_HALF:]} & <b>'


def leaks(text: str) -> list[str]:
    """Return which canaries are in a text, in what form, and around what; sorted."""
    lower = text.lower()
    found = {
        f"{name}, {form}: ...{_around(where, needle)}..."
        for needle, (name, form, is_exact) in _NEEDLES.items()
        for where in (text if is_exact else lower,)
        if needle in where
    }
    return sorted(found)


def _around(text: str, needle: str) -> str:
    at = text.index(needle)
    return re.sub(r"\s+", " ", text[max(0, at - 80) : at + len(needle) + 40])


def _forms(half: str) -> Iterator[tuple[str, str, bool]]:
    """Yield the ways to write half of a canary, and whether upper case matters in them."""
    raw = half.encode()
    yield half.lower(), "as it is", False
    yield raw.hex(), "hex", False
    yield "".join(f"%{byte:02x}" for byte in raw), "percent signs", False
    yield "".join(f"\\u{byte:04x}" for byte in raw), "JSON escapes", False
    yield "".join(f"\\x{byte:02x}" for byte in raw), "repr escapes", False
    yield half[::-1].lower(), "backwards", False
    for ahead in range(3):  # where it begins in a group of three decides on the letters
        written = base64.b64encode(b"\0" * ahead + raw).decode()
        start = (8 * ahead + 5) // 6  # letters that hold nothing of what stands before it
        whole = (8 * (ahead + len(raw))) // 6
        yield written[start:whole], "base64", True


def _digests(word: str) -> Iterator[tuple[str, str, bool]]:
    """Yield plain digests, by which a canary can be guessed: 16 digits of them are enough."""
    raw = word.encode()
    for kind in ("md5", "sha1", "sha256", "blake2b"):
        yield hashlib.new(kind, raw, usedforsecurity=False).hexdigest()[:16], kind, False
    yield hashlib.blake2b(raw, digest_size=16).hexdigest()[:16], "blake2b-128", False


def _needles() -> Iterator[tuple[str, tuple[str, str, bool]]]:
    for name, word in PLANTED.items():
        for half in _halves(name):
            yield from ((n, (name, form, exact)) for n, form, exact in _forms(half))
        yield from ((n, (name, form, exact)) for n, form, exact in _digests(word))


_NEEDLES: Final = dict(_needles())
