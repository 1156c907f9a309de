#!/bin/sh
# A tour of the cache with a real language model, on a machine with Python 3.11+ and pip alone.
#
#   sh examples/quickstart.sh
#
# It installs into .venv-quickstart in the repository, and nowhere else; a second run starts at once.
# PYTHON=/path/to/python chooses the interpreter. Ctrl-C ends everything that was started.
set -eu

ROOT=$(CDPATH='' cd -P -- "$(dirname -- "$0")/.." && pwd)
NAME=quickstart
. "$ROOT/examples/install.sh"

prepare demo 'the package, a model server and a model of 250 MB'
# exec: from here on signals are quickstart.py's, which ends what it started.
exec "$VENV/bin/python" examples/quickstart.py "$@"
