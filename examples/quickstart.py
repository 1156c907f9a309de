"""A tour of the cache with a real model: starts a model server and a gateway, and calls it.

``sh examples/quickstart.sh`` installs what this needs and runs it. With ``OPENAI_BASE_URL`` and
``OPENAI_API_KEY`` set, that API answers instead of a local model; ``SMALL_MODEL`` and
``LARGE_MODEL`` are then its names for the two.
"""

import importlib
import signal
import sys
from pathlib import Path
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(tour: str = "examples.quickstart_start") -> int:
    """Take a tour; a signal ends it, and everything it started, in good order.

    Args:
        tour: The module whose ``run(is_terminal=)`` takes it and returns the exit status.
    """
    # Also SIGINT, which a shell lets its background jobs ignore.
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    # Only now: these imports take a second, in which Ctrl-C has to work as well.
    status: int = importlib.import_module(tour).run(is_terminal=sys.stdout.isatty())
    return status


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
