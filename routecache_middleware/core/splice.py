"""Replace the model in a request body and nothing else: not one other byte changes.

Decoding and encoding the whole body again would change white space, escapes and the form of
numbers, all of which an app may log, sign or count.
"""

import json
import re

__all__ = ["replace_model"]

_BLANK = re.compile(r"[ \t\n\r]+")  # JSON's white space, RFC 8259 section 2
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)  # numbers are only stepped over


def replace_model(body: bytes, model: str) -> bytes:
    """Return ``body`` with the value of its top-level ``model`` replaced.

    Args:
        body: A JSON object that :func:`~routecache_middleware.core.canonical.decode` accepts.
        model: The new model name.

    Raises:
        ValueError: There is no top-level ``model``, or ``body`` is not a JSON object after all.
    """
    text = body.decode()
    try:
        start, end = _model_span(text)
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    return b"".join((text[:start].encode(), json.dumps(model).encode(), text[end:].encode()))


def _model_span(text: str) -> tuple[int, int]:
    """Return where the model's value starts and ends in ``text``, stepping from key to key."""
    at = _after(text, 0, "{")
    while text[at : at + 1] == '"':
        name, at = _DECODER.raw_decode(text, at)
        start = _after(text, at, ":")
        _, end = _DECODER.raw_decode(text, start)
        if name == "model":
            return start, end
        at = _skip_blank(text, end)
        if text[at : at + 1] != ",":
            break
        at = _skip_blank(text, at + 1)
    raise ValueError("the body has no top-level model")


def _after(text: str, at: int, mark: str) -> int:
    """Return where the next token starts, behind ``mark``."""
    at = _skip_blank(text, at)
    if text[at : at + 1] != mark:
        raise ValueError("the body is not a JSON object")
    return _skip_blank(text, at + 1)


def _skip_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at
