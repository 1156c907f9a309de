"""Names of models are the client's words: bounded on metrics, and nowhere else than they belong.

They are on spans and in lists on purpose, so they are planted nowhere else in these tests.
"""

import json

import pytest

from routecache_middleware.core.metrics import OTHER
from routecache_middleware.telemetry.exposition import render, render_openmetrics
from tests.canary.bodies import chat, completion
from tests.canary.ears import listening
from tests.canary.house import House
from tests.canary.planted import leaks, planted
from tests.support.apps import ScriptedApp, json_answer

MOST = 50


async def test_who_names_many_models_fills_no_metric() -> None:
    """Fifty are named, the first; a prompt that is sent as the 51st is nowhere on them."""
    with listening() as ears:
        async with House(ears, ScriptedApp(json_answer(completion()))) as house:
            for number in range(MOST):
                await house.ask(json.dumps({**chat(), "model": f"model-{number}"}).encode())
            named = {**chat(), "model": planted("prompt")}
            for _ in range(2):
                await house.ask(json.dumps(named).encode())
            assert house.outcomes[-2:] == ["MISS", "HIT"]
            total = await house.cache.total_metrics()
            for text in (render(total), render_openmetrics(total)):
                assert leaks(text) == []
                assert "model-0" in text
                assert OTHER in text
            points = ears.points()
            assert leaks(points) == []
            assert "model-49" in points
            assert OTHER in points
        assert [leak for leak in ears.leaks() if leak.startswith("span")], "control: it is on spans"
    logged = [said for where, said in ears.heard if where.startswith("logger")]
    assert leaks("\n".join(logged)) == []


@pytest.mark.parametrize("length", [1_000, 100_000])
async def test_a_name_that_is_a_whole_prompt_is_cut_where_it_is_shown(length: int) -> None:
    """Lists and explanations show its beginning, as they do of every name."""
    name = "m" * length + planted("prompt")
    with listening() as ears:
        async with House(ears, ScriptedApp(json_answer(completion()))) as house:
            body = json.dumps({**chat(), "model": name}).encode()
            await house.ask(body)
            path = "/v1/chat/completions"
            headers = house.client(b"").scope["headers"]
            found = await house.middleware.explain(body=body, path=path, headers=headers)
            assert leaks(f"{found} {found!r}") == []
