"""A request for several things at once: what is known of each of them."""

from collections.abc import Iterator, Sequence

import msgspec

from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import Entry
from routecache_middleware.core.plan import Serve

__all__ = ["Items"]


class Items(msgspec.Struct):
    """The items of one request.

    Attributes:
        keys: Their keys, in order; an item that is there twice has the same key twice.
        known: Those whose answers were found and may be used; none any more once they were used.
        under: Former keys under which some of them were found, by the keys that they have now.
        wanted: Places of the others, each item once, when only they are asked for; else empty.
        fresh: What the app has answered to those, by their places; None until it has. Empty once
            it was stored.
    """

    keys: Sequence[CacheKey]
    known: dict[CacheKey, Serve]
    under: dict[CacheKey, CacheKey] = {}
    wanted: tuple[int, ...] = ()
    fresh: dict[int, bytes] | None = None

    @property
    def unknown(self) -> tuple[int, ...]:
        """Places of what was not found, each item once."""
        seen: set[CacheKey] = set()
        places = []
        for place, key in enumerate(self.keys):
            if key not in self.known and key not in seen:
                seen.add(key)
                places.append(place)
        return tuple(places)

    def held(self) -> Iterator[tuple[CacheKey, Entry]]:
        """Yield what is known with each key that an invalidation of it may name."""
        for key, serve in self.known.items():
            yield key, serve.entry
            if key in self.under:
                yield self.under[key], serve.entry

    @property
    def flight_mark(self) -> str:
        """Tells requests apart of whose items others are known.

        Who shares an answer that was put together has found the same parts of it by itself.
        """
        return "|" + ",".join(map(str, self.wanted)) if self.wanted else ""

    @property
    def age_s(self) -> float:
        """Age of the oldest known answer, seconds."""
        return max((serve.age_s for serve in self.known.values()), default=0.0)

    def in_order(self) -> list[bytes]:
        """Return the answer to each item, once all of them are there."""
        fresh = {self.keys[place]: body for place, body in (self.fresh or {}).items()}
        return [fresh[key] if key in fresh else self.known[key].entry.body for key in self.keys]

    def as_one(self) -> Serve:
        """Return the known answers as one: as old as the oldest, and with what all of them have."""
        served = list(self.known.values())
        headers = tuple(
            pair
            for pair in served[0].entry.headers
            if all(pair in serve.entry.headers for serve in served)
        )
        all_of_them = [self.known[key].entry for key in self.keys]
        entry = msgspec.structs.replace(
            served[0].entry,
            headers=headers,
            input_tokens=sum(entry.input_tokens for entry in all_of_them),
            output_tokens=sum(entry.output_tokens for entry in all_of_them),
        )
        return Serve(entry, self.age_s, min(serve.ttl_s for serve in served))
