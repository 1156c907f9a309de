"""LiteLLM's Router with the cache, in front of a real model on this machine.

    pip install 'routecache-middleware[demo,litellm]'
    python examples/litellm_router.py

One line puts the cache in: ``install()``. The script asks the same question async and not, several
times at once, prints how each answer came, checks that, and ends by itself.
"""

import asyncio
import contextlib
import http.client
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it is fetched from the net

import litellm
import model_server  # type: ignore[import-not-found]  # beside this script

from routecache_middleware.adapters.litellm import install, uninstall

GROUP = "gemma"
AT_ONCE = 5


class CallCounter(ThreadingHTTPServer):
    """Stands between the Router and the model, and counts what comes through."""

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.target = urlsplit(target).netloc
        self.calls = 0

    @property
    def url(self) -> str:
        """Base URL of the OpenAI API."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Forward(BaseHTTPRequestHandler):
    server: CallCounter

    def do_POST(self) -> None:
        self.server.calls += 1
        body = self.rfile.read(int(self.headers["content-length"]))
        upstream = http.client.HTTPConnection(self.server.target, timeout=120)
        with contextlib.closing(upstream):
            headers = {"content-type": "application/json"}
            upstream.request("POST", self.path, body, headers)
            answer = upstream.getresponse()
            data = answer.read()
        self.send_response(answer.status)
        self.send_header("content-type", answer.getheader("content-type") or "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Print nothing per call."""


class Show:
    """Makes calls, prints a line for each, and remembers what has to be true."""

    def __init__(self, counter: CallCounter, router: Any) -> None:
        self._counter = counter
        self._router = router
        self._failed: list[str] = []

    async def ask(self, question: str, label: str) -> None:
        """Ask without holding up the event loop."""
        began_s = time.perf_counter()
        answer = await self._router.acompletion(GROUP, _messages(question), max_tokens=16)
        self._print(label, answer, began_s)

    def ask_now(self, question: str, label: str) -> None:
        """Ask, and wait for the answer."""
        began_s = time.perf_counter()
        answer = self._router.completion(GROUP, _messages(question), max_tokens=16)
        self._print(label, answer, began_s)

    def expect(self, calls: int) -> None:
        """The model has been asked so many times by now."""
        print(f"{'':12}calls of the model so far: {self._counter.calls}\n")
        if self._counter.calls != calls:
            self._failed.append(f"{self._counter.calls} calls of the model instead of {calls}")

    def finish(self) -> int:
        """Return the exit code."""
        for problem in self._failed:
            print(f"this is not as it should be: {problem}", file=sys.stderr)
        return 1 if self._failed else 0

    def _print(self, label: str, answer: Any, began_s: float) -> None:
        took_ms = (time.perf_counter() - began_s) * 1000
        hit = answer._hidden_params.get("cache_hit")  # noqa: SLF001 - LiteLLM says it nowhere else
        came = "from the cache" if hit else "from the model"
        text = str(answer.choices[0].message.content).strip()[:50]
        print(f"{label:12}{came:16}{took_ms:8.1f} ms  {text}")


def _messages(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def _router(url: str) -> Any:
    """Return a Router with two deployments of one group: they share their answers."""
    deployment = {"model": "openai/gemma-3-270m", "api_base": url, "api_key": "none"}
    return litellm.Router(
        model_list=[
            {"model_name": GROUP, "litellm_params": deployment, "model_info": {"id": name}}
            for name in ("first", "second")
        ]
    )


@contextlib.contextmanager
def _counting(target: str) -> Iterator[CallCounter]:
    with CallCounter(target) as counter:
        threading.Thread(target=counter.serve_forever, daemon=True).start()
        yield counter
        counter.shutdown()


async def _show_async(show: Show) -> None:
    await show.ask("What is the capital of France?", "async")
    await asyncio.sleep(0.5)  # LiteLLM stores an answer after it has handed it over
    await show.ask("What is the capital of France?", "async")
    show.expect(1)
    questions = [show.ask("Why is the sky blue?", f"async {n + 1}") for n in range(AT_ONCE)]
    await asyncio.gather(*questions)
    await asyncio.sleep(0.5)
    show.expect(2)


def _show_threads(show: Show) -> None:
    show.ask_now("What is the capital of France?", "not async")
    show.expect(2)
    show.ask_now("What is the capital of Spain?", "not async")
    show.ask_now("What is the capital of Spain?", "not async")
    show.expect(3)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        labels = [f"thread {n + 1}" for n in range(AT_ONCE)]
        list(pool.map(lambda label: show.ask_now("Why is grass green?", label), labels))
    show.expect(4)


def main() -> int:
    """Show it; return the exit code."""
    server = model_server.start(model_server.model_file())
    model_server.wait_until_loaded(server.listening_address)
    with _counting(server.listening_address) as counter:
        router = _router(counter.url)
        cache = install(router, flight_timeout_s=120)  # the one line
        show = Show(counter, router)
        asyncio.run(_show_async(show))
        _show_threads(show)
        found = cache.stats().result
        print(f"hits {found.hits}, shared calls {found.coalesced}, misses {found.misses}")
        uninstall()
    return show.finish()


if __name__ == "__main__":
    sys.exit(main())
