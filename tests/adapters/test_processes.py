"""Real processes behind real sockets share their upstream calls (issue 3)."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from routecache_middleware.adapters.asgi.types import Message
from tests.support.apps import json_answer, sse_answer
from tests.support.asgi import PATH
from tests.support.chat import ask, chunks, completion
from tests.support.child import ModuleChild
from tests.support.upstream import Upstream

PIECES = chunks()
PROCESSES = 3


@pytest.fixture(params=["lmdb", "valkey"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A coordinator that processes can share, empty."""
    if request.param == "lmdb":
        return f"lmdb://{tmp_path}/cache"
    found: str = request.getfixturevalue("valkey_url")
    return found


class Fleet:
    """Three gateways with one model behind them."""

    def __init__(self, url: str, upstream: Upstream, stack: ExitStack, **settings: object) -> None:
        self.upstream = upstream
        arguments = (url, str(upstream.port), json.dumps(settings))
        self.gateways = []
        self._asked: list[asyncio.Task[httpx.Response]] = []
        for _ in range(PROCESSES):
            gateway = ModuleChild("tests.support.gateway_process", *arguments)
            stack.callback(gateway.close)
            self.gateways.append(gateway)
        self.client = httpx.AsyncClient(
            headers={"authorization": "Bearer key-1"},
            limits=httpx.Limits(max_connections=None),
            timeout=60,
        )

    def post(self, at: int, body: bytes) -> "asyncio.Task[httpx.Response]":
        address = f"http://127.0.0.1:{self.gateways[at].port}{PATH}"
        headers = {"content-type": "application/json"}
        task = asyncio.ensure_future(self.client.post(address, content=body, headers=headers))
        self._asked.append(task)
        return task

    async def aclose(self) -> None:
        """Hang up."""
        for task in self._asked:
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)
        await self.client.aclose()

    def herd(self, body: bytes, each: int = 50) -> "list[asyncio.Task[httpx.Response]]":
        """Everybody asks the same at once."""
        return [self.post(at % PROCESSES, body) for at in range(each * PROCESSES)]

    def at(self, pid: int) -> int:
        """Which gateway has a process id."""
        return [gateway.pid for gateway in self.gateways].index(pid)


@pytest.fixture
def children() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
async def fleet(url: str, upstream: Upstream, children: ExitStack) -> AsyncIterator[Fleet]:
    # How long the coordinator may take is not the point here, and the machine may be busy.
    terms = {"lease_ttl_s": 1.5, "coordinator_timeout_s": 5.0}
    fleet = await asyncio.to_thread(lambda: Fleet(url, upstream, children, **terms))
    yield fleet
    await fleet.aclose()


def outcomes(answers: Sequence[httpx.Response]) -> Counter[str]:
    return Counter(answer.headers["x-routecache"] for answer in answers)


async def test_fifty_identical_json_requests_each_make_one_call_in_all(fleet: Fleet) -> None:
    """Issue 3: 1 upstream call in all, also while three cold processes start together."""
    herd = fleet.herd(ask())
    await fleet.upstream.called(1)
    await asyncio.sleep(2)  # longer than a lease lasts
    assert len(fleet.upstream.calls) == 1
    fleet.upstream.calls[0].answer(json_answer())
    answers = await asyncio.gather(*herd)
    assert len(fleet.upstream.calls) == 1
    assert {answer.content for answer in answers} == {completion()}
    found = outcomes(answers)
    assert found["MISS"] == 1
    assert found["COALESCED"] + found["HIT"] == 149
    again = await asyncio.gather(*(fleet.post(at, ask()) for at in range(PROCESSES)))
    assert outcomes(again) == {"HIT": PROCESSES}


async def test_streams_make_at_most_one_call_per_process(fleet: Fleet) -> None:
    fleet.upstream.automatic = None
    herd = fleet.herd(ask(stream=True))
    await fleet.upstream.called(PROCESSES)  # each goes alone after a second
    for call in fleet.upstream.calls:
        call.answer(sse_answer(PIECES))
    answers = await asyncio.gather(*herd)
    assert len(fleet.upstream.calls) == len({call.pid for call in fleet.upstream.calls}) == 3
    assert {answer.content for answer in answers} == {b"".join(PIECES)}


async def test_the_leader_is_killed_and_one_other_takes_over(fleet: Fleet) -> None:
    """Issue 3: at most 2 upstream calls, and 0 failed requests at the others."""
    herd = fleet.herd(ask(), 20)
    await fleet.upstream.called(1)
    await asyncio.sleep(0.3)
    killed = fleet.at(fleet.upstream.calls[0].pid)
    os.kill(fleet.upstream.calls[0].pid, signal.SIGKILL)
    await fleet.upstream.called(2)
    await asyncio.sleep(0.3)
    fleet.upstream.calls[1].answer(json_answer())
    answers = await asyncio.gather(*herd, return_exceptions=True)
    assert len(fleet.upstream.calls) == 2
    for at, answer in enumerate(answers):
        if at % PROCESSES == killed:
            assert isinstance(answer, httpx.HTTPError)
        else:
            assert isinstance(answer, httpx.Response)
            assert answer.content == completion()


UNSHAREABLE: list[list[Message]] = [
    json_answer(headers=[(b"content-type", b"text/html")]),
    json_answer(completion(finish="content_filter")),
]


@pytest.mark.parametrize("answer", UNSHAREABLE, ids=["cannot be shared", "cannot be stored"])
async def test_nobody_waits_for_answers_that_cannot_be_stored(
    fleet: Fleet, answer: list[Message]
) -> None:
    herd = fleet.herd(ask(), 5)
    await fleet.upstream.called(1)
    await asyncio.sleep(0.3)
    assert len(fleet.upstream.calls) == 1
    fleet.upstream.calls[0].answer(answer)
    await fleet.upstream.called(PROCESSES)
    fleet.upstream.automatic = answer
    for call in fleet.upstream.calls:
        call.answer(answer)
    answers = await asyncio.gather(*herd)
    assert {answer.status_code for answer in answers} == {200}
    assert len({call.pid for call in fleet.upstream.calls}) == PROCESSES


async def test_after_the_leaders_error_one_other_is_asked(fleet: Fleet) -> None:
    herd = fleet.herd(ask(), 5)
    await fleet.upstream.called(1)
    await asyncio.sleep(0.3)
    fleet.upstream.calls[0].answer(json_answer(b"{}", status=500))
    await fleet.upstream.called(2)
    await asyncio.sleep(0.5)
    assert len(fleet.upstream.calls) == 2
    fleet.upstream.calls[1].answer(json_answer())
    answers = await asyncio.gather(*herd)
    assert Counter(answer.status_code for answer in answers) == {200: 14, 500: 1}
