#!/bin/sh
# A tour of the cache inside LiteLLM's proxy, in front of a real language model, on a machine with
# Python 3.11+ and pip alone.
#
#   sh examples/litellm_proxy/run.sh
#
# It starts a model server and the real proxy with config.yaml, asks it the same things twice, and
# exits with 0 only if everything came as it should.
# It installs into .venv-quickstart in the repository, and nowhere else; a second run starts at once.
# PYTHON=/path/to/python chooses the interpreter; MODEL_URL=http://host/v1 names another server to
# ask than the local model. Ctrl-C ends everything that was started.
set -eu

ROOT=$(CDPATH='' cd -P -- "$(dirname -- "$0")/../.." && pwd)
NAME=litellm_proxy
. "$ROOT/examples/install.sh"

prepare litellm-demo 'the package, LiteLLM, a model server and a model of 250 MB'
# exec: from here on signals are the tour's, which ends what it started.
exec "$VENV/bin/python" -m examples.litellm_proxy "$@"
