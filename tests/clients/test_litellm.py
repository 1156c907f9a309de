"""LiteLLM's SDK as a client: its calls with us as ``api_base``, live and from the cache."""

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import litellm
import pytest

from tests.adapters.litellm.conftest import _FOREIGN_WARNINGS
from tests.adapters.litellm.state import (
    Snapshot,
    close_clients,
    close_sync_clients,
    settle_logging,
)
from tests.clients.equal import dump, live, live_and_hit, served
from tests.clients.kit import Kit
from tests.clients.llama import MODEL
from tests.clients.scripted import in_both_modes
from tests.clients.test_answers import fixture_of, without
from tests.support.wire import names_of_pairs

# Its blocking calls leave event loops and connections to the garbage collector.
_LEFT = "ignore::ResourceWarning"
pytestmark = [pytest.mark.filterwarnings(warning) for warning in (*_FOREIGN_WARNINGS, _LEFT)]
_MESSAGES = [{"role": "user", "content": "hi"}]
_USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
_SAMPLING: dict[str, Any] = {"temperature": 0, "max_retries": 0, "num_retries": 0}


@pytest.fixture(autouse=True, scope="module")
def _collected() -> Iterator[None]:
    """Collect what LiteLLM has left before other tests are blamed for it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(autouse=True)
def clean_litellm() -> Iterator[None]:
    """Leave nothing of LiteLLM behind."""
    snapshot = Snapshot()
    litellm.suppress_debug_info = True
    yield
    close_sync_clients()
    snapshot.restore()


class Way(NamedTuple):
    """One way to ask; ``run`` returns an answer, or the list of a stream's chunks."""

    name: str
    dialect: str
    run: Callable[[Kit], Any]

    @property
    def is_stream(self) -> bool:
        """Whether it asks for a stream."""
        return "stream" in self.name


def _chat(kit: Kit) -> dict[str, Any]:
    return {
        "model": "openai/m",
        "messages": _MESSAGES,
        "api_base": f"{kit.url}/v1",
        "api_key": kit.key,
        **_SAMPLING,
    }


def _streamed(kit: Kit) -> dict[str, Any]:
    return _chat(kit) | _USAGE | {"stream": True}


def _text(kit: Kit) -> dict[str, Any]:
    asked = _chat(kit) | {"model": "text-completion-openai/m", "prompt": "hi"}
    del asked["messages"]
    return asked


def _messages(kit: Kit) -> dict[str, Any]:
    asked = {"model": "anthropic/m", "api_base": kit.url, "api_key": kit.key}
    return asked | {"messages": _MESSAGES, "max_tokens": 9, "temperature": 0}


def _responses(kit: Kit) -> dict[str, Any]:
    # A model that it does not know is asked for JSON, of which it then makes a stream.
    asked = {"model": "openai/gpt-4.1", "api_base": f"{kit.url}/v1", "api_key": kit.key}
    return asked | {"input": "hi", "store": False, "temperature": 0}


def run_async(call: Callable[[], Awaitable[Any]]) -> Any:
    """Run a call in a loop of its own, and end there what LiteLLM leaves under way."""

    async def run() -> Any:
        try:
            found = await call()
            return [item async for item in found] if hasattr(found, "__aiter__") else found
        finally:
            await settle_logging()
            await close_clients()

    return asyncio.run(run())


WAYS = [
    Way("completion", "openai.chat", lambda k: litellm.completion(**_chat(k))),
    Way(
        "acompletion",
        "openai.chat",
        lambda k: run_async(lambda: litellm.acompletion(**_chat(k))),
    ),
    Way(
        "completion-stream",
        "openai.chat",
        lambda k: list(litellm.completion(**_streamed(k))),
    ),
    Way(
        "acompletion-stream",
        "openai.chat",
        lambda k: run_async(lambda: litellm.acompletion(**_streamed(k))),
    ),
    Way(
        "text_completion",
        "openai.completions",
        lambda k: litellm.text_completion(**_text(k)),
    ),
    Way(
        "text_completion-stream",
        "openai.completions",
        lambda k: list(litellm.text_completion(**_text(k), stream=True, **_USAGE)),
    ),
    Way(
        "anthropic_messages",
        "anthropic.messages",
        lambda k: run_async(lambda: litellm.anthropic_messages(**_messages(k))),
    ),
    Way(
        "anthropic_messages-stream",
        "anthropic.messages",
        lambda k: run_async(lambda: litellm.anthropic_messages(**_messages(k), stream=True)),
    ),
    Way("responses", "openai.responses", lambda k: litellm.responses(**_responses(k))),
    Way(
        "responses-stream",
        "openai.responses",
        lambda k: list(litellm.responses(**_responses(k), stream=True)),
    ),
    Way(
        "aresponses",
        "openai.responses",
        lambda k: run_async(lambda: litellm.aresponses(**_responses(k))),
    ),
]
ROWS = [
    (way, name)
    for way in WAYS
    for name in names_of_pairs(way.dialect)
    if not name.startswith("two_")  # several choices, which are not asked for here
]
NAMED = [pytest.param(way, name, id=f"{way.name}-{name}") for way, name in ROWS]


def told(kit: Kit, way: Way) -> Any:
    """Ask; all that LiteLLM says, as plain data.

    It hands on the bytes of a messages stream as it reads them, cut wherever that was; and to the
    chunks of a completion it gives the time of its own clock as ``created``, not the answer's.
    """
    found = way.run(kit)
    if way.is_stream and isinstance(found[0], bytes):
        return b"".join(found)
    if way.is_stream and way.dialect in ("openai.chat", "openai.completions"):
        return without(dump(found), "created")
    return dump(found)


@pytest.mark.parametrize(("way", "name"), NAMED)
def test_litellm_cannot_tell_a_hit(kit: Kit, way: Way, name: str) -> None:
    pair = fixture_of(way.dialect, name)
    kit.script(in_both_modes(*pair))
    found, hit = live_and_hit(kit.gateway, kit.key, lambda: told(kit, way))
    assert found
    assert hit.body == pair[way.is_stream]


@pytest.mark.parametrize(
    ("way", "name"), [row for row, (way, _) in zip(NAMED, ROWS, strict=True) if not way.is_stream]
)
def test_litellm_cannot_tell_json_that_was_a_stream(kit: Kit, way: Way, name: str) -> None:
    kit.script(in_both_modes(*fixture_of(way.dialect, name)))
    others = [w for w in WAYS if w.dialect == way.dialect and w.is_stream]
    without_us = told(kit.direct(), way)
    live(kit.gateway, kit.key, lambda: told(kit, others[0]))
    found, hit = served(kit.gateway, kit.key, lambda: told(kit, way))
    assert hit.outcome == "HIT"
    assert found == without_us


def test_litellm_s_embedding_of_a_real_model_is_kept(llama: Kit) -> None:
    def embed() -> Any:
        return dump(
            litellm.embedding(
                model=f"openai/{MODEL}",
                input=["hi"],
                api_base=f"{llama.url}/v1",
                api_key=llama.key,
            )
        )

    found, _ = live_and_hit(llama.gateway, llama.key, embed)
    assert len(found[1]["data"][0]["embedding"]) >= 640
    assert without(found, "embedding")
