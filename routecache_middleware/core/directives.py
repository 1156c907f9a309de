"""What a client asks of the cache: ``Cache-Control`` of the request (RFC 9111 section 5.2.1)."""

from dataclasses import dataclass
from functools import lru_cache

__all__ = ["NO_DIRECTIVES", "Directives", "parse_directives"]


@dataclass(frozen=True, slots=True)
class Directives:
    """The request directives that are honoured.

    Attributes:
        no_cache: Do not serve from the cache; the answer may be stored.
        no_store: Store nothing, share no flight; a stored answer may still be served.
        only_if_cached: Answer from the cache or with 504.
        max_age_s: Serve only what is at most this old, or None. This is not a TTL.
    """

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age_s: int | None = None


NO_DIRECTIVES = Directives()


@lru_cache(maxsize=256)
def parse_directives(cache_control: bytes, pragma: bytes = b"") -> Directives:
    """Read the directives; unknown ones are ignored.

    Args:
        cache_control: All ``Cache-Control`` lines, joined with commas.
        pragma: The ``Pragma`` line, which counts only when there is no ``Cache-Control``
            (RFC 9111 section 5.4).

    An unreadable ``max-age`` counts as 0: the cautious reading.
    """
    if not cache_control:
        return Directives(no_cache=True) if pragma.strip().lower() == b"no-cache" else NO_DIRECTIVES
    found: dict[str, str] = {}
    for item in cache_control.decode("latin-1").split(","):
        name, _, value = item.partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    max_age = found.get("max-age")
    return Directives(
        no_cache="no-cache" in found,
        no_store="no-store" in found,
        only_if_cached="only-if-cached" in found,
        max_age_s=None if max_age is None else _delta_seconds(max_age),
    )


def _delta_seconds(text: str) -> int:
    # RFC 9111 section 1.2.2: larger than 2^31 counts as 2^31.
    if not (text.isascii() and text.isdigit()):
        return 0
    return min(int(text[:11]), 2**31)
