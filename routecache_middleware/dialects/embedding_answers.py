"""Answers that hold one vector per input, taken apart and put together without reading numbers.

The members of an answer stay the bytes that the upstream wrote: a vector is copied, digit for
digit, unless the other form of it is asked for.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

import msgspec

from routecache_middleware.dialects.vectors import as_base64, as_numbers

__all__ = [
    "Answer",
    "Members",
    "in_form",
    "join",
    "read",
    "take_apart",
    "text",
    "tokens",
    "top_level",
]

Members = dict[str, msgspec.Raw]
"""The members of a JSON object, each as it was written."""

_members = msgspec.json.Decoder(Members).decode
_list = msgspec.json.Decoder(list[Members]).decode
_value = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
_NULL: Final = b"null"
_MAX_DIGITS = 15
_AT_ONCE = 64
_SHORT = 16  # bytes of which an empty list or text is made at most


class Answer(msgspec.Struct, frozen=True):
    """An answer with a vector for each input.

    Attributes:
        members: Its top-level members.
        vectors: Its vectors, in the order of the inputs.
    """

    members: Members
    vectors: list[Members]

    @property
    def usage(self) -> Members | None:
        """The members of its usage, or None."""
        raw = self.members.get("usage")
        return None if raw is None else _object(raw)

    @property
    def model(self) -> bytes:
        """The model that it names, as it was written; empty when it names none."""
        return _bytes(self.members.get("model"))


def top_level(body: bytes) -> Members | None:
    """Return the members of a JSON object; None when ``body`` is none."""
    return _object(body)


def read(members: Members | None, count: int) -> Answer | None:
    """Return what is said in an answer to ``count`` inputs; None unless all of them are there."""
    if members is None or "data" not in members:
        return None
    try:
        data = _list(members["data"])
    except _UNREADABLE:
        return None
    if len(data) != count:
        return None
    vectors: list[Members | None] = [None] * count
    for place, vector in enumerate(data):
        raw = vector.get("index")
        index = place if raw is None else _count(raw)
        if index is None or index >= count or not _is_vector(vector.get("embedding")):
            return None
        vectors[index] = vector
    ordered = [vector for vector in vectors if vector is not None]
    return Answer(members, ordered) if len(ordered) == count else None


def tokens(answer: Answer) -> int | None:
    """Return how many tokens the inputs had, or None when the answer does not say."""
    usage = answer.usage
    return None if usage is None else _count(usage.get("prompt_tokens"))


def text(raw: msgspec.Raw | None) -> str:
    """Return the text that was written so; empty when it is none."""
    try:
        value = None if raw is None else _value(raw)
    except _UNREADABLE:
        return ""
    return value if isinstance(value, str) else ""


def in_form(vector: Members, form: str) -> Members | None:
    """Return a vector in one of the two forms; None when it cannot be given that form."""
    raw = vector["embedding"]
    is_text = _bytes(raw, 1) == b'"'
    if is_text == (form == "base64"):
        return vector
    try:
        value = _value(raw)
    except _UNREADABLE:
        return None
    made = as_numbers(value) if is_text else as_base64(value)
    return None if made is None else {**vector, "embedding": msgspec.Raw(_encode(made))}


def take_apart(answer: Answer, sizes: Sequence[int]) -> list[bytes]:
    """Return an answer to each input by itself.

    What was counted for all of them is shared out by how long they are, so that the shares add up
    to it; what else there is in the usage has no shares and is left out, unless it is null.
    """
    count = len(answer.vectors)
    usage = answer.usage
    shares = [{}] * count if usage is None else _shares(usage, sizes or (1,) * count)
    zero = msgspec.Raw(b"0")
    return [
        _written(answer.members, [{**vector, "index": zero}], None if usage is None else share)
        for vector, share in zip(answer.vectors, shares, strict=True)
    ]


def join(answers: Sequence[Answer], vectors: Sequence[Members]) -> bytes | None:
    """Return one answer made of answers to one input each; None when two models made them.

    Args:
        answers: They; at least one. What is not said of a single input is taken from the first.
        vectors: Their vectors, in the form that is wanted.
    """
    first, models = answers[0], {answer.model for answer in answers}
    if len(models) > 1:
        return None  # vectors of two models have nothing to do with one another
    data = [{**vector, "index": msgspec.Raw(b"%d" % index)} for index, vector in enumerate(vectors)]
    return _written(first.members, data, _summed([answer.usage for answer in answers]))


def _written(members: Members, data: list[Members], usage: Members | None) -> bytes:
    made: dict[str, object] = {**members, "data": data}
    if usage is not None:
        made["usage"] = usage
    else:
        made.pop("usage", None)
    return _encode(made) if len(data) <= _AT_ONCE else _in_steps(made, data)


def _in_steps(made: dict[str, object], data: list[Members]) -> bytes:
    """Encode as in one go, which would keep all other threads from running for 15 ms of 17 MB."""
    place = list(made).index("data")
    members = list(made.items())
    before, after = _encode(dict(members[:place]))[:-1], _encode(dict(members[place + 1 :]))[1:]
    pieces = [before, b"," if place else b"", b'"data":[']
    for at in range(0, len(data), _AT_ONCE):
        pieces += [b"," if at else b"", _encode(data[at : at + _AT_ONCE])[1:-1]]
    pieces += [b"]", b"," if len(members) > place + 1 else b"", after]
    return b"".join(pieces)


def _shares(usage: Members, sizes: Sequence[int]) -> list[Members]:
    shares: list[Members] = [{} for _ in sizes]
    for name, raw in usage.items():
        count = _count(raw)
        if count is not None:
            counted = [msgspec.Raw(b"%d" % share) for share in _shared(count, sizes)]
        elif bytes(raw) == _NULL:
            counted = [raw] * len(sizes)
        else:
            continue
        for share, part in zip(shares, counted, strict=True):
            share[name] = part
    return shares


def _shared(count: int, sizes: Sequence[int]) -> list[int]:
    whole = max(1, sum(sizes))
    # Rounded up where the shares end, so that rounding neither adds nor loses any.
    ends = [-(-count * size // whole) for size in accumulate(sizes, initial=0)]
    ends[-1] = count
    return [end - start for start, end in pairwise(ends)]


def _summed(usages: Sequence[Members | None]) -> Members | None:
    known = [usage for usage in usages if usage is not None]
    if len(known) < len(usages):
        return None
    summed: Members = {}
    for name, raw in known[0].items():
        counts = [_count(usage.get(name)) for usage in known]
        numbers = [count for count in counts if count is not None]
        if len(numbers) == len(known):
            summed[name] = msgspec.Raw(b"%d" % sum(numbers))
        elif all(_bytes(usage.get(name)) == _NULL for usage in known):
            summed[name] = raw
    return summed


def _object(body: bytes | msgspec.Raw) -> Members | None:
    try:
        return _members(body)
    except _UNREADABLE:
        return None


def _count(raw: msgspec.Raw | None) -> int | None:
    """Return a whole number that is not negative; None when it is none."""
    written = _bytes(raw, _MAX_DIGITS + 1)
    return int(written) if written.isdigit() and len(written) <= _MAX_DIGITS else None


def _is_vector(raw: msgspec.Raw | None) -> bool:
    start = _bytes(raw, _SHORT)
    return start[:1] in (b"[", b'"') and bool(start[1:].strip(b' \t\r\n]"'))


def _bytes(raw: msgspec.Raw | None, most: int | None = None) -> bytes:
    return b"" if raw is None else bytes(memoryview(raw)[:most])
