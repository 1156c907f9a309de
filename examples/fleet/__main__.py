"""A tour of a fleet with a real model and a real cluster; ``sh examples/fleet/run.sh`` runs it."""

import sys

from examples.quickstart import main

if __name__ == "__main__":
    sys.exit(main("examples.fleet.start"))
