"""llama.cpp's server with a real model: every endpoint it has, live, from the cache, converted.

A live answer in the other mode is not the stored one: the model is asked anew. With temperature 0
and a seed its text is the same, and so is all that is compared here but these fields, which a hit
has from the stored answer: ``id`` (drawn per answer), ``created``, ``created_at`` and
``completed_at`` (the second it was made), ``timings`` (of the run that made it) and
``cached_tokens``, ``cache_read_input_tokens`` and with it Anthropic's ``input_tokens`` (what
llama.cpp had kept of the prompt from the run before).
"""

import base64
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.asks import Ask, Streamed, asks_of
from tests.clients.equal import dump, live, live_and_hit, served
from tests.clients.kit import Kit
from tests.clients.llama import MODEL

_PROMPT = "The capital of France is"
_MESSAGES = [{"role": "user", "content": _PROMPT}]
_SAMPLING: dict[str, Any] = {"model": MODEL, "temperature": 0, "seed": 1, "max_tokens": 4}
FIELDS: dict[str, dict[str, Any]] = {
    "openai.chat": _SAMPLING | {"messages": _MESSAGES},
    "openai.completions": _SAMPLING | {"prompt": _PROMPT},
    "openai.responses": {
        "model": MODEL,
        "input": _PROMPT,
        "temperature": 0,
        "store": False,
        "max_output_tokens": 4,
    },
    "anthropic.messages": {
        "model": MODEL,
        "messages": _MESSAGES,
        "max_tokens": 4,
        "extra_body": {"temperature": 0, "seed": 1},
    },
}
WRONG: dict[str, dict[str, Any]] = {
    "openai.chat": {"messages": [{"role": 7}]},
    "openai.completions": {"prompt": {}},
    "openai.responses": {"input": [{"role": "user", "content": [{"type": "x"}]}]},
    "anthropic.messages": {"messages": [{"role": 7}]},
}
OF_ONE_RUN = {
    "cache_read_input_tokens",
    "cached_tokens",
    "completed_at",
    "created",
    "created_at",
    "id",
    "input_tokens",
    "item_id",
    "timings",
}
# OpenAI's helper for responses wants an index on every event; this server writes none, so it fails
# on live answers as well.
ASKS = [ask for d in FIELDS for ask in asks_of(d) if not ask.name.startswith("response_helper")]
PLAIN = ("chat", "completion", "response", "message")
STREAMS = ("chat_helper", "completion_chunks", "response_events", "message_helper")
TABLE = [ask for ask in ASKS if ask.name in PLAIN + STREAMS]


def of_any_run(value: Any) -> Any:
    """Return plain data without what differs between two runs of the model."""
    if isinstance(value, dict):
        return {n: of_any_run(item) for n, item in value.items() if n not in OF_ONE_RUN}
    if isinstance(value, list | tuple):
        return [of_any_run(item) for item in value]
    return value


@pytest.mark.parametrize("ask", ASKS, ids=lambda ask: ask.name)
def test_a_hit_is_parsed_as_the_live_answer_of_a_real_model(llama: Kit, ask: Ask) -> None:
    live_and_hit(llama.gateway, llama.key, lambda: ask.run(llama, FIELDS[ask.dialect]))


@pytest.mark.parametrize("ask", TABLE, ids=lambda ask: ask.name)
def test_the_other_mode_says_what_the_real_model_says_in_it(llama: Kit, ask: Ask) -> None:
    fields = FIELDS[ask.dialect]
    without_us = ask.run(llama.direct(), fields)
    other = next(a for a in TABLE if a.dialect == ask.dialect and a.is_stream != ask.is_stream)
    live(llama.gateway, llama.key, lambda: other.run(llama, fields))
    found, hit = served(llama.gateway, llama.key, lambda: ask.run(llama, fields))
    assert hit.outcome == "HIT"
    if isinstance(without_us, Streamed):
        assert without_us.final
        found, without_us = found.final, without_us.final
    if ask.dialect == "openai.responses" and ask.is_stream:
        # This server leaves out indexes and log probabilities that the API has; we do not.
        assert says_all_of(of_any_run(found), of_any_run(without_us))
    else:
        assert of_any_run(found) == of_any_run(without_us)


def says_all_of(said: Any, least: Any) -> bool:
    """Whether plain data has every member that other data has, with the same value."""
    if isinstance(least, dict):
        return all(name in said and says_all_of(said[name], least[name]) for name in least)
    if isinstance(least, list):
        return len(said) == len(least) and all(map(says_all_of, said, least))
    return bool(said == least)


def test_a_count_of_tokens_is_kept(llama: Kit) -> None:
    def count() -> Any:
        with llama.anthropic() as client:
            return dump(client.messages.count_tokens(model=MODEL, messages=_MESSAGES))  # type: ignore[arg-type]

    (_, fields, _), _ = live_and_hit(llama.gateway, llama.key, count)
    assert fields["input_tokens"] > 4


@pytest.mark.parametrize("form", ["float", "base64"])
def test_an_embedding_of_a_real_model_is_kept(llama: Kit, form: Any) -> None:
    def embed() -> Any:
        with llama.openai() as client:
            return dump(client.embeddings.create(model=MODEL, input="hi", encoding_format=form))

    (_, fields, _), hit = live_and_hit(llama.gateway, llama.key, embed)
    assert len(fields["data"][0]["embedding"]) >= 640
    assert hit.path == "/v1/embeddings"


def test_one_embedding_serves_both_forms(llama: Kit) -> None:
    """base64 holds 32-bit floats, so those are compared; without a form the library decodes it."""

    def vector(form: Any) -> Any:
        with llama.openai() as client:
            if form is None:
                answer = client.embeddings.create(model=MODEL, input="hi")
            else:
                answer = client.embeddings.create(model=MODEL, input="hi", encoding_format=form)
            return answer.data[0].embedding

    numbers = vector("float")
    packed = struct.pack(f"<{len(numbers)}f", *numbers)
    assert base64.b64decode(vector("base64")) == packed
    assert list(vector(None)) == list(struct.unpack(f"<{len(numbers)}f", packed))
    assert llama.outcomes == ["MISS", "HIT", "HIT"]


def test_several_embeddings_are_parsed_alike(llama: Kit) -> None:
    """A list is put together anew of what is known of its inputs, so only its meaning is equal."""

    def embed() -> Any:
        with llama.openai() as client:
            return dump(client.embeddings.create(model=MODEL, input=["hi", "ho"]))

    at_first, _ = live(llama.gateway, llama.key, embed)
    hit, second = served(llama.gateway, llama.key, embed)
    assert second.outcome == "HIT"
    assert hit == at_first


def _not_served(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - which one it is, is the question
        return (type(error), str(error), getattr(error, "status_code", None))


@pytest.mark.parametrize("dialect", sorted(FIELDS))
def test_an_error_of_the_real_server_is_the_one_that_it_is_without_us(
    llama: Kit, dialect: str
) -> None:
    ask = next(ask for ask in asks_of(dialect) if ask.name in PLAIN)
    wrong = FIELDS[dialect] | WRONG[dialect]
    without_us = _not_served(lambda: ask.run(llama.direct(), wrong))
    assert without_us[2] in (400, 500)
    for _ in range(2):
        assert _not_served(lambda: ask.run(llama, wrong)) == without_us
    assert set(llama.outcomes) <= {"MISS", "BYPASS"}  # what is no request of the API is bypassed
