"""What prompts have in common, whatever API they are for."""

import re

from routecache_middleware.core.canonical import encode

__all__ = ["is_remote", "size_class"]

_SMALL = 6  # 4 ** 7 is 16 KiB: in smaller contexts each early turn would be a class of its own
_REMOTE = re.compile(r"\s*(?!data:)[a-z][a-z0-9+.\-]{0,30}://", re.IGNORECASE)


def is_remote(part: object, *, texts: tuple[str, ...]) -> bool:
    """Whether a part of a prompt names something that is fetched later: it can change meanwhile.

    Args:
        part: Any JSON value, nested as deep as a client likes.
        texts: Types of the objects that are only read, so that a URL in them is nothing special.
    """
    pending = [part]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            if _REMOTE.match(value):
                return True
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, dict) and value.get("type") not in texts:
            pending += value.values()
    return False


def size_class(prompt: object) -> int:
    """Return the size of a prompt in powers of four, the small ones all being of one class.

    Raises:
        DoubtfulJSONError: It has no canonical form.
    """
    return max(_SMALL, (len(encode(prompt)).bit_length() - 1) // 2)
