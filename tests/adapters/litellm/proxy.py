"""The real LiteLLM proxy as a process of the test's own.

::

    with start_proxy(config_for(provider), tmp_path) as proxy:
        proxy.openai("sk-a").chat.completions.create(...)

It takes some 6 s to start: tests share one where they can.
"""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import anthropic
import openai

from tests.adapters.litellm.configs import MASTER_KEY
from tests.support.child import ROOT, tied_to_parent, wait_until
from tests.support.valkey import free_ports

__all__ = ["Proxy", "StartProxy", "start_proxy"]

_COMMANDS = {
    "litellm": ["-m", "litellm.proxy.proxy_cli"],
    "routecache": ["-m", "routecache_middleware.cli.main", "litellm"],
}
_GRACE_S = 10.0

Config = Mapping[str, Any]


class StartProxy(Protocol):
    """Start a proxy that ends with the test; options are those of :func:`start_proxy`.

    Without a ``folder`` it gets one of its own.
    """

    def __call__(self, config: Config, **options: Any) -> "Proxy": ...


class Proxy:
    """One proxy; started by :func:`start_proxy`.

    Attributes:
        url: ``http://127.0.0.1:<port>``; the OpenAI API is under ``/v1``.
        pid: Process id of the server, or of its workers' supervisor.
    """

    def __init__(
        self, config: Config, folder: Path, *, env: Mapping[str, str], workers: int, command: str
    ) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._keys_file = folder / "keys.json"
        self._events_file = folder / "events.jsonl"
        self._log_file = folder / "proxy.log"
        self._events_file.touch()
        self.set_keys({})
        file = folder / "config.yaml"
        file.write_text(json.dumps(config, indent=2), encoding="utf-8")  # JSON is YAML
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self._workers = workers
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--num_workers", str(workers)]
        arguments = [*_COMMANDS[command], "--config", str(file), *where]
        if workers > 1 and command == "litellm":
            # A busy machine takes longer to import LiteLLM than uvicorn's 5 s, and it kills then.
            arguments += ["--timeout_worker_healthcheck", "60"]
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                tied_to_parent([sys.executable, *arguments]),
                cwd=folder,
                env=self._environment(env),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that workers can be ended with their supervisor
            )
        self.pid = self._process.pid

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def set_keys(self, keys: Mapping[str, Mapping[str, Any]]) -> None:
        """Say which virtual keys there are from now on, with their fields; see ``custom_auth``."""
        admin = {MASTER_KEY: {"user_role": "proxy_admin"}}
        fresh = self._keys_file.with_suffix(".new")
        fresh.write_text(json.dumps({**admin, **keys}), encoding="utf-8")
        fresh.replace(self._keys_file)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What the plugins wrote: see ``plugins``."""
        # A worker may be writing: what it has written of a line so far is none yet.
        lines = self._events_file.read_bytes().rpartition(b"\n")[0].splitlines()
        found = [json.loads(line) for line in lines]
        return [event for event in found if kind in {None, event["event"]}]

    def logged(self, call_id: str, *, timeout_s: float = 10.0) -> dict[str, Any]:
        """Wait for the standard logging payload of a call, by ``x-litellm-call-id``."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = [event for event in self.events() if event.get("litellm_call_id") == call_id]
            return bool(found)

        wait_until(is_there, f"call {call_id} is logged", timeout_s=timeout_s)
        return found[0]

    def openai(self, key: str = MASTER_KEY, **options: Any) -> openai.OpenAI:
        """A client that retries nothing; close it."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, **options)

    def anthropic(self, key: str = MASTER_KEY) -> anthropic.Anthropic:
        """A client that retries nothing; close it."""
        return anthropic.Anthropic(base_url=self.url, api_key=key, max_retries=0)

    def wait_until_healthy(self, *, timeout_s: float = 90.0) -> None:
        """Wait for all workers.

        Raises:
            ChildProcessError: It ended; the text is what it printed last.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self._is_healthy():
            if not self.is_running or time.monotonic() > deadline_s:
                raise ChildProcessError(f"the proxy did not start:\n{self.log[-4000:]}")
            time.sleep(0.05)

    def wait_until_ended(self, *, timeout_s: float = 90.0) -> int:
        """Wait for the process to end by itself; its exit code."""
        return self._process.wait(timeout_s)

    def stop(self) -> None:
        """End it, with its workers; idempotent."""
        if self.is_running:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(_GRACE_S)

    def _is_healthy(self) -> bool:
        started = self.log.count("Application startup complete")
        if self._workers > 1 and started < self._workers:
            return False
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health/liveliness")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()

    def _environment(self, env: Mapping[str, str]) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if "ROUTECACHE" not in name}
        return {
            **ours,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "PYTHONUNBUFFERED": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            "TEST_KEYS_FILE": str(self._keys_file),
            "TEST_EVENTS_FILE": str(self._events_file),
            **env,
        }


@contextlib.contextmanager
def start_proxy(
    config: Config,
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    workers: int = 1,
    command: str = "litellm",
    is_waited_for: bool = True,
) -> Iterator[Proxy]:
    """Run a proxy until the block ends.

    Args:
        config: What stands in ``config.yaml``; the order of keys is kept.
        folder: For its configuration, keys, events and log; made if need be.
        env: Variables besides those of this process (of which no ``ROUTECACHE_*`` is passed on).
        workers: How many processes serve.
        command: ``litellm``, or ``routecache`` for ``routecache litellm``.
        is_waited_for: Whether to wait until it serves.
    """
    proxy = Proxy(config, folder, env=env or {}, workers=workers, command=command)
    try:
        if is_waited_for:
            proxy.wait_until_healthy()
        yield proxy
    finally:
        proxy.stop()
