import json

import pytest

from routecache_middleware.core.models import ResponseMode
from routecache_middleware.core.request import LLMRequest


def request(payload: object) -> LLMRequest:
    return LLMRequest(
        model="auto",
        dialect="openai.chat",
        path="/v1/chat/completions",
        mode=ResponseMode.JSON,
        query_hash="ab" * 16,
        tenant="canary-tenant",
        body=json.dumps(payload).encode(),
    )


USER = {"role": "user", "content": "one"}


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"messages": [USER, {"role": "assistant", "content": "two"}]}, "one"),
        ({"messages": [USER, {"role": "user", "content": "three"}]}, "three"),
        ({"messages": [{"role": "system", "content": "s"}]}, ""),
        ({"messages": [USER, "odd", None]}, "one"),
        ({"messages": [{"role": "user"}]}, ""),
        ({"messages": "odd", "prompt": "p"}, "p"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "a"},
                            {"type": "image_url", "image_url": {"url": "u"}},
                            {"type": "text", "text": 3},
                            "b",
                        ],
                    }
                ]
            },
            "a\nb",
        ),
        ({"input": "i", "prompt": "p"}, "i"),
        ({"prompt": ["p", "q"]}, "p\nq"),
        ({"prompt": [1, 2]}, ""),
        ({}, ""),
    ],
)
def test_the_prompt_is_the_last_user_message(payload: object, text: str) -> None:
    assert request(payload).prompt_text == text


def test_the_body_is_parsed_once() -> None:
    asked = request({"messages": [USER], "n": 2})
    assert asked.payload is asked.payload
    assert asked.payload["n"] == 2
    assert asked.messages == [USER]


def test_its_repr_shows_neither_the_prompt_nor_who_is_asking() -> None:
    shown = repr(request({"messages": [{"role": "user", "content": "canary-prompt"}]}))
    assert "canary" not in shown
    assert "auto" in shown
