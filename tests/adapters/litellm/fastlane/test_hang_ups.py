"""A client that hangs up does not make a whole answer of a stream that LiteLLM has ended itself."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.adapters.litellm.fastlane.gateway import Lane
from tests.support.apps import sse_answer
from tests.support.asgi import Client
from tests.support.chat import ask, chunks


@pytest.fixture
async def lane() -> AsyncIterator[Lane]:
    lane = Lane()
    yield lane
    await lane.aclose()


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("leaves", [False, True])
async def test_a_stream_that_litellm_has_ended_is_not_kept_when_the_client_hangs_up(
    lane: Lane, *, leaves: bool, is_cut: bool
) -> None:
    lane.misses_calls(is_cut_off=is_cut)
    lane.gateway.answer = sse_answer(chunks())

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        """As Starlette's StreamingResponse with spec 2.3: it stops at the disconnect."""

        async def watched(message: Any) -> None:
            if leaves and not message.get("more_body", True) and len(lane.gateway.asked) == 1:
                assert (await receive())["type"] == "http.disconnect"
                return  # the last message is never sent
            await send(message)

        await lane.gateway(scope, receive, watched)

    app = lane.part.around(listening)
    head = [(b"authorization", b"Bearer alice")]
    client = Client(app, ask(stream=True), headers=head, leave_at=5 if leaves else None).start()
    assert await client.error() is None
    again = await Client(app, ask(stream=True), headers=head).start().end()
    assert again.outcome == ("MISS" if is_cut else "HIT")
