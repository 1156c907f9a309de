"""Requests for several things at once, each of which is an entry of its own.

A dialect that can do this has the methods of :class:`Batched` besides. Every part is a request for
one item, and its stored body is the answer that such a request would have got: so what one request
asked for in a list is there for another that asks for one of it, and the other way round.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from routecache_middleware.core.dialect import ParsedRequest

__all__ = ["Batched", "shared_out"]


@runtime_checkable
class Batched(Protocol):
    """What a dialect has to know to take requests apart and put answers together."""

    def split(self, payload: Mapping[str, object]) -> list[Mapping[str, object]]:
        """Return one request per item, in order; a single one for what has one item.

        A single one, too, for what cannot be taken apart: it is then an entry as a whole.

        Called for what ``parse`` accepts only; equal items make equal requests.
        """

    def only(self, payload: Mapping[str, object], wanted: Sequence[int]) -> bytes:
        """Return the body of a request for some of the items, by their places."""

    def take_apart(self, body: bytes, request: ParsedRequest) -> list[bytes] | None:
        """Return the answer to each item, in order; None when the answer is not of that form."""

    def put_together(self, parts: Sequence[bytes], request: ParsedRequest) -> bytes | None:
        """Return one answer made of the answers to each item, or None when that is impossible."""


def shared_out(total: int, sizes: Sequence[int]) -> list[int]:
    """Return ``total`` shared out in proportion to ``sizes``; the shares add up to it.

    Sizes below 0 count as 0; when all of them are 0, the shares are equal.
    """
    weights = [max(0, size) for size in sizes]
    whole = sum(weights)
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    shares, given, seen = [], 0, 0
    for weight in weights:
        seen += weight
        shares.append(total * seen // whole - given)
        given += shares[-1]
    return shares
