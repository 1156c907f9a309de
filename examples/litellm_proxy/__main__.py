"""A tour of LiteLLM's proxy with a real model; ``sh examples/litellm_proxy/run.sh`` runs it."""

import sys

from examples.quickstart import main

if __name__ == "__main__":
    sys.exit(main("examples.litellm_proxy.start"))
