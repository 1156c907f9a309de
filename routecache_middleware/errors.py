"""Every error this package raises, below one root.

A miss is a value, never an error; a failure is never disguised as a value.
"""

__all__ = [
    "ConfigurationError",
    "CoordinatorError",
    "CorruptEntryError",
    "RouteCacheError",
    "TruncatedResponseError",
]


class RouteCacheError(Exception):
    """Root of all errors raised by routecache_middleware."""


class ConfigurationError(RouteCacheError, ValueError):
    """A setting is wrong. The text names the setting, its value and the remedy.

    Raised while something is constructed, never while a request is served.
    """


class CoordinatorError(RouteCacheError):
    """The coordinator failed; always chained from the driver's own error.

    Raised to whoever called :class:`RouteCache` directly. Requests never see it: the engine
    catches it in one place, counts it and forwards.
    """


class CorruptEntryError(RouteCacheError):
    """Stored bytes are not an entry of ours: damaged, truncated, foreign or of another format."""


class TruncatedResponseError(RouteCacheError):
    """A response shared by several clients ended early, so this client's copy must end early too.

    Raised out of the ASGI call of a follower after its first body byte; the server then closes
    the connection instead of ending the truncated answer cleanly.
    """
