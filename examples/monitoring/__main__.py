"""``python -m examples.monitoring [--check]``: a gateway, and a Prometheus that watches it."""

import sys

from examples.quickstart import main

if __name__ == "__main__":
    sys.exit(main("examples.monitoring.start"))
