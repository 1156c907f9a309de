"""``python -m tests.bench.litellm``: hits of LiteLLM's proxy, with its own cache and with ours.

Real proxies of one worker each, same machine, same run: no cache, LiteLLM's own local cache, our
callback, and our fast lane under either command. Each logs as its command does by itself: a line
per request under ``litellm``, none under ``routecache litellm``. Each round measures all of them,
one after the other; ratios are taken within a round, and the median over the rounds is reported.
``--api`` asks by another API than chat; without a cache that is not measured, since what answers
there is made for tests.
"""

import argparse
import contextlib
import http.client
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.adapters.litellm.configs import CALLBACK, MASTER_KEY
from tests.adapters.litellm.proxy import Proxy, start_proxy
from tests.bench.litellm_apis import APIS, Api
from tests.bench.load import CONNECTIONS, Load, Sample, generator, run_load
from tests.bench.servers import LOAD_CPU, SERVER_CPU, Server, pinned
from tests.bench.table import aligned
from tests.bench.targets import MODEL

_OWN_CACHE = "LiteLLM's own local cache"
_NO_CACHE = "no cache"
_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """One proxy.

    Attributes:
        name: What the table calls it.
        settings: Its ``litellm_settings``.
        cache: ``callback_settings.routecache``; None: no callback.
        outcome: The ``X-RouteCache`` that a repeated request gets.
        is_stamped: Whether LiteLLM's own stack makes the response.
        command: What starts it: see ``start_proxy``.
    """

    name: str
    settings: Mapping[str, Any]
    cache: Mapping[str, Any] | None = None
    outcome: str = ""
    is_stamped: bool = True
    command: str = "litellm"


_OWN = {"cache": True, "cache_params": {"type": "local"}}
TARGETS = (
    Target(name=_NO_CACHE, settings={}),
    Target(name=_OWN_CACHE, settings=_OWN),
    Target(name="callback", settings={"callbacks": [CALLBACK]}, cache={}, outcome="HIT"),
    Target(
        name="fast lane",
        settings={"callbacks": [CALLBACK]},
        cache={"fast_lane": True},
        outcome="HIT",
        is_stamped=False,
    ),
    Target(
        name="fast lane, routecache litellm",
        settings={"callbacks": [CALLBACK]},
        cache={"fast_lane": True},
        outcome="HIT",
        is_stamped=False,
        command="routecache",
    ),
)


@dataclass(frozen=True)
class Measured:
    """One target in one round: under load, one request at a time, and processor time."""

    loaded: Sample
    alone: Sample
    cpu_us: float


def _config(target: Target, params: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_list": [{"model_name": MODEL, "litellm_params": dict(params)}],
        "litellm_settings": dict(target.settings),
        "general_settings": {"master_key": MASTER_KEY},
    }
    if target.cache is not None:
        config["callback_settings"] = {"routecache": dict(target.cache)}
    return config


def _targets(api: Api) -> list[Target]:
    return [target for target in TARGETS if api.is_bare or target.name != _NO_CACHE]


@contextlib.contextmanager
def _proxies(api: Api, folder: Path) -> Iterator[dict[str, Proxy]]:
    """All of them, pinned like the servers of the other benchmark; the model has the other CPU."""
    with contextlib.ExitStack() as stack:
        params = stack.enter_context(api.answering())
        started = {}
        for number, target in enumerate(_targets(api)):
            with pinned(SERVER_CPU):
                starting = start_proxy(
                    _config(target, params),
                    folder / str(number),
                    command=target.command,
                    is_waited_for=False,
                )
                started[target.name] = stack.enter_context(starting)
        for proxy in started.values():
            proxy.wait_until_healthy(timeout_s=180)
        yield started


def _check(target: Target, proxy: Proxy, api: Api) -> None:
    """Make sure that the target is what its name says."""
    for _ in range(3):  # a miss, a hit of LiteLLM's stack, and a hit that has a lease
        headers = _post(proxy, api)
    got = headers.get("x-routecache", ""), "x-litellm-call-id" in headers
    if got != (target.outcome, target.is_stamped):
        raise SystemExit(f"{target.name}: outcome, and whether LiteLLM made it: {got}")


def _post(proxy: Proxy, api: Api) -> dict[str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=_TIMEOUT_S)
    headers = {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"}
    try:
        connection.request("POST", api.path, api.body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != http.client.OK:
            raise SystemExit(f"status {answer.status}: {text[:500]!r}")
        return {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def _load(proxy: Proxy, api: Api, seconds: float, connections: int) -> Sample:
    load = Load(
        url=proxy.url + api.path,
        authorization=f"Bearer {MASTER_KEY}",
        body=api.body,
        is_unique=False,
        seconds=seconds,
        connections=connections,
    )
    with pinned(LOAD_CPU):
        sample = run_load(load)
    if sample.errors:
        raise SystemExit(f"{sample.errors} requests failed")
    return sample


def _measure(proxy: Proxy, api: Api, seconds: float) -> Measured:
    server = Server(proxy.port, proxy.pid)
    before_s = server.cpu_s()
    loaded = _load(proxy, api, seconds, CONNECTIONS)
    used_s = server.cpu_s() - before_s
    alone = _load(proxy, api, max(1.0, seconds / 2), 1)
    return Measured(loaded, alone, used_s / max(loaded.requests, 1) * 1e6)


def run_rounds(api: Api, rounds: int, seconds: float) -> dict[str, list[Measured]]:
    """Measure every target once per round."""
    targets = _targets(api)
    measured: dict[str, list[Measured]] = {target.name: [] for target in targets}
    with tempfile.TemporaryDirectory() as folder, _proxies(api, Path(folder)) as proxies:
        for target in targets:
            _check(target, proxies[target.name], api)
            _load(proxies[target.name], api, 2, CONNECTIONS)  # warm up
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for target in targets:
                measured[target.name].append(_measure(proxies[target.name], api, seconds))
    return measured


_HEAD = ("hits of one worker", "req/s", "x own cache", "p50 ms", "p99 ms", "alone ms", "CPU us")


def render(measured: Mapping[str, Sequence[Measured]]) -> str:
    """The table: medians, and the ratio to LiteLLM's own cache in the same round."""
    own = measured[_OWN_CACHE]
    lines = [_HEAD]
    for name, rounds in measured.items():
        ratio = median(
            one.loaded.requests_per_s / base.loaded.requests_per_s
            for one, base in zip(rounds, own, strict=True)
        )
        lines.append(
            (
                name,
                f"{median(one.loaded.requests_per_s for one in rounds):,.0f}",
                f"{ratio:.1f}",
                f"{median(one.loaded.p50_ms for one in rounds):.1f}",
                f"{median(one.loaded.p99_ms for one in rounds):.1f}",
                f"{median(one.alone.p50_ms for one in rounds):.2f}",
                f"{median(one.cpu_us for one in rounds):,.0f}",
            )
        )
    return aligned(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.litellm", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 2 s instead of 5 of 4 s")
    parser.add_argument("--api", choices=APIS, default="chat", help="what is asked (chat)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    given = parser.parse_args(arguments)
    rounds, seconds = (2, 2.0) if given.quick else (5, 4.0)
    measured = run_rounds(APIS[given.api], rounds, seconds)
    print(
        f"\n{given.api}: {rounds} rounds of {seconds:.0f} s, {CONNECTIONS} connections, load from "
        f"{generator()}, medians; alone: median of one request at a time\n"
    )
    print(render(measured))
    if given.json:
        figures = {name: [asdict(one) for one in rounds] for name, rounds in measured.items()}
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
