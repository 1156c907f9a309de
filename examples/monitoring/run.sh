#!/bin/sh
# A real Prometheus that watches a real gateway, with no containers.
#
#   sh examples/monitoring/run.sh           start everything, and stay until Ctrl-C
#   sh examples/monitoring/run.sh --check   start everything, see that it works, and end
#
# Needs Python 3.11+ with pip, and Prometheus: `apt install prometheus`, or a release of
# https://prometheus.io/download/ in the PATH. It installs into .venv-quickstart in the repository,
# and nowhere else. PYTHON=/path/to/python chooses the interpreter.
set -eu

ROOT=$(CDPATH='' cd -P -- "$(dirname -- "$0")/../.." && pwd)
NAME=monitoring
. "$ROOT/examples/install.sh"

command -v prometheus >/dev/null 2>&1 ||
  fail 'there is no prometheus in the PATH; apt install prometheus, or see https://prometheus.io/download/'
prepare monitoring-demo 'the package, a model server and a model of 250 MB'
# exec: from here on signals are examples.monitoring's, which ends what it started.
exec "$VENV/bin/python" -m examples.monitoring "$@"
