"""Strict JSON in, typed canonical bytes out: what the cache key is a hash of.

Two requests may share an answer only if every upstream reads them alike. Where JSON parsers
disagree (duplicate keys, NaN, numbers out of range, lone surrogates, a byte order mark) the text
is *doubtful*: :class:`DoubtfulJSONError`, which the caller turns into a bypass. Little is folded:
``true`` is not 1, Unicode and white space inside strings stay as they are. Only numbers that every
double-precision reader takes for the same value are equal: ``1``, ``1.0`` and ``1e0``.

msgspec's own decoder accepts duplicate keys silently, so the standard library decodes, with hooks.
"""

import json
import math
from collections.abc import Mapping
from typing import NoReturn

import msgspec

__all__ = ["DoubtfulJSONError", "decode", "encode", "normalise"]

_MIN_INT = -(2**63)  # msgpack's int64 ...
_MAX_INT = 2**64 - 1  # ... and uint64
_SAFE_DIGITS = 18  # so many characters always fit an int64
_MAX_DIGITS = 20  # characters of the longest uint64 and of the longest negative int64
_FLOAT_TAG = b"\xcb"  # msgpack's float 64; its other use is as a UTF-8 lead byte, U+02C0 to U+02FF


class DoubtfulJSONError(ValueError):
    """The JSON is not valid, or parsers disagree on what it says. The text quotes nothing of it."""


def decode(body: bytes) -> dict[str, object]:
    """Return the JSON object that ``body`` holds, its numbers normalised.

    Lone surrogates pass here and are found by :func:`encode`.

    Raises:
        DoubtfulJSONError: Not UTF-8, not an object, or doubtful in one of the ways listed above.
    """
    # Raised below, outside the except clauses: a JSONDecodeError carries the whole document, and
    # must not hang on ours as its context.
    try:
        value = _DECODER.decode(body.decode())
    except DoubtfulJSONError as error:
        problem = str(error)
    except UnicodeDecodeError:
        problem = "the body is not UTF-8"
    except RecursionError:
        problem = "the JSON is nested too deeply"
    except ValueError:
        problem = "the body is not valid JSON"
    else:
        if isinstance(value, dict):
            return value
        problem = "the top level is not a JSON object"
    raise DoubtfulJSONError(problem)


def encode(value: object) -> bytes:
    """Return the canonical bytes of a JSON value: equal values, equal bytes, and only those.

    The bytes are msgpack with sorted keys, so they are typed and end themselves: several may follow
    one another in a hash without being ambiguous.

    Args:
        value: What :func:`decode` or :func:`normalise` returned; floats are normalised once more.

    Raises:
        DoubtfulJSONError: A lone surrogate, a key that is not a string, or no JSON value at all.
    """
    packed = _pack(value)
    # Floats are rare outside the sampling fields, and looking for their tag costs next to nothing.
    return _pack(normalise(value)) if _FLOAT_TAG in packed else packed


def normalise(value: object) -> object:
    """Return a Python value as :func:`decode` would have returned it; tuples count as lists.

    Raises:
        DoubtfulJSONError: A key that is not a string, NaN or infinity, an integer outside of 64
            bits, a type that JSON does not have, or nesting too deep (or endless).
    """
    try:
        return _normalise(value)
    except RecursionError:
        pass
    raise DoubtfulJSONError("the value is nested too deeply")


def _normalise(value: object) -> object:
    kind = type(value)  # exact types first: all that a decoded value has, at a third of the time
    if kind is str or kind is bool or value is None:
        return value
    if isinstance(value, dict):
        return {
            name if type(name) is str else _key(name): _normalise(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_normalise(item) for item in value]
    return _normalise_rare(value)


def _normalise_rare(value: object) -> object:
    match value:
        case str():
            return str.__str__(value)  # a plain str, also of an enum member
        case int():
            return _in_range(int.__int__(value))
        case float():
            return _plain(float.__float__(value))
        case Mapping():
            return {_key(name): _normalise(item) for name, item in value.items()}
        case _:
            raise DoubtfulJSONError(
                f"a {type(value).__name__} is not JSON; pass strings, numbers, booleans, None, "
                "lists and mappings"
            )


def _key(name: object) -> str:
    if isinstance(name, str):
        return str.__str__(name)
    raise DoubtfulJSONError(f"a {type(name).__name__} is not a JSON key; use strings")


def _pack(value: object) -> bytes:
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:  # carries the string, so it must not become our context either
        problem = "a string has a lone surrogate"
    except RecursionError:
        problem = "the value is nested too deeply"
    except (TypeError, ValueError, OverflowError):
        problem = "the value has a part that JSON cannot express"
    raise DoubtfulJSONError(problem)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise DoubtfulJSONError("an object has a key twice")
    return fields


def _integer(text: str) -> int:
    if len(text) <= _SAFE_DIGITS:
        return int(text)
    if len(text) > _MAX_DIGITS:  # without converting: that takes quadratic time
        raise DoubtfulJSONError("an integer does not fit 64 bits")
    return _in_range(int(text))


def _in_range(value: int) -> int:
    if _MIN_INT <= value <= _MAX_INT:
        return value
    raise DoubtfulJSONError("an integer does not fit 64 bits")


def _plain(value: float) -> float:
    """Return an integral float as the int that every reader takes it for."""
    if not math.isfinite(value):
        raise DoubtfulJSONError("a number is not finite")
    return int(value) if value.is_integer() and abs(value) < -_MIN_INT else value


def _number(text: str) -> float:
    return _plain(float(text))


def _constant(_: str) -> NoReturn:
    raise DoubtfulJSONError("a number is not finite")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_constant,
)
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
