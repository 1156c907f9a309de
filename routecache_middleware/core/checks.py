"""Rules that settings and policy have in common, and the error for a value that breaks one."""

import math
import sys
from collections.abc import Set as AbstractSet

from routecache_middleware.errors import ConfigurationError

__all__ = [
    "check_flag",
    "check_lower_case",
    "check_secret",
    "check_temperature",
    "check_tool_calls",
    "freeze_set",
    "is_amount",
    "wrong",
]

_MIN_SECRET_BYTES = 16
_MAX_SECRET_BYTES = 64  # BLAKE2b's key size limit, RFC 7693 section 2.1


def is_amount(value: object) -> bool:
    """Whether ``value`` is a finite number, 0 or more."""
    # True is an int to Python, and never what somebody meant by a number.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= sys.float_info.max


def freeze_set(record: object, name: str) -> None:
    """Make a set of strings immutable. One string alone would be taken for its letters."""
    value = getattr(record, name)
    if not isinstance(value, AbstractSet | list | tuple) or not all(
        isinstance(member, str) for member in value
    ):
        raise wrong(name, value, "a set of strings")
    object.__setattr__(record, name, frozenset(value))


def check_lower_case(record: object, name: str) -> None:
    """Raise unless a set of header names is in lower case."""
    bad = sorted(header for header in getattr(record, name) if header != header.lower())
    if bad:
        raise wrong(name, bad, "header names in lower case")


def check_secret(name: str, secret: object) -> None:
    """Raise unless ``secret`` is bytes of a length that keys a hash, or empty."""
    if not isinstance(secret, bytes):  # its value never stands in an error
        raise wrong(name, f"<{type(secret).__name__}>", "bytes")
    length = len(secret)
    if secret and length < _MIN_SECRET_BYTES:
        raise wrong(name, f"<{length} bytes>", f"at least {_MIN_SECRET_BYTES} bytes, or none")
    if length > _MAX_SECRET_BYTES:
        raise wrong(name, f"<{length} bytes>", f"at most {_MAX_SECRET_BYTES} bytes")


def check_temperature(limit: object, *, may_be_infinite: bool = False) -> None:
    """Raise unless ``limit`` is a sampling temperature, or None."""
    if limit is None or is_amount(limit) or (may_be_infinite and limit == math.inf):
        return
    raise wrong("max_temperature", limit, "a number of at least 0, or None for no limit")


def check_tool_calls(value: object) -> None:
    """Raise unless ``value`` says whether answers that call tools are stored."""
    if value != "auto" and not isinstance(value, bool):
        raise wrong("cache_tool_calls", value, '"auto", True or False')


def check_flag(name: str, value: object) -> None:
    """Raise unless ``value`` is a boolean."""
    if not isinstance(value, bool):
        raise wrong(name, value, "True or False")


def wrong(name: str, value: object, remedy: str) -> ConfigurationError:
    """Return the error to raise: which setting, its value, and what it has to be."""
    return ConfigurationError(f"setting {name} is {value!r}; it has to be {remedy}")
