"""Structured fields (RFC 9651), read as far as the cache needs them: dictionaries and integers.

Of a value that is neither an integer nor a boolean only its form is checked, as one wrong byte
makes the whole field count as absent: section 4.2. Parameters are checked and dropped.
"""

import binascii
import re
from collections.abc import Callable, Mapping
from enum import Enum
from urllib.parse import unquote_to_bytes

__all__ = ["OPAQUE", "Opaque", "Value", "parse_dictionary", "parse_integer"]


class Opaque(Enum):
    """A value of another type, whose content nobody asks for."""

    OPAQUE = "opaque"


OPAQUE = Opaque.OPAQUE

Value = int | Opaque
"""An integer, a boolean (which is one to Python), or something else."""

_KEY = re.compile(rb"[a-z*][a-z0-9_\-.*]*")
_KEY_IN_ANY_CASE = re.compile(_KEY.pattern, re.IGNORECASE)
_INTEGER = rb"-?[0-9]{1,15}"
_DECIMAL = rb"-?[0-9]{1,12}\.[0-9]{1,3}"
_STRING = rb'"(?:[ !#-\[\]-~]|\\["\\])*+"'
_TOKEN = rb"[A-Za-z*][!#$%&'*+\-.^_`|~A-Za-z0-9:/]*"
_BYTES = rb":[A-Za-z0-9+/=]*:"
_DISPLAY = rb'%"(?:[ !#$&-~]|%[0-9a-f]{2})*+"'
# Decimals before integers; what is left over of a wrong number then stands where nothing may.
_BARE = re.compile(
    rb"(?P<boolean>\?[01])|(?P<opaque>%s|%s|%s|@%s)|(?P<integer>%s)|(?P<bytes>%s)|(?P<display>%s)"
    % (_DECIMAL, _STRING, _TOKEN, _INTEGER, _INTEGER, _BYTES, _DISPLAY)
)
_SPACES = re.compile(rb" *")
_BLANK = re.compile(rb"[ \t]*")


class _Reader:
    """Reads one field value from left to right; every method raises ``ValueError``."""

    __slots__ = ("_key", "at", "text")

    def __init__(self, text: bytes, *, folds_case: bool = False) -> None:
        self.text = text
        self._key = _KEY_IN_ANY_CASE if folds_case else _KEY
        self.at = 0
        self.skip(_SPACES)

    def is_at_end(self) -> bool:
        return self.at == len(self.text)

    def skip(self, what: re.Pattern[bytes]) -> None:
        found = what.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def take(self, mark: bytes) -> bool:
        """Step over ``mark`` if it is next."""
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True

    def finish(self) -> None:
        self.skip(_SPACES)
        if not self.is_at_end():
            raise ValueError("more than one value")

    def key(self) -> str:
        found = self._key.match(self.text, self.at)
        if found is None:
            raise ValueError("no key")
        self.at = found.end()
        return found[0].lower().decode()

    def bare_item(self) -> Value:
        found = _BARE.match(self.text, self.at)
        if found is None:
            raise ValueError("no value")
        self.at = found.end()
        return _VALUES[found.lastgroup or ""](found[0])

    def item(self) -> Value:
        value = self.bare_item()
        self.parameters()
        return value

    def parameters(self) -> None:
        while self.take(b";"):
            self.skip(_SPACES)
            self.key()
            if self.take(b"="):
                self.bare_item()

    def inner_list(self) -> Value:
        """Step over a list, its opening parenthesis being read."""
        self.skip(_SPACES)
        while not self.take(b")"):
            self.item()
            if self.text[self.at : self.at + 1] not in (b" ", b")"):
                raise ValueError("no end of a list")
            self.skip(_SPACES)
        self.parameters()
        return OPAQUE

    def member(self) -> Value:
        """Read what follows the key of a dictionary."""
        if not self.take(b"="):
            self.parameters()
            return True
        return self.inner_list() if self.take(b"(") else self.item()


def parse_dictionary(text: bytes, *, folds_case: bool = False) -> Mapping[str, Value] | None:
    """Return a dictionary's members, or None when it is not one (RFC 9651 section 4.2.2).

    Of members with the same key the last one counts.

    Args:
        text: All lines of the field, joined with commas.
        folds_case: Take capital letters in keys for small ones, which alone RFC 9651 allows.
    """
    reader = _Reader(text, folds_case=folds_case)
    found: dict[str, Value] = {}
    try:
        while not reader.is_at_end():
            key = reader.key()
            found[key] = reader.member()
            reader.skip(_BLANK)
            if reader.is_at_end():
                break
            if not reader.take(b","):
                return None
            reader.skip(_BLANK)
            if reader.is_at_end():  # a comma and then nothing
                return None
    except ValueError:
        return None
    return found


def parse_integer(text: bytes) -> int | None:
    """Return the integer that an item is, or None when it is not one (RFC 9651 section 4.2.3)."""
    reader = _Reader(text)
    try:
        value = reader.item()
        reader.finish()
    except ValueError:
        return None
    return None if isinstance(value, Opaque | bool) else value


def _bytes(found: bytes) -> Value:
    content = found[1:-1]
    # Section 4.2.7: missing padding is no error.
    binascii.a2b_base64(content + b"=" * (-len(content) % 4), strict_mode=True)
    return OPAQUE


def _display(found: bytes) -> Value:
    unquote_to_bytes(found[2:-1]).decode()
    return OPAQUE


_VALUES: Mapping[str, Callable[[bytes], Value]] = {
    "boolean": lambda found: found == b"?1",
    "integer": int,
    "opaque": lambda _: OPAQUE,
    "bytes": _bytes,
    "display": _display,
}
