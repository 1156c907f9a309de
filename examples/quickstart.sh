#!/bin/sh
# A tour of the cache with a real language model, on a machine with Python 3.11+ and pip alone.
#
#   sh examples/quickstart.sh
#
# It installs into .venv-quickstart in the repository, and nowhere else; a second run starts at once.
# PYTHON=/path/to/python chooses the interpreter. Ctrl-C ends everything that was started.
set -eu

ROOT=$(CDPATH='' cd -P -- "$(dirname -- "$0")/.." && pwd)
VENV=$ROOT/.venv-quickstart
STAMP=$VENV/.installed
LOG=$VENV/install.log
child=

step() { printf '%s\n' "$*"; }
fail() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

# Installers have children of their own; all of them are in the process group that in_group made.
stop() {
  trap '' INT TERM HUP
  if [ -n "$child" ]; then
    kill -s TERM -- "-$child" 2>/dev/null || kill -s TERM "$child" 2>/dev/null || :
    wait "$child" 2>/dev/null || :
  fi
  printf '\nquickstart: stopped\n' >&2
  exit "$1"
}
trap 'stop 130' INT
trap 'stop 143' TERM
trap 'stop 129' HUP

is_suitable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    is_suitable "$PYTHON" || fail "PYTHON=$PYTHON is not a Python of version 3.11 or later"
    return
  fi
  for PYTHON in python3 python3.13 python3.12 python3.11 python3.14 python; do
    if is_suitable "$PYTHON"; then return; fi
  done
  fail "no Python 3.11 or later was found; install one, or name it: PYTHON=/path/to/python $0"
}

# Runs a command in its own process group, its output in $LOG, printing a dot every second.
in_group() {
  "$PYTHON" -c 'import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])' "$@" \
    </dev/null >>"$LOG" 2>&1 &
  child=$!
  while kill -0 "$child" 2>/dev/null; do
    printf '.'
    sleep 1
  done
  status=0
  wait "$child" || status=$?
  child=
  printf '\n'
  return "$status"
}

make_venv() {
  # A virtual environment that was moved, or whose making was interrupted, has no working pip.
  if "$VENV/bin/python" -m pip --version >/dev/null 2>&1 && is_suitable "$VENV/bin/python"; then
    return
  fi
  rm -rf -- "$VENV"
  mkdir -- "$VENV"
  printf '*\n' >"$VENV/.gitignore"
  printf 'Making a virtual environment '
  in_group "$PYTHON" -m venv "$VENV" && return
  step 'The venv module does not work here; trying virtualenv.'
  printf 'Making a virtual environment '
  in_group "$PYTHON" -m virtualenv "$VENV" && return
  rm -rf -- "$VENV"
  fail "$PYTHON can make no virtual environment: its venv module or ensurepip is missing.
  Debian, Ubuntu: apt install python3-venv    (or python3.X-venv, for your version X)
  elsewhere:      $PYTHON -m pip install --user virtualenv"
}

install_package() {
  wanted=$(cksum <"$ROOT/pyproject.toml")
  if [ -f "$STAMP" ] && [ "$(cat -- "$STAMP")" = "$wanted" ]; then
    return
  fi
  printf 'Installing the package, a model server and a model of 250 MB (the first time only) '
  : >"$LOG"
  cd -- "$ROOT"
  if ! in_group "$VENV/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
    --editable '.[demo]'; then
    tail -n 20 -- "$LOG" >&2
    fail "the installation failed; the whole log is in $LOG"
  fi
  printf '%s\n' "$wanted" >"$STAMP"
}

find_python
make_venv
install_package
cd -- "$ROOT"
# exec: from here on signals are quickstart.py's, which ends what it started.
exec "$VENV/bin/python" examples/quickstart.py "$@"
