"""Two workers share one Valkey: entries, and the provider call of identical questions."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tests.adapters.litellm.configs import CALLBACK, LOGGER, deployment, proxy_config
from tests.adapters.litellm.e2e.asking import APIS, Told, outcome
from tests.adapters.litellm.e2e.conftest import Keys, at_once
from tests.adapters.litellm.provider import Answer, Provider
from tests.adapters.litellm.proxy import Proxy, start_proxy
from tests.support.child import wait_until
from tests.support.valkey import ValkeyServer, start_server

_CHAT = APIS["chat"]
_HERD = 50
_PATIENCE_S = 5.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A server that may be killed."""
    started = start_server(tmp_path_factory.mktemp("valkey"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def workers(
    _provider: Provider, server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    config = proxy_config(
        deployment("chat", _provider),
        callbacks=(CALLBACK, LOGGER),
        # Herd and workers share two processors here, with other tests: a round trip has taken more
        # than 1 s. And for a stream that another worker is making, others wait 1 s unless told
        # otherwise.
        cache={"url": server.url, "coordinator_timeout_s": 3.0, "stream_wait_s": 30},
        router={"disable_cooldowns": True, "num_retries": 0},
    )
    with start_proxy(config, tmp_path_factory.mktemp("workers"), workers=2) as proxy:
        yield proxy


def _pids(proxy: Proxy, told: list[Told]) -> set[int]:
    """Which workers served these calls."""
    return {proxy.logged(one.call_id)["pid"] for one in told}


def test_workers_share_entries(workers: Proxy, provider: Provider) -> None:
    key = Keys(workers).new()
    live = _CHAT.ask(workers, "shared by workers", key=key)
    told = at_once([lambda: _CHAT.ask(workers, "shared by workers", key=key)] * 20)
    assert [outcome(one) for one in told] == ["HIT"] * 20
    assert {str(one.plain) for one in told} == {str(live.plain)}
    assert len(_pids(workers, told)) == 2
    assert provider.count() == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_herd_over_both_workers_makes_one_provider_call(
    workers: Proxy, provider: Provider, *, stream: bool
) -> None:
    key = Keys(workers).new()
    provider.always(Answer(delay_s=2.0))
    question = {
        "model": "chat",
        "messages": [{"role": "user", "content": f"herd {stream}"}],
        "stream": stream,
    }

    def ask() -> httpx.Response:
        return client.post("/v1/chat/completions", json=question)

    headers = {"authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=None)
    with httpx.Client(
        base_url=workers.url, headers=headers, limits=limits, timeout=60
    ) as client:  # one for all: fifty SDK clients would keep this machine busy
        answers = at_once([ask] * _HERD)
    assert {answer.status_code for answer in answers} == {200}
    assert provider.count() == 1, Counter(answer.headers["cache-status"] for answer in answers)
    texts = {_text(answer) for answer in answers}
    assert len(texts) == 1, texts
    told = [Told({}, answer.headers) for answer in answers]
    assert len(_pids(workers, told)) == 2
    assert sum(outcome(one) == "MISS" for one in told) == 1


def _text(answer: httpx.Response) -> str:
    """What the model said, whole or in pieces."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return str(answer.json()["choices"][0]["message"]["content"])
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"] for event in events for choice in json.loads(event)["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_a_coordinator_that_hangs_costs_a_moment(
    workers: Proxy, provider: Provider, server: ValkeyServer
) -> None:
    key = Keys(workers).new()
    live = _CHAT.ask(workers, "before it hangs", key=key)
    server.pause()
    try:
        begun_s = time.monotonic()
        told = [_CHAT.ask(workers, f"while it hangs {number}", key=key) for number in range(4)]
        took_s = time.monotonic() - begun_s
    finally:
        server.resume()
    assert {outcome(one) for one in told} <= {"MISS", "BYPASS"}
    assert took_s < 4 * _PATIENCE_S

    def is_back() -> bool:
        return outcome(_CHAT.ask(workers, "before it hangs", key=key)) == "HIT"

    assert live.plain
    wait_until(is_back, "the coordinator is used again", timeout_s=60)


def test_with_the_coordinator_dead_the_proxy_serves_as_if_we_were_not_there(
    workers: Proxy, provider: Provider, server: ValkeyServer
) -> None:
    key = Keys(workers).new()
    is_over = threading.Event()
    told: list[object] = []

    def load(number: int) -> None:
        count = 0
        while not is_over.is_set():
            count += 1
            begun_s = time.monotonic()
            try:
                _CHAT.ask(workers, f"under load {number} {count % 5}", key=key)
                told.append(time.monotonic() - begun_s)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                told.append(error)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1.5)
        server.kill()
        before = len(told)
        time.sleep(4)
        after = len(told)
        calls = provider.count()
        time.sleep(1)
    finally:
        is_over.set()
        for thread in threads:
            thread.join(60)
        server.restart()
    assert not [one for one in told if isinstance(one, Exception)]
    assert after - before > 10, "it goes on serving"
    assert provider.count() > calls, "from the provider"
    assert max(one for one in told if isinstance(one, float)) < _PATIENCE_S
