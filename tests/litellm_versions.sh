#!/bin/sh
# Runs the tests of the LiteLLM adapter against the oldest and the newest LiteLLM that pyproject.toml
# allows, each in a virtual environment of its own. Arguments are passed to pytest.
#   PYTHON=python3.12 sh tests/litellm_versions.sh    another interpreter
#   NEWEST=1.109.1 sh tests/litellm_versions.sh       another version than the newest on the index
#   sh tests/litellm_versions.sh -k sharing           some tests only
# A version whose own requirements the index cannot fulfil is put, alone, over those of the oldest.
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
    echo "tests/litellm_versions.sh: no Python 3.11 or newer found; set PYTHON=/path/to/python3" >&2
    exit 1
}

step() { printf '\n== %s\n' "$*"; }
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
installed() {
    "$venv/bin/python" -c 'from importlib.metadata import version; print(version("litellm"))'
}

make_venv() {
    rm -rf "$venv"
    "$python" -m venv "$venv" 2>/dev/null || "$python" -m virtualenv -q "$venv" || {
        echo "tests/litellm_versions.sh: cannot make a virtual environment" >&2
        exit 1
    }
    printf '*\n' >"$venv/.gitignore"
}

# Arguments: what the environment is called, and what is asked of pip for LiteLLM.
prepare() {
    venv="$root/.venv-litellm-$1"
    stamp="$venv/.installed"
    wanted="$2 $(cksum <pyproject.toml) $("$python" -V)"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return
    fi
    step "setting up $venv"
    make_venv
    log="$venv/install.log"
    if ! install -e ".[test,zstd]" "litellm[proxy,semantic-router]$2" >"$log" 2>&1; then
        echo "The requirements of LiteLLM $2 cannot be fulfilled here; it is put over those of $oldest."
        install -e ".[test,zstd]" "litellm[proxy,semantic-router]==$oldest"
        install --no-deps --force-reinstall "litellm$2"
    fi
    printf '%s' "$wanted" >"$stamp"
}

# The newest that the index has in the allowed range: pip is asked for it alone, then forgets it.
find_newest() {
    venv="$root/.venv-litellm-newest"
    [ -x "$venv/bin/python" ] || make_venv
    install --quiet --no-deps --upgrade --dry-run --ignore-installed --report - "$range" |
        "$python" -c 'import json, sys
print(json.load(sys.stdin)["install"][0]["metadata"]["version"])'
}

run_tests() {
    step "LiteLLM $(installed)"
    PATH="$venv/bin:$PATH" python -m pytest tests/adapters/litellm "$@" || failed="$failed $(installed)"
}

python=$(find_python)
range=$("$python" -c 'import tomllib
print(tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["litellm"][0])')
oldest=$(printf '%s\n' "$range" | sed 's/.*>=\([0-9.]*\).*/\1/')
newest=${NEWEST:-$(find_newest)}
failed=

prepare oldest "==$oldest"
run_tests "$@"
prepare newest "==$newest"
run_tests "$@"

if [ -n "$failed" ]; then
    step "failed with LiteLLM$failed"
    exit 1
fi
step "passed with LiteLLM $oldest and $newest"
