"""Which answers LiteLLM's callers are served how often, and why others were not served."""

from collections.abc import AsyncIterator

import pytest

from routecache_middleware.core import metrics
from tests.adapters.litellm.asking import Asking, answering
from tests.adapters.litellm.provider import Provider


@pytest.fixture
async def asking(provider: Provider) -> AsyncIterator[Asking]:
    async with answering(provider) as asking:
        yield asking


async def test_hits_are_counted_by_answer_and_misses_by_reason(asking: Asking) -> None:
    await asking.chat()
    await asking.kept(1)
    for _ in range(3):
        await asking.chat()
    await asking.chat(cache={"no-cache": True})
    await asking.kept(2)
    cache = asking.hub.cache
    ((key, times),) = cache.engine.recorder.popular.top()
    assert (key.partition(":")[0], times) == ("result", 3)
    found = {one.labels: one.value for one in cache.metrics().of(metrics.MISSES)}
    assert found == {("result", "absent"): 1, ("result", "request"): 1}
