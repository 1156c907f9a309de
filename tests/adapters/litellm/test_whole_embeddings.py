"""Embeddings asked for without async: all vectors of a call are one entry."""

import json
from typing import Any

import pytest

from routecache_middleware.adapters.litellm.sync.whole_embeddings import sync_api_of
from routecache_middleware.core.models import DiscardReason

VECTOR = {"embedding": [0.5]}


def judged(inputs: object, data: object, **more: Any) -> tuple[DiscardReason | None, bool]:
    api = sync_api_of("embedding")
    assert api is not None
    assert not api.is_per_input
    request = api.parse({"model": "m", "input": inputs})
    assert request is not None
    judgement = api.judge(json.dumps({"data": data, **more}).encode(), request)
    return judgement.discard, judgement.has_usage


@pytest.mark.parametrize(
    ("inputs", "count"),
    [("a", 1), (["a"], 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([{}, {}], 2)],
)
def test_there_is_a_vector_for_each_input(inputs: object, count: int) -> None:
    """With another number of them the answer is not to what was asked, whoever made it."""
    assert judged(inputs, [VECTOR] * count, usage={}) == (None, True)
    for other in {1, count - 1, count + 1} - {0, count}:
        assert judged(inputs, [VECTOR] * other) == (DiscardReason.INCOMPLETE, False)
    assert judged(inputs, []) == (DiscardReason.EMPTY, False)


@pytest.mark.parametrize("vector", [{"embedding": []}, {"embedding": None}, {}])
def test_none_of_them_is_empty(vector: dict[str, Any]) -> None:
    assert judged(["a", "b"], [VECTOR, vector]) == (DiscardReason.EMPTY, False)


@pytest.mark.parametrize("vector", ["x", None, [1.0]])
def test_what_is_no_object_is_no_vector(vector: object) -> None:
    assert judged(["a", "b"], [VECTOR, vector]) == (DiscardReason.INCOMPLETE, False)


def test_other_apis_are_the_same_with_async_and_without() -> None:
    assert sync_api_of("completion") == sync_api_of("acompletion")
    assert sync_api_of("image_generation") is None
