"""What the world really looks like, in memory that all processes share: a version per model.

Whoever invalidates raises the version first, so that every answer made from then on has the new
one, and notes the time when the invalidation was acknowledged. An answer is stale when its version
had been replaced, and the replacement acknowledged, before it was asked for.
"""

import mmap
import tempfile
import time
from pathlib import Path
from typing import Self

__all__ = ["MODELS", "Truth"]

MODELS = 8
_VERSIONS = 20_000
_ROW = 1 + _VERSIONS  # the present version, then the time at which each was acknowledged
_SIZE = MODELS * _ROW * 8


class Truth:
    """Versions and their acknowledgements. CLOCK_MONOTONIC is one clock for all processes."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)
        self._path = path
        self._cells = memoryview(self._map).cast("d")

    @classmethod
    def create(cls) -> Self:
        """Begin with version 0 of everything."""
        with tempfile.NamedTemporaryFile(prefix="truth-", delete=False) as file:
            file.write(bytes(_SIZE))
        return cls(Path(file.name))

    @classmethod
    def attach(cls, name: str) -> Self:
        """Look at the truth that another process made."""
        return cls(Path(name))

    @property
    def name(self) -> str:
        """For :meth:`attach`."""
        return str(self._path)

    def version(self, model: int) -> int:
        """Return the present version of a model."""
        return int(self._cells[model * _ROW])

    def change(self, model: int) -> int:
        """Replace a model's version, by its one writer; what is made from now on has it."""
        version = self.version(model) + 1
        if version >= _VERSIONS:
            raise ValueError("too many invalidations for one run")
        self._cells[model * _ROW] = float(version)
        return version

    def acknowledged(self, model: int, version: int) -> None:
        """The invalidation that came with ``version`` was recorded."""
        self._cells[model * _ROW + 1 + version] = time.monotonic()

    def stale_for_s(self, model: int, version: int, asked_s: float) -> float:
        """Return how long ``version`` had verifiably been replaced at ``asked_s``; 0 when not."""
        for newer in range(version + 1, self.version(model) + 1):
            acknowledged_s = self._cells[model * _ROW + 1 + newer]
            if acknowledged_s:  # the first one is the earliest
                return max(0.0, asked_s - acknowledged_s)
        return 0.0

    def close(self, *, unlink: bool = False) -> None:
        """Let go of it; its maker also removes it."""
        self._cells.release()
        self._map.close()
        if unlink:
            self._path.unlink()
