"""OpenAI's SDK cannot tell embeddings that were put together from the upstream's own.

It asks for base64 unless it is told otherwise, and makes numbers of that by itself.
"""

from typing import Any, Literal

import httpx
import openai
import pytest

from tests.adapters.conftest import Gateway
from tests.support.embeddings import EmbeddingApp

FORMS = pytest.mark.parametrize("form", ["float", "base64", None])


def sdk(app: Any) -> openai.AsyncOpenAI:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app))
    return openai.AsyncOpenAI(api_key="k", base_url="http://gateway/v1", http_client=http)


async def create(
    client: openai.AsyncOpenAI, value: Any, form: Literal["float", "base64"] | None
) -> dict[str, Any]:
    how: Any = {} if form is None else {"encoding_format": form}
    made = await client.embeddings.create(model="e", input=value, **how)
    return made.model_dump(warnings=False)


@FORMS
@pytest.mark.parametrize("known", [["b"], ["a", "b", "c"], "b", [], ["x"]])
@pytest.mark.parametrize("wanted", [["a", "b", "c"], ["c", "b", "b"], "b", ["b"]])
async def test_live_and_cached_are_equal(
    gateway: Gateway, known: Any, wanted: Any, form: Literal["float", "base64"] | None
) -> None:
    app = EmbeddingApp()
    async with sdk(EmbeddingApp()) as bare, sdk(gateway(app)) as cached:
        if known:
            await create(cached, known, "float")
        expected = await create(bare, wanted, form)
        assert await create(cached, wanted, form) == expected
        assert await create(cached, wanted, form) == expected
    assert len(app.asked) <= 1 + bool(known)


async def test_the_sdk_asks_for_base64_by_default(gateway: Gateway) -> None:
    app = EmbeddingApp()
    async with sdk(gateway(app)) as client:
        await create(client, ["a", "b"], None)
        await create(client, ["a", "c"], None)
    assert [b'"base64"' in body for body in app.bodies] == [True, True]
    assert app.asked == [["a", "b"], ["c"]]


async def test_an_error_reaches_the_sdk_as_it_is(gateway: Gateway) -> None:
    app = EmbeddingApp()
    async with sdk(gateway(app)) as client:
        await create(client, ["a", "b"], None)
        body = b'{"error": {"message": "slow down", "type": "t", "code": "c", "param": null}}'
        headers = [(b"content-type", b"application/json")]
        app.answers[1] = [
            {"type": "http.response.start", "status": 429, "headers": headers},
            {"type": "http.response.body", "body": body},
        ]
        with pytest.raises(openai.RateLimitError, match="slow down"):
            await create(client.with_options(max_retries=0), ["a", "c"], None)
