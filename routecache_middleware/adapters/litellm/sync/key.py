"""A cache key as LiteLLM hands it around in calls that are not async."""

from typing import Self

__all__ = ["SyncKey"]


class SyncKey(str):
    """One of ours: LiteLLM puts it where a caller could have put a ``cache_key`` of its own.

    Attributes:
        is_cut_off: The stream has just stopped, although LiteLLM takes it for complete.
    """

    __slots__ = ("is_cut_off",)

    def __new__(cls, key: str) -> Self:
        """Make one of a plain key."""
        made = super().__new__(cls, key)
        made.is_cut_off = False
        return made

    def mark_cut_off(self) -> None:
        """What LiteLLM is going to bring is no whole answer."""
        self.is_cut_off = True

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)  # elsewhere it is like any other
