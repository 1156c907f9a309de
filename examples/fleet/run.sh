#!/bin/sh
# A tour of a fleet: three gateways that share one cache in a Valkey cluster, in front of a real
# language model, on a machine with Python 3.11+ and pip alone.
#
#   sh examples/fleet/run.sh
#
# It starts a model server, six Valkey nodes (three masters, a replica of each) and three gateways,
# kills one of the masters under traffic, and exits with 0 only if all of it went as promised.
# It installs into .venv-quickstart in the repository, and nowhere else; a second run starts at once.
# PYTHON=/path/to/python chooses the interpreter. Ctrl-C ends everything that was started.
set -eu

ROOT=$(CDPATH='' cd -P -- "$(dirname -- "$0")/../.." && pwd)
NAME=fleet
. "$ROOT/examples/install.sh"

prepare fleet 'the package, Valkey, a model server and a model of 250 MB'
# exec: from here on signals are examples.fleet's, which ends what it started.
exec "$VENV/bin/python" -m examples.fleet "$@"
