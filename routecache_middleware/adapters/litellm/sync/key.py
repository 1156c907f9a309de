"""A cache key as LiteLLM hands it around in calls that are not async."""

__all__ = ["SyncKey"]


class SyncKey(str):
    """One of ours: LiteLLM puts it where a caller could have put a ``cache_key`` of its own."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)  # elsewhere it is like any other
