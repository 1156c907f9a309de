"""The words that settings are chosen from."""

from enum import StrEnum
from typing import Final, Generic, TypeVar

__all__ = ["Compression", "DecisionScope", "Eviction", "Mode", "Replay", "Tenancy", "Word"]

E = TypeVar("E", bound=StrEnum)
W = TypeVar("W", bound=str)


class Mode(StrEnum):
    """What the cache does; switchable at run time through ``RouteCache.mode``."""

    ON = "on"
    OFF = "off"
    READ_ONLY = "read_only"
    WRITE_ONLY = "write_only"
    SHADOW = "shadow"


class Tenancy(StrEnum):
    """Who shares entries with whom."""

    PRINCIPAL = "principal"
    SHARED = "shared"


class DecisionScope(StrEnum):
    """What a routing decision is keyed on."""

    REQUEST = "request"
    CONVERSATION = "conversation"


class Eviction(StrEnum):
    """What leaves the memory store first when it is full."""

    S3FIFO = "s3fifo"
    LRU = "lru"


class Compression(StrEnum):
    """How answers are kept outside this process."""

    NONE = "none"
    ZSTD = "zstd"


class Replay(StrEnum):
    """How a stored stream is cut into ASGI messages; its bytes are the same either way."""

    BURST = "burst"
    ORIGINAL = "original"


class Word(Generic[E, W]):
    """Type of a field that is set to an enum's member or its plain word, and reads as the member.

    For type checkers alone: the slots of the record take its place, and the record converts.
    """

    def __init__(self, default: E) -> None:
        self._default: Final = default

    def __get__(self, instance: object, owner: type) -> E:
        """Return the default, which is what a dataclass asks a class attribute for."""
        return self._default

    def __set__(self, instance: object, value: E | W) -> None:
        """Say what may be assigned; never called."""
        raise NotImplementedError
