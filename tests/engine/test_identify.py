"""From body bytes to what the cache has to know of a request."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware import CachePolicy, Settings
from routecache_middleware.core.fingerprint import KeyContext
from routecache_middleware.core.models import BypassReason
from routecache_middleware.dialects.openai_chat import OpenAIChat
from routecache_middleware.dialects.openai_embeddings import OpenAIEmbeddings
from routecache_middleware.engine.identify import Identified, Identifier, Several
from tests.support import embeddings
from tests.support.chat import ask

DIALECT = OpenAIChat()
HERE = KeyContext("openai.chat", "", "/v1/chat/completions", b"", ())
THERE = KeyContext("openai.chat", "", "/x/v1/chat/completions", b"", ())
VECTORS = Path(__file__).parent.parent / "fixtures" / "xxh3_collision_vectors.json"


def identifier(**settings: object) -> Identifier:
    return Identifier(Settings(**settings), CachePolicy())  # type: ignore[arg-type]


async def identified(made: Identifier, body: bytes, context: KeyContext = HERE) -> Identified:
    found = await made.identify(DIALECT, context, body)
    assert isinstance(found, Identified)
    return found


async def test_a_body_seen_before_is_not_parsed_again() -> None:
    """Bodies and bad bodies alike."""
    made = identifier()
    assert await identified(made, ask()) is await identified(made, ask())
    for _ in range(2):
        assert await made.identify(DIALECT, HERE, b"{") is BypassReason.INVALID_JSON
    assert len(made._memo) == 2


async def test_the_context_is_compared_too() -> None:
    """The same bytes on another path are another request."""
    made = identifier()
    here, there = await identified(made, ask()), await identified(made, ask(), THERE)
    assert here.fingerprint != there.fingerprint
    assert (await identified(made, ask())).fingerprint == here.fingerprint
    assert len(made._memo) == 1
    assert made._bytes == len(ask()) + 512


async def test_a_collision_costs_time_and_nothing_else() -> None:
    """Confirmed by comparing the bytes (design 5)."""
    vectors = json.loads(VECTORS.read_text())
    made = identifier()
    made._seed = 0
    first, second = [await identified(made, vectors[n].encode()) for n in ("a", "b")]
    assert first.fingerprint.result != second.fingerprint.result
    assert len(made._memo) == 1


async def test_memory_is_bounded() -> None:
    """``memo_bytes``; the oldest goes first, and what is large is never kept."""
    made = identifier(memo_bytes=10_000)
    for n in range(50):
        await identified(made, ask(str(n)))
    assert made._bytes <= 10_000
    assert made._bytes == sum(len(body) + 512 for body, _, _ in made._memo.values())
    before = len(made._memo)
    await identified(made, ask("x" * 2000))
    assert len(made._memo) == before
    nothing = identifier(memo_bytes=0)
    await identified(nothing, ask())
    assert len(nothing._memo) == 0


async def test_large_bodies_hash_alike_in_a_thread() -> None:
    """``hash_in_thread_bytes`` changes where, not what."""
    in_thread = await identified(identifier(hash_in_thread_bytes=0), ask())
    assert in_thread.fingerprint == (await identified(identifier(), ask())).fingerprint


@given(body=st.one_of(st.binary(), st.text().map(ask)))
async def test_no_bytes_make_it_raise(body: bytes) -> None:
    """Anything doubtful is a bypass, never an error."""
    found = await identifier().identify(DIALECT, HERE, body)
    assert isinstance(found, Identified | BypassReason)


@pytest.mark.parametrize("cut", range(0, len(ask()), 5))
async def test_half_a_body_is_a_bypass(cut: int) -> None:
    """Wherever it ends."""
    found = await identifier().identify(DIALECT, HERE, ask()[:cut])
    assert found is BypassReason.INVALID_JSON


AZURE = KeyContext(
    "openai.chat", "", "/openai/deployments/gpt/chat/completions", b"", (), model="gpt"
)


async def test_a_model_in_the_path_needs_none_in_the_body() -> None:
    """As of Azure's deployments."""
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
    found = await identified(identifier(), body, AZURE)
    assert found.parsed.model == "gpt"
    assert await identifier().identify(DIALECT, HERE, body) is BypassReason.INVALID_JSON


async def test_a_model_in_the_body_counts_in_the_key_even_when_the_path_overrules_it() -> None:
    """It is not for us to say that the upstream takes no notice of it."""
    made = identifier()
    one, other = [await identified(made, ask(model=name), AZURE) for name in ("a", "b")]
    assert one.parsed.model == other.parsed.model == "gpt"
    assert one.fingerprint.result != other.fingerprint.result


async def test_what_is_examined_is_not_remembered() -> None:
    made = identifier()
    found = await made.examine(DIALECT, HERE, ask())
    assert isinstance(found, Identified)
    assert made.recall(HERE, ask()) is None
    assert await made.identify(DIALECT, HERE, ask()) == found


@pytest.mark.parametrize("context", [HERE, AZURE])
@pytest.mark.parametrize(
    "body",
    [
        ask(),
        ask(temperature=1.0, user="u", metadata={}, something_new=[1.5]),
        ask(cache={"no-cache": True, "ttl": 5, "namespace": "n"}),
        ask(cache="of another kind"),
    ],
)
async def test_what_is_explained_is_what_is_hashed(body: bytes, context: KeyContext) -> None:
    """Whatever a field of the body is for: the parts that are named are those of the key."""
    made = identifier(secret=b"s" * 16, router_version="7", decision_scope="conversation")
    found = await identified(made, body, context)
    assert made.explain(DIALECT, context, body).fingerprint == found.fingerprint


async def test_recent_requests_are_those_remembered_the_latest_first() -> None:
    made = identifier()
    for seed in (1, 2, 1):
        await identified(made, ask(seed=seed))
    await made.identify(DIALECT, HERE, b"{")
    assert [(body, context) for body, context, _ in made.recent()] == [
        (ask(seed=2), HERE),
        (ask(seed=1), HERE),
    ]


async def several(made: Identifier, value: list[object], **fields: Any) -> Identified:
    context = KeyContext("openai.embeddings", "", "/v1/embeddings", b"", ())
    body = embeddings.ask(value, **fields)
    found = await made.identify(OpenAIEmbeddings(), context, body)
    assert isinstance(found, Identified)
    return found


async def test_each_item_has_the_hash_that_it_has_alone() -> None:
    made = identifier(secret=b"1" * 16, previous_secrets=(b"2" * 16, b"3" * 16))
    found = await several(made, ["a", "b", "a"])
    assert isinstance(found, Several)
    alone = [await several(made, [item]) for item in "aba"]
    assert type(alone[0]) is Identified  # so the short way takes it, and only it
    assert found.items == tuple(one.fingerprint.result for one in alone)
    former = [tuple(one.former[number].result for one in alone) for number in (0, 1)]
    assert list(found.former_items) == former


async def test_many_items_hash_alike_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[object] = []

    async def to_thread(work: Any, *args: object) -> object:
        threads.append(work)
        return work(*args)

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    many: list[object] = [str(number) for number in range(400)]
    found = await several(identifier(), many)
    assert isinstance(found, Several)
    assert (len(set(found.items)), len(threads)) == (400, 1)
    await identified(identifier(), ask("," * 400))
    assert len(threads) == 1  # other APIs have no items


async def test_more_items_than_an_api_takes_are_one_entry() -> None:
    """Each costs the event loop 2 µs, which it has to find in one go."""
    many: list[object] = [str(number) for number in range(2049)]
    assert isinstance(await several(identifier(), many[:2048]), Several)
    whole = await several(identifier(), many)
    assert (type(whole), whole.parsed.choices) == (Identified, 2049)


async def test_items_that_share_too_much_are_one_entry() -> None:
    """Each is hashed with all that they share: 2,048 with 512 bytes of it are the most."""
    many: list[object] = [str(number) for number in range(100)]
    made = identifier(previous_secrets=(b"2" * 16,))
    shared = await several(made, many, metadata="x" * 10_000)
    assert isinstance(shared, Several)
    assert len(shared.former_items[0]) == 100
    assert type(await several(made, many, metadata="x" * 11_000)) is Identified
    # Long items are not taken for what they share.
    assert isinstance(await several(made, ["x" * 300_000, "y" * 300_000, "z"]), Several)


async def test_a_list_with_a_field_that_is_not_known_is_one_entry() -> None:
    found = await several(identifier(), ["a", "b"], late_chunking=True)
    assert (type(found), found.parsed.choices) == (Identified, 2)


async def test_the_hashes_of_items_count_as_memory() -> None:
    made = identifier(memo_bytes=200_000, previous_secrets=(b"2" * 16,))
    for number in range(40):
        await several(made, [f"{number} {item}" for item in range(20)])
    kept = [(len(body), found) for body, _, found in made._memo.values()]
    assert made._bytes == sum(size + 512 + 20 * 2 * 96 for size, _ in kept) <= 200_000
    again = [f"39 {item}" for item in range(20)]
    assert await several(made, list(again)) is kept[-1][1]


async def test_a_list_that_is_too_doubtful_for_a_key_is_none_of_our_business() -> None:
    context = KeyContext("openai.embeddings", "", "/v1/embeddings", b"", ())
    body = b'{"model": "e", "input": ["a", "\\ud800"]}'
    found = await identifier().identify(OpenAIEmbeddings(), context, body)
    assert found is BypassReason.INVALID_JSON
