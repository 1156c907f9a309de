#!/bin/sh
# Sets up everything it needs and runs every check: lint, types, architecture, tests with coverage.
# Needs only Python 3.11 or newer with pip. Arguments are passed to pytest.
#   PYTHON=python3.12 sh tests/run.sh       another interpreter
#   sh tests/run.sh -k invalidation         some tests only (the coverage gates are skipped)
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"

find_python() {
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "tests/run.sh: no Python 3.11 or newer found; install one, or set PYTHON=/path/to/python3" >&2
    exit 1
}

step() { printf '\n== %s\n' "$*"; }

python=$(find_python)
venv="$root/.venv-tests"
stamp="$venv/.installed"
wanted=$("$python" -c 'import hashlib, sys
print(sys.version, hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest())')
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    step "setting up $venv"
    rm -rf "$venv"
    "$python" -m venv "$venv" 2>/dev/null || "$python" -m virtualenv -q "$venv" || {
        echo "tests/run.sh: cannot make a virtual environment; install python3-venv or virtualenv" >&2
        exit 1
    }
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".[test,zstd]"
    printf '%s' "$wanted" >"$stamp"
fi
PATH="$venv/bin:$PATH"
export PATH

step "ruff"
ruff format --check .
ruff check .
step "import-linter"
lint-imports
step "mypy"
mypy
step "pytest, in two processes"
if [ $# -gt 0 ]; then
    exec python -m pytest "$@"
fi
# In two processes what has little to do with time, and what waits for a browser; then the rest.
python -m pytest tests/admin tests/canary tests/cli tests/core tests/dialects tests/telemetry \
    -m "not slow" -n 2 --dist loadfile --cov --cov-report=
step "pytest, one after the other"
rest=$(find tests -mindepth 1 -maxdepth 1 \( -type d -o -name 'test_*.py' \) | sort |
    grep -Ev '/(admin|canary|cli|core|dialects|telemetry|__pycache__)$')
python -m pytest $rest --ignore=tests/adapters/litellm -m "not slow" --cov --cov-append --cov-report=
step "pytest, inside LiteLLM"
python -m pytest tests/adapters/litellm -m "not slow" -n 2 --dist loadfile --cov --cov-append --cov-report=
step "coverage"
coverage report --fail-under=95
coverage report --fail-under=100 --include='routecache_middleware/core/*,routecache_middleware/dialects/*'
step "all checks passed"
