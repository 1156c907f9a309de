#!/bin/sh
# Traces of the cache in a real tool: a gateway with OpenTelemetry, and Arize Phoenix, which takes
# its spans over OTLP and shows them in the browser. No containers.
#
#   sh examples/tracing/run.sh           start everything, ask a few questions, stay until Ctrl-C
#   sh examples/tracing/run.sh --check   the same, and end: with 0 only if Phoenix knows it all
#
# Needs Python 3.11+ with pip. It installs into .venv-quickstart in the repository, and Phoenix,
# which is large (some 855 MB on disk) and wants versions of its own, into .venv-phoenix beside it;
# nowhere else, and the first time only. Phoenix is not installed when one of these is set:
#
#   PHOENIX=/path/to/phoenix            the command, where it is installed already
#   PHOENIX_URL=http://host:6006        one that is running (with PHOENIX_API_KEY, if it asks for one)
#   OTEL_EXPORTER_OTLP_ENDPOINT=http://host:4318     anything else that takes OTLP over HTTP
#
# PYTHON=/path/to/python chooses the interpreter; OPENAI_BASE_URL and OPENAI_API_KEY another model
# than the local one.
set -eu

ROOT=$(CDPATH='' cd -P -- "$(dirname -- "$0")/../.." && pwd)
NAME=tracing
. "$ROOT/examples/install.sh"

install_phoenix() {
  VENV=$ROOT/.venv-phoenix
  LOG=$VENV/install.log
  PHOENIX=$VENV/bin/phoenix
  wanted='arize-phoenix>=20,<21'
  stamp=$VENV/.installed
  make_venv
  if [ -f "$stamp" ] && [ "$(cat -- "$stamp")" = "$wanted" ]; then return; fi
  printf 'Installing Phoenix, some 855 MB (the first time only) '
  : >"$LOG"
  if ! in_group "$VENV/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
    "$wanted"; then
    tail -n 20 -- "$LOG" >&2
    fail "the installation failed; the whole log is in $LOG"
  fi
  printf '%s\n' "$wanted" >"$stamp"
}

prepare tracing-demo 'the package, OpenTelemetry, a model server and a model of 250 MB'
PYTHON_OF_DEMO=$VENV/bin/python
if [ -z "${PHOENIX:-}${PHOENIX_URL:-}${OTEL_EXPORTER_OTLP_ENDPOINT:-}" ]; then install_phoenix; fi
export PHOENIX="${PHOENIX:-}"
# exec: from here on signals are examples.tracing's, which ends what it started.
exec "$PYTHON_OF_DEMO" -m examples.tracing "$@"
