"""Gemini's answers from one form into another: JSON, an event stream, an array of chunks.

A chunk has the form of an answer, so JSON is a stream of one chunk, and Google sends short answers
so. The other way it is made one only where nobody could tell: text and function calls. Thoughts are
told differently in streams, and signatures vouch for the part that they are in, so these are left.
"""

import msgspec

from routecache_middleware.core.models import ResponseMode
from routecache_middleware.dialects.gemini_judge import chunks_of
from routecache_middleware.dialects.openai_request import objects

__all__ = ["in_shape"]

Object = dict[str, object]
_decode = msgspec.json.Decoder(Object).decode
_encode = msgspec.json.Encoder().encode
_CALL = frozenset({"functionCall", "thoughtSignature"})
_PARTIAL = frozenset({"partialArgs", "willContinue"})


class _CannotError(Exception):
    """There is no truthful way."""


def in_shape(body: bytes, mode: ResponseMode, shape: str) -> bytes | None:
    """Return a stored answer in another form: ``json``, ``stream`` or ``array``; None if none is.

    Args:
        body: What is stored.
        mode: Whether that is a stream; JSON may be an array.
        shape: The form that is wanted.
    """
    try:
        chunks = [msgspec.json.format(chunk, indent=-1) for chunk in chunks_of(body, mode)]
        if not chunks:
            return None
        if shape == "json":
            return chunks[0] if len(chunks) == 1 else _encode(_merged(chunks))
        if shape == "array":
            return b"[" + b",\r\n".join(chunks) + b"]"
        return b"".join(b"data: " + chunk + b"\r\n\r\n" for chunk in chunks)
    except (msgspec.MsgspecError, ValueError, RecursionError, _CannotError):
        return None


def _merged(chunks: list[bytes]) -> Object:
    """Return the answer that chunks are of.

    Raises:
        _CannotError: Nobody knows what the upstream would have said.
    """
    decoded = [_decode(chunk) for chunk in chunks]
    if "usageMetadata" not in decoded[-1]:
        raise _CannotError
    by_index: dict[int, list[Object]] = {}
    rest: Object = {}
    for chunk in decoded:
        for candidate in _objects(chunk.pop("candidates", [])):
            index = candidate.get("index", 0)
            if not isinstance(index, int):
                raise _CannotError
            by_index.setdefault(index, []).append(candidate)
        usage = chunk.pop("usageMetadata", None)  # the last one counts, and is there
        if any(rest.setdefault(name, value) != value for name, value in chunk.items()):
            raise _CannotError
    candidates = [_one(by_index[index]) for index in sorted(by_index)]
    return {
        "candidates": candidates,
        "usageMetadata": usage,
        **rest,
    }


def _one(pieces: list[Object]) -> Object:
    """Return the candidate that pieces are of."""
    contents = _objects([piece.pop("content", {}) for piece in pieces])
    reason = pieces[-1].pop("finishReason", None)
    if reason is None or any(piece != pieces[0] for piece in pieces):
        raise _CannotError  # ratings, citations, probabilities: said of a piece or of the whole
    parts: list[Object] = []
    role: Object = {}
    for content in contents:
        for part in _objects(content.pop("parts", [])):
            _add(parts, part)
        if any(role.setdefault(name, value) != value for name, value in content.items()):
            raise _CannotError
    return {"content": {"parts": parts, **role}, "finishReason": reason, **pieces[0]}


def _objects(value: object) -> list[Object]:
    found = objects(value)
    if found is None:
        raise _CannotError
    return found


def _add(parts: list[Object], part: Object) -> None:
    """Add a part, or lengthen the text that is there."""
    text, call = part.get("text"), part.get("functionCall")
    if part.keys() == {"text"} and isinstance(text, str):
        last = parts[-1].get("text") if parts else None
        if isinstance(last, str):
            parts[-1] = {"text": last + text}
        elif text:
            parts.append(part)
    elif isinstance(call, dict) and part.keys() <= _CALL and _PARTIAL.isdisjoint(call):
        parts.append(part)
    else:
        raise _CannotError
