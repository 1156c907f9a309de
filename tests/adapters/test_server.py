"""End to end: a real server, and the client library that people use."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Literal, Self

import pytest
import uvicorn
from httpx import RemoteProtocolError
from openai import APIConnectionError, AsyncOpenAI, AsyncStream, BadRequestError, OpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionUserMessageParam
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from routecache_middleware import RouteCacheMiddleware, Settings
from tests.support.chat import chunks, completion

QUESTION: ChatCompletionUserMessageParam = {"role": "user", "content": "hello"}


class Model:
    """A model behind the gateway; counts what reaches it."""

    def __init__(self) -> None:
        self.calls = 0
        self.finished = 0
        self.gate, self.rest = threading.Event(), threading.Event()
        self.gate.set()
        self.rest.set()

    async def chat(self, request: Request) -> Response:
        self.calls += 1
        body = await request.json()
        await asyncio.to_thread(self.gate.wait)
        if body["messages"][0]["content"] == "fail":
            return JSONResponse({"error": {"message": "no", "type": "x"}}, status_code=400)
        if body.get("stream"):
            question = body["messages"][0]["content"]
            return StreamingResponse(self._stream(question), media_type="text/event-stream")
        return Response(completion(), media_type="application/json")

    async def _stream(self, question: str) -> AsyncIterator[bytes]:
        first, *rest = chunks()
        yield first
        if question != "stream":
            await asyncio.to_thread(self.rest.wait, 10)
        if question == "break":
            raise ConnectionError("the upstream broke off")
        for piece in rest:
            yield piece
        self.finished += 1


class Served:
    """A gateway on a free port, in a thread of its own."""

    def __init__(self, http: str, loop: str, lifespan: Literal["on", "off"]) -> None:
        self.model = Model()
        starlette = Starlette(
            routes=[Route("/v1/chat/completions", self.model.chat, methods=["POST"])]
        )
        self.app = RouteCacheMiddleware(starlette, settings=Settings())
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()  # who connects before the server is up waits instead of failing
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        config = uvicorn.Config(
            self.app,
            http=http,
            loop=loop,
            lifespan=lifespan,
            log_level="critical",
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._listener.close()
        assert not self._thread.is_alive()


@pytest.fixture(
    params=[("h11", "asyncio", "on"), ("httptools", "uvloop", "off")], ids=["h11", "httptools"]
)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with Served(*request.param) as running:
        yield running


def streamed(client: OpenAI) -> str:
    with client.chat.completions.create(model="m", messages=[QUESTION], stream=True) as events:
        return "".join(event.choices[0].delta.content or "" for event in events)


def test_the_sync_client_gets_misses_hits_and_streams(served: Served) -> None:
    """JSON and stream from one entry, read by the real SDK."""
    with OpenAI(api_key="k", base_url=served.url, max_retries=0) as client:
        for outcome in ("MISS", "HIT"):
            raw = client.chat.completions.with_raw_response.create(model="m", messages=[QUESTION])
            assert raw.headers["x-routecache"] == outcome
            assert raw.parse().choices[0].message.content == "hi there"
        assert streamed(client) == streamed(client) == "hi there"
    assert served.model.calls == 1


def test_a_stream_is_replayed_as_it_came(served: Served) -> None:
    """Bytes on the wire, chunked transfer included."""
    with OpenAI(api_key="k", base_url=served.url, max_retries=0) as client:
        bodies = []
        for outcome in ("MISS", "HIT"):
            with client.chat.completions.with_streaming_response.create(
                model="m",
                messages=[QUESTION],
                stream=True,
            ) as raw:
                assert raw.headers["x-routecache"] == outcome
                bodies.append(b"".join(raw.iter_bytes()))
    assert bodies == [b"".join(chunks())] * 2


def test_errors_come_through_and_are_not_stored(served: Served) -> None:
    """The app's own 400, twice."""
    with OpenAI(api_key="k", base_url=served.url, max_retries=0) as client:
        for _ in range(2):
            with pytest.raises(BadRequestError) as caught:
                client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "fail"}]
                )
            assert caught.value.response.headers["x-routecache"] == "MISS"
    assert served.model.calls == 2


async def test_the_async_client_shares_one_call(served: Served) -> None:
    """Twenty at once, JSON and streams: one upstream call for each form."""
    served.model.gate.clear()

    async def streaming(client: AsyncOpenAI) -> str:
        events = await client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "stream"}],
            stream=True,
        )
        return "".join([event.choices[0].delta.content or "" async for event in events])

    async with AsyncOpenAI(api_key="k", base_url=served.url, max_retries=0) as client:
        jsons = [
            asyncio.ensure_future(client.chat.completions.create(model="m", messages=[QUESTION]))
            for _ in range(10)
        ]
        streams = [asyncio.ensure_future(streaming(client)) for _ in range(10)]
        flights = served.app.cache.engine
        while len(flights.live) < 2 or served.model.calls < 2:  # noqa: ASYNC110 - other thread
            await asyncio.sleep(0.01)
        served.model.gate.set()
        assert {a.choices[0].message.content for a in await asyncio.gather(*jsons)} == {"hi there"}
        assert set(await asyncio.gather(*streams)) == {"hi there"}
    assert served.model.calls == 2


async def begin(client: AsyncOpenAI, question: str) -> AsyncStream[ChatCompletionChunk]:
    """Start a stream and read its first chunk."""
    events = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": question}], stream=True
    )
    await anext(events)
    return events


async def test_a_leader_that_hangs_up_does_not_take_the_rest_along(served: Served) -> None:
    """Real connections: one is closed in the middle, the other gets everything."""
    served.model.rest.clear()
    async with AsyncOpenAI(api_key="k", base_url=served.url, max_retries=0) as client:
        leader = await begin(client, "shared")
        follower = await begin(client, "shared")
        await leader.close()
        served.model.rest.set()
        texts = [event.choices[0].delta.content or "" async for event in follower]
        assert "".join(texts) == "hi there"
        again = await begin(client, "shared")
        assert again.response.headers["x-routecache"] == "HIT"
        await again.close()
    assert (served.model.calls, served.model.finished) == (1, 1)


async def test_an_answer_that_breaks_off_is_no_complete_answer_for_anybody(served: Served) -> None:
    """Both connections are closed without the end of the chunked body."""
    served.model.rest.clear()
    async with AsyncOpenAI(api_key="k", base_url=served.url, max_retries=0) as client:
        streams = [await begin(client, "break") for _ in range(2)]
        served.model.rest.set()
        for events in streams:
            with pytest.raises((APIConnectionError, RemoteProtocolError)):  # by version
                [event async for event in events]
    assert served.model.calls == 1
    assert served.app.cache.stats().result.entries == 0
