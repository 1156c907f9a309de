"""Embedding vectors on the wire: a list of numbers, or base64 of little-endian 32-bit floats.

Both say the same: models compute in 32 bits or less, and servers print the shortest decimals that
stand for such a float. So each form can be made of the other, to the digit.
"""

import base64
import binascii
import math
import struct

__all__ = ["as_base64", "as_numbers"]

_DIGITS = (6, 7, 8)  # nine always tell two 32-bit floats apart
_WIDTH = 4
_FLOAT = struct.Struct("<f")


def as_base64(numbers: object) -> str | None:
    """Return the base64 form of a list of numbers; None when it is none, or beyond 32 bits."""
    if not isinstance(numbers, list) or not numbers:
        return None
    try:
        packed = struct.pack(f"<{len(numbers)}f", *numbers)
        is_finite = all(map(math.isfinite, numbers))
    except (struct.error, OverflowError):
        return None
    return base64.b64encode(packed).decode("ascii") if is_finite else None


def as_numbers(text: object) -> list[float] | None:
    """Return the numbers of the base64 form, as servers print them; None when it is none."""
    if not isinstance(text, str) or not text:
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(raw) % _WIDTH or not raw:
        return None
    numbers = struct.unpack(f"<{len(raw) // _WIDTH}f", raw)
    return list(map(_shortest, numbers)) if all(map(math.isfinite, numbers)) else None


def _shortest(number: float) -> float:
    """Return the double with the fewest decimals that is the same 32-bit float."""
    for digits in _DIGITS:
        short = float(f"{number:.{digits}g}")
        if _FLOAT.unpack(_FLOAT.pack(short))[0] == number:
            return short
    return float(f"{number:.9g}")
