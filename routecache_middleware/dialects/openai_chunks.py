"""OpenAI's streams of partial completions: read, written, added up, taken apart.

What chat and legacy completions share. A stream is a list of objects, each with some of the
choices, that ends with ``[DONE]``; the usage comes in an object of its own, without choices. What a
choice looks like, and how its pieces join, the two dialects say themselves.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec

from routecache_middleware.core.sse import split_events
from routecache_middleware.dialects.openai_judge import DONE
from routecache_middleware.dialects.openai_merge import Object, as_objects, index_of, put, without

__all__ = ["Choice", "add_up", "reshape", "spread"]

_EVERY_CHUNK = ("id", "created", "model", "service_tier", "system_fingerprint")
_OWN_CHUNK = "moderation"  # comes when all choices are done
_DOUBTS = (msgspec.MsgspecError, ValueError, RecursionError)  # the body has not the right form
_decode = msgspec.json.Decoder(Object).decode
_encode = msgspec.json.Encoder().encode


class Choice(Protocol):
    """One choice of a JSON answer, growing part by part."""

    def add(self, part: Object) -> None:
        """Merge one choice of a chunk.

        Raises:
            ValueError: It has not the right form, or comes in pieces that nobody can join.
        """

    def finished(self, index: int) -> Object:
        """Return the choice as a JSON answer has it.

        Raises:
            ValueError: Its pieces do not make a whole.
        """


def add_up(body: bytes, *, kind: str, choice: Callable[[], Choice]) -> bytes | None:
    """Return the JSON answer that a stream adds up to.

    None when it carries no usage, which a live JSON answer always has, or cannot be added up.

    Args:
        body: The stream.
        kind: The answer's ``object``.
        choice: Makes a choice that nothing has been added to.
    """
    try:
        chunks = _chunks(body)
        carrier = _usage_carrier(chunks)
        if carrier is None:
            return None
        whole: Object = {}
        choices: dict[int, Choice] = {}
        for chunk in chunks:
            for name, value in chunk.items():
                if name not in ("choices", "obfuscation", "usage"):
                    put(whole, name, value)
            for part in as_objects(chunk.get("choices")):
                index = index_of(part, 0)
                if index not in choices:
                    choices[index] = choice()
                choices[index].add(part)
        whole["object"] = kind
        whole["choices"] = [choices[index].finished(index) for index in sorted(choices)]
    except _DOUBTS:
        return None
    whole["usage"] = carrier["usage"]
    return _encode(whole)


def spread(
    body: bytes, *, kind: str, take_apart: Callable[[Object], Iterable[Object]], with_usage: bool
) -> bytes | None:
    """Return a stream that adds up to a JSON answer.

    None when usage is asked for and not there, or the body has not the right form.

    Args:
        body: The JSON answer.
        kind: The ``object`` of a chunk.
        take_apart: Turns a choice into parts of it; may raise ``ValueError``.
        with_usage: Whether usage is asked for.
    """
    try:
        whole = _decode(body)
        usage = whole.get("usage")
        if with_usage and usage is None:
            return None
        parts = [part for choice in as_objects(whole.get("choices")) for part in take_apart(choice)]
    except _DOUBTS:
        return None
    head = {name: whole[name] for name in _EVERY_CHUNK if name in whole}
    head["object"] = kind
    late = {name: whole[name] for name in (_OWN_CHUNK,) if whole.get(name) is not None}
    # What else there is at the top can be long, so only the first chunk carries it.
    first: Object = head | without(whole, *head, *late, "choices", "usage")
    chunks: list[Object] = [(head if i else first) | {"choices": [p]} for i, p in enumerate(parts)]
    if late:
        chunks.append(head | {"choices": []} | late)
    return _stream(_with_usage(chunks, head, usage) if with_usage else chunks)


def reshape(body: bytes, *, with_usage: bool = False) -> bytes | None:
    """Return a stream with or without the usage that it carries, in the places OpenAI puts it.

    None when usage is asked for and not there, or the body has not the right form.
    """
    try:
        chunks = _chunks(body)
        carrier = _usage_carrier(chunks)
        if with_usage and carrier is None:
            return None
        # A chunk without choices may also carry something else, such as Azure's prompt filter.
        kept = [c for c in chunks if as_objects(c.get("choices")) or c.get("usage") is None]
    except _DOUBTS:
        return None
    bare = [without(chunk, "usage", "obfuscation") for chunk in kept]
    if not with_usage or carrier is None:
        return _stream(bare)
    return _stream(_with_usage(bare, without(carrier, "usage", "obfuscation"), carrier["usage"]))


def _with_usage(chunks: Iterable[Object], head: Object, usage: object) -> Iterator[Object]:
    for chunk in chunks:
        yield chunk | {"usage": None}
    yield head | {"choices": [], "usage": usage}


def _stream(chunks: Iterable[Object]) -> bytes:
    frames = [b"data: " + _encode(chunk) for chunk in chunks]
    return b"\n\n".join([*frames, b"data: " + DONE, b""])


def _chunks(body: bytes) -> list[Object]:
    return [_decode(event.data) for event in split_events(body) if event.data != DONE]


def _usage_carrier(chunks: list[Object]) -> Object | None:
    """Return the last chunk that carries usage."""
    return next((chunk for chunk in reversed(chunks) if chunk.get("usage") is not None), None)
