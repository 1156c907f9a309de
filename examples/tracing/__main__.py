"""``python -m examples.tracing [--check]``: a traced gateway, and Phoenix to look at the traces."""

import sys

from examples.quickstart import main

if __name__ == "__main__":
    sys.exit(main("examples.tracing.start"))
