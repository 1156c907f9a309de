"""Replace the model in a request body, or remove a member, and nothing else changes: not one byte.

Decoding and encoding the whole body again would change white space, escapes and the form of
numbers, all of which an app may log, sign or count.
"""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["remove_member", "replace_model"]

_BLANK = re.compile(r"[ \t\n\r]+")  # JSON's white space, RFC 8259 section 2
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)  # numbers are only stepped over


class _Member(NamedTuple):
    """Where a top-level member stands in the text.

    Attributes:
        name: Its name.
        comma: The comma before it; -1 for the first.
        start: Its name.
        value: Its value.
        end: Behind its value.
    """

    name: str
    comma: int
    start: int
    value: int
    end: int


def replace_model(body: bytes, model: str) -> bytes:
    """Return ``body`` with the value of its top-level ``model`` replaced.

    Args:
        body: A JSON object that :func:`~routecache_middleware.core.canonical.decode` accepts.
        model: The new model name.

    Raises:
        ValueError: There is no top-level ``model``, or ``body`` is not a JSON object after all.
    """
    text = body.decode()
    member = _find(text, "model")
    return b"".join(
        (text[: member.value].encode(), json.dumps(model).encode(), text[member.end :].encode())
    )


def remove_member(body: bytes, name: str) -> bytes:
    """Return ``body`` without its top-level member ``name`` and the comma that goes with it.

    Args:
        body: A JSON object that :func:`~routecache_middleware.core.canonical.decode` accepts.
        name: The member's name.

    Raises:
        ValueError: There is no such member, or ``body`` is not a JSON object after all.
    """
    text = body.decode()
    member = _find(text, name)
    start, end = member.start, member.end
    if member.comma >= 0:
        start = member.comma
    else:
        comma = _skip_blank(text, end)
        if text[comma : comma + 1] == ",":
            end = _skip_blank(text, comma + 1)
    return b"".join((text[:start].encode(), text[end:].encode()))


def _find(text: str, name: str) -> _Member:
    try:
        for member in _members(text):
            if member.name == name:
                return member
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    raise ValueError(f"the body has no top-level {name}")


def _members(text: str) -> Iterator[_Member]:
    """Yield where the members are, stepping from one to the next."""
    at, comma = _after(text, 0, "{"), -1
    while text[at : at + 1] == '"':
        name, end = _DECODER.raw_decode(text, at)
        value = _after(text, end, ":")
        _, end = _DECODER.raw_decode(text, value)
        yield _Member(name, comma, at, value, end)
        comma = _skip_blank(text, end)
        if text[comma : comma + 1] != ",":
            break
        at = _skip_blank(text, comma + 1)


def _after(text: str, at: int, mark: str) -> int:
    """Return where the next token starts, behind ``mark``."""
    at = _skip_blank(text, at)
    if text[at : at + 1] != mark:
        raise ValueError("the body is not a JSON object")
    return _skip_blank(text, at + 1)


def _skip_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at
