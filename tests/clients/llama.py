"""A real language model in a process of its own: ``python -m tests.clients.llama``.

llama.cpp's server with the smallest model there is, for every endpoint that it has. It prints its
port once the model is loaded, and ends when its standard input is closed.
"""

import sys
from urllib.parse import urlsplit

import xllamacpp

from examples.model_server import model_file, wait_until_loaded

__all__ = ["MODEL"]

MODEL = "tiny"


def start() -> xllamacpp.Server:
    """Start the server.

    One thread: two that wait for each other take three times as long when somebody else is busy on
    the machine's second core.
    """
    params = xllamacpp.CommonParams()
    params.model.path = str(model_file())
    params.model_alias = {MODEL}
    params.port = 0
    params.n_ctx = 512
    params.n_parallel = 2
    params.n_batch = params.n_ubatch = 64
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_ram_mib = 0
    params.warmup = False
    params.verbosity = 1  # errors only
    params.embedding = True  # besides everything else, not instead of it
    params.pooling_type = 1  # mean
    params.use_jinja = True
    params.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    return xllamacpp.Server(params)


if __name__ == "__main__":
    server = start()
    wait_until_loaded(server.listening_address)
    sys.stdout.write(f"{urlsplit(server.listening_address).port}\n")
    sys.stdout.flush()
    sys.stdin.read()
