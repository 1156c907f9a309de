# Sourced by the examples' scripts: installs what they need into .venv-quickstart in the repository,
# and nowhere else. The script has set ROOT and NAME; `prepare EXTRA WHAT` leaves it in ROOT with
# VENV set. PYTHON=/path/to/python chooses the interpreter.
VENV=$ROOT/.venv-quickstart
LOG=$VENV/install.log
child=

step() { printf '%s\n' "$*"; }
fail() { printf '%s: %s\n' "$NAME" "$*" >&2; exit 1; }

# Installers have children of their own; all of them are in the process group that in_group made.
stop() {
  trap '' INT TERM HUP
  if [ -n "$child" ]; then
    kill -s TERM -- "-$child" 2>/dev/null || kill -s TERM "$child" 2>/dev/null || :
    wait "$child" 2>/dev/null || :
  fi
  printf '\n%s: stopped\n' "$NAME" >&2
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

# Arguments: the extra, and what the reader is told is being installed.
install_package() {
  stamp=$VENV/.installed-$1
  wanted=$(cksum <"$ROOT/pyproject.toml")
  if [ -f "$stamp" ] && [ "$(cat -- "$stamp")" = "$wanted" ]; then
    return
  fi
  printf 'Installing %s (the first time only) ' "$2"
  : >"$LOG"
  cd -- "$ROOT"
  if ! in_group "$VENV/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
    --editable ".[$1]"; then
    tail -n 20 -- "$LOG" >&2
    fail "the installation failed; the whole log is in $LOG"
  fi
  printf '%s\n' "$wanted" >"$stamp"
}

prepare() {
  find_python
  make_venv
  install_package "$@"
  cd -- "$ROOT"
}
