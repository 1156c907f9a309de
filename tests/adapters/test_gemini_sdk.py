"""Google's own SDK through the middleware: it cannot tell a hit from a live answer.

The SDK needs tenacity < 9.2; where it is not installed, these tests are not run.
"""

import json
from typing import Any

import httpx2
import pytest

from routecache_middleware.dialects.gemini import Gemini
from routecache_middleware.dialects.gemini_request import FIELDS
from tests.adapters.conftest import Gateway
from tests.adapters.test_gemini import sent
from tests.support.apps import ScriptedApp, json_answer
from tests.support.wire import FIXTURES, files, names_of_pairs

genai = pytest.importorskip("google.genai")
NAME = "gemini"
MODES = pytest.mark.parametrize("is_stream", [False, True], ids=["json", "stream"])


def client(mw: Any) -> Any:
    options = genai.types.HttpOptions(
        base_url="http://gateway",
        async_client_args={"transport": httpx2.ASGITransport(app=mw)},
    )
    return genai.Client(api_key="k", http_options=options)


async def found(sdk: Any, *, is_stream: bool, choices: int = 1) -> list[dict[str, Any]]:
    """Return what the SDK makes of the answer: of a stream, every chunk."""
    ask: Any = {
        "model": "gemini-2.5-flash",
        "contents": "hi",
        "config": {"temperature": 0, "candidate_count": choices},
    }
    if is_stream:
        chunks = await sdk.aio.models.generate_content_stream(**ask)
        answers = [chunk async for chunk in chunks]
    else:
        answers = [await sdk.aio.models.generate_content(**ask)]
    own = {"sdk_http_response", "automatic_function_calling_history"}  # the SDK's, of the call
    return [answer.model_dump(mode="json", exclude=own, exclude_none=True) for answer in answers]


@MODES
@pytest.mark.parametrize("name", names_of_pairs(NAME))
async def test_a_hit_is_the_live_answer(
    gateway: Gateway,
    name: str,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    """In the same form chunk by chunk; in the other one, as the upstream would have sent it."""
    folder, choices = FIXTURES / NAME / "answers", 2 if name == "two_candidates" else 1
    pair = (folder / f"{name}.json").read_bytes(), (folder / f"{name}.sse").read_bytes()
    app = ScriptedApp(sent(pair[is_stream], is_stream=is_stream))
    sdk = client(gateway(app))
    live = await found(sdk, is_stream=is_stream, choices=choices)
    hit = await found(sdk, is_stream=is_stream, choices=choices)
    assert live == hit
    assert live
    other = await found(sdk, is_stream=not is_stream, choices=choices)
    assert len(app.calls) == 1
    truth = ScriptedApp(sent(pair[0], is_stream=False))
    assert other == await found(client(gateway(truth)), is_stream=False, choices=choices)


@pytest.mark.parametrize("path", files(NAME, "streams"), ids=lambda path: path.stem)
async def test_streams_that_stay_streams_are_hits_all_the_same(gateway: Gateway, path: Any) -> None:
    app = ScriptedApp(sent(path.read_bytes(), is_stream=True))
    sdk = client(gateway(app))
    assert await found(sdk, is_stream=True) == await found(sdk, is_stream=True)
    assert len(app.calls) == 1


async def test_an_error_of_ours_is_one_of_google_s(gateway: Gateway) -> None:
    """RFC 9111 section 5.2.1.7, and no upstream is asked."""
    error = Gemini().error_body("not there", kind="cache_miss", code="only_if_cached")
    sdk = client(ScriptedApp(json_answer(error, status=504)))
    with pytest.raises(genai.errors.ServerError) as caught:
        await found(sdk, is_stream=False)
    assert (caught.value.code, caught.value.status) == (504, "DEADLINE_EXCEEDED")
    assert caught.value.message == "not there"


async def test_the_table_knows_every_field_that_the_sdk_sends(gateway: Gateway) -> None:
    """Of the two services; the rest of its options go into ``generationConfig``."""
    app = ScriptedApp(json_answer(b"{}"))
    sdk = client(gateway(app))
    config = genai.types.GenerateContentConfig(
        system_instruction="s",
        safety_settings=[],
        tools=[genai.types.Tool(function_declarations=[])],
        tool_config=genai.types.ToolConfig(),
        cached_content="c",
        service_tier="flex",
        store=True,
        top_k=1,
        seed=1,
    )
    await sdk.aio.models.generate_content(model="g", contents="hi", config=config)
    body = json.loads(b"".join(message.get("body", b"") for message in app.calls[0].received))
    assert {"cachedContent", "contents", "generationConfig", "store", "tools"} <= set(body)
    assert set(body) <= set(FIELDS)
