"""Names of what is kept in a server, below one versioned prefix.

    rc1:{result:<hash>:<model>}            an entry
    rc1:{result:<hash>:<model>}:l:json     the lease of one of its wire forms
    rc1:{result:<hash>:<model>}:w:json     the inboxes of who waits for that lease
    rc1:{log}                              the invalidation log
    rc1:{log}:i:<id>                       the inbox of a process
    rc1:{log}:p, rc1:{log}:s               the processes' positions, and when they told them
    rc1:{log}:t                            what a breaker writes to try whether it can

The braces are hash tags: what scripts touch together shares a slot of a Cluster, and entries are
spread. Cache keys hold no braces (they are percent-escaped), nor do prefixes (that is checked).
"""

from routecache_middleware.core.codec import FORMAT_VERSION
from routecache_middleware.core.keys import CacheKey, Layer, escape

__all__ = ["Keys"]

_LAYERS = {layer.value: layer for layer in Layer}


class Keys:
    """Builds names; versions and deployments with different prefixes never meet."""

    __slots__ = ("_entry", "log", "probe", "processes", "seen")

    def __init__(self, prefix: str = "") -> None:
        """Prepare.

        Args:
            prefix: Tells deployments apart that share a server; no braces, no glob characters.
        """
        versioned = f"rc{FORMAT_VERSION}:{prefix}"
        self._entry = versioned + "{"
        self.log = versioned + "{log}"
        self.processes = self.log + ":p"
        self.seen = self.log + ":s"
        self.probe = self.log + ":t"

    def entry(self, key: CacheKey) -> str:
        """Name of an entry."""
        return f"{self._entry}{key}}}"

    def lease(self, key: CacheKey, form: str) -> str:
        """Name of the lease of a key's wire form."""
        return f"{self._entry}{key}}}:l:{escape(form)}"

    def waiters(self, key: CacheKey, form: str) -> str:
        """Name of the set of inboxes of who waits for that lease."""
        return f"{self._entry}{key}}}:w:{escape(form)}"

    def inbox(self, inbox_id: str) -> str:
        """Name of a process's inbox."""
        return f"{self.log}:i:{inbox_id}"

    def pattern(self, layer: Layer) -> str:
        """A glob pattern that the names of a layer's entries match."""
        return f"{self._entry}{layer.value}:*}}"

    def layer_of(self, name: bytes) -> Layer | None:
        """Return the layer of the entry called ``name``; None for anything else."""
        start = self._entry.encode()
        layer = name[len(start) :].partition(b":")[0].decode(errors="replace")
        is_entry = name.startswith(start) and name.endswith(b"}")
        return _LAYERS.get(layer) if is_entry else None

    def cache_key(self, name: bytes) -> CacheKey:
        """Return the key of the entry called ``name``, which matches :meth:`pattern`."""
        return CacheKey(name[len(self._entry) : -1].decode())
