"""``routecache``: where the command line begins.

The commands stand in a table and are loaded when they are asked for, so that ``routecache --help``
neither takes a second nor needs what only one of them needs.
"""

import sys
from importlib.util import find_spec

__all__ = ["main"]

_UNUSABLE = 1


def main() -> None:
    """Run the command that the process's arguments name, and end the process.

    Exit codes: 0 done, 1 it cannot be done (a package is missing, say), 2 wrong arguments.
    """
    if find_spec("click") is None:
        sys.stderr.write(
            "routecache: the command line needs click; pip install 'routecache-middleware[cli]'\n"
        )
        sys.exit(_UNUSABLE)
    from routecache_middleware.cli.commands import routecache  # noqa: PLC0415 - only now

    routecache(prog_name="routecache")


if __name__ == "__main__":
    main()
