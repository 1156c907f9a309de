"""Which stored answer comes near a request, and which fields tell the two apart."""

import json
from typing import Any

import pytest

from routecache_middleware import CachePolicy, LLMRequest, RouteCacheMiddleware
from routecache_middleware.adapters.asgi import RequestExplanation
from routecache_middleware.core.canonical import DoubtfulJSONError
from routecache_middleware.core.explain import Explanation
from routecache_middleware.core.override import Override
from routecache_middleware.engine.identify import Identifier
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import KEY, PATH, fetch
from tests.support.chat import ask

OTHER = (b"authorization", b"Bearer key-2")
PLAIN = ask()


async def why(mw: RouteCacheMiddleware, body: bytes = PLAIN, **more: Any) -> RequestExplanation:
    """Explain a request of the usual caller."""
    return await mw.explain(body=body, **{"path": PATH, "headers": [KEY], **more})


def asking(fields: dict[str, object]) -> bytes:
    """Return a request with further fields, whatever their names."""
    return json.dumps(json.loads(PLAIN) | fields).encode()


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"temperature": 0.5}, ("temperature",)),
        ({"messages": [{"role": "user", "content": "bye"}]}, ("messages[0]",)),
        ({"model": "n"}, ("model",)),
        ({"n": 2, "seed": 1}, ("n", "seed")),
        ({"cache": {"namespace": "blue"}}, ("cache.namespace",)),
    ],
)
async def test_on_a_miss_the_field_that_made_it_one_is_named(
    gateway: Gateway, clock: FakeClock, changes: dict[str, object], differs: tuple[str, ...]
) -> None:
    mw = gateway()
    await fetch(mw)
    await fetch(mw, ask("something else altogether", top_p=0.2, temperature=0.1, seed=4))
    clock.advance(3.0)
    said = await why(mw, asking(changes))
    assert said.neighbour is not None
    assert (said.neighbour.differs, said.neighbour.differences) == (differs, len(differs))
    assert not said.neighbour.is_given
    assert said.neighbour.answer is not None
    assert said.neighbour.answer.age_s == 3.0
    assert said.neighbour.result_hash == (await why(mw)).result_hash


async def test_messages_and_headers_are_named_one_by_one(gateway: Gateway) -> None:
    mw = gateway()
    turns = [{"role": "user", "content": text} for text in ("one", "two", "three")]
    body = json.dumps({"model": "m", "messages": turns}).encode()
    await fetch(mw, body, headers=[KEY, (b"openai-beta", b"a")])
    turns[2] = {"role": "user", "content": "four"}
    changed = json.dumps({"model": "m", "messages": turns}).encode()
    said = await why(mw, changed, headers=[KEY, (b"openai-beta", b"b")])
    assert said.neighbour is not None
    assert said.neighbour.differs == ("header.openai-beta", "messages[2]")
    said = await why(mw, body, path="/x" + PATH, headers=[KEY, (b"openai-beta", b"a")])
    assert said.neighbour is not None
    assert said.neighbour.differs == ("context.path",)


async def test_nothing_of_other_tenants_is_ever_named(gateway: Gateway) -> None:
    """The memo holds everybody's requests; only keys of the asking tenant are asked for."""
    mw = gateway()
    await fetch(mw, headers=[OTHER])
    assert (await why(mw, ask(temperature=0.5))).neighbour is None
    assert (await why(mw, ask(temperature=0.5), headers=[OTHER])).neighbour is not None
    # Not even that two tenants have asked the same, unless one has an answer of its own to it.
    said = await why(mw)
    assert (said.outcome, said.neighbour) == ("miss", None)
    shared = gateway(ScriptedApp(json_answer(), json_answer(status=401)), tenancy="shared")
    await fetch(shared)
    said = await why(shared, ask(temperature=0.5), headers=[OTHER])
    assert (said.reason, said.answer, said.neighbour) == ("unauthorised", None, None)
    assert (await why(shared, headers=[OTHER])).answer is None
    assert (await why(shared, ask(temperature=0.5))).neighbour is not None


async def test_only_what_can_be_used_now_is_a_neighbour(gateway: Gateway, clock: FakeClock) -> None:
    mw = gateway()
    await fetch(mw)
    await fetch(mw, b"{")
    await fetch(mw, ask(store=True))
    await fetch(mw, json.dumps({"model": "m", "prompt": "hello"}).encode(), path="/v1/completions")
    asked = ask(temperature=0.5)
    assert (await why(mw, asked)).neighbour is not None
    await mw.cache.invalidate_model("m")
    assert (await why(mw, asked)).neighbour is None
    await fetch(mw)
    assert (await why(mw, asked)).neighbour is not None
    clock.advance(601.0)
    assert (await why(mw, asked)).neighbour is None


async def test_of_many_the_nearest_is_found_and_of_equals_the_latest(gateway: Gateway) -> None:
    """In however many batches: what others have asked stands in between."""
    mw = gateway()
    for seed in (1, 2):
        await fetch(mw, ask(seed=seed, top_p=0.5))
    for number in range(80):
        await fetch(mw, ask(f"prompt {number}"), headers=[OTHER])
    said = await why(mw, ask("else", seed=2))
    assert said.neighbour is not None
    assert said.neighbour.differs == ("messages[0]", "top_p")
    said = await why(mw, ask("else", seed=3, top_p=0.5), full=True)
    assert said.neighbour is not None
    latest = await why(mw, ask(seed=2, top_p=0.5), full=True)
    assert (said.neighbour.result_hash, len(latest.result_hash)) == (latest.result_hash, 32)


async def test_looking_for_neighbours_takes_a_bounded_time(
    gateway: Gateway, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    mw = gateway(ScriptedApp(), max_request_bytes=4_194_304, memo_bytes=67_108_864)
    for number in range(300):
        await fetch(mw, ask(f"prompt {number}"))
    ticks = iter(range(10**6))
    monkeypatch.setattr(clock, "monotonic_s", lambda: next(ticks) * 0.1)
    # Two of them were compared before a quarter of a second was over.
    assert (await why(mw, ask("prompt 5", seed=1))).neighbour is not None
    monkeypatch.undo()
    compared: list[int] = []
    explain = mw._parts.identifier.explain

    def counted(_: Identifier, *given: Any) -> Explanation:
        compared.append(1)
        return explain(*given)

    monkeypatch.setattr(Identifier, "explain", counted)
    assert (await why(mw, ask("prompt 299", seed=1))).neighbour is not None
    assert len(compared) == 257  # the request itself, and 256 others
    for number in range(5):
        await fetch(mw, ask(f"{number}" * 1_000_000))
    compared.clear()
    assert (await why(mw, ask("prompt 299", seed=1))).neighbour is not None
    assert len(compared) == 5  # four others make four megabytes


async def test_a_neighbour_may_be_named(gateway: Gateway) -> None:
    """Stored or not, cacheable or not."""
    mw = gateway(max_request_bytes=1000)
    said = (await why(mw, neighbour=ask(seed=1))).neighbour
    assert said is not None
    assert (said.is_given, said.differs, said.answer, said.reason) == (True, ("seed",), None, "")
    await fetch(mw, ask(seed=1))
    said = (await why(mw, neighbour=ask(seed=1))).neighbour
    assert said is not None
    assert said.answer is not None
    assert said.answer.state == "fresh"
    said = (await why(mw, neighbour=ask(user="u"))).neighbour
    assert said is not None
    assert said.differs == ()
    said = (await why(mw, neighbour=ask(store=True))).neighbour
    assert said is not None
    assert (said.differs, said.reason) == (("store",), "store")
    for body, reason in ((b"{", "invalid-json"), (ask("x" * 1000), "body-too-large")):
        said = (await why(mw, neighbour=body)).neighbour
        assert said is not None
        assert (said.reason, said.differs, said.result_hash) == (reason, (), "")
    # The field is named also when the request itself is never cached, and for nobody.
    explained = await why(mw, ask(store=True), neighbour=ask(seed=1), headers=[])
    assert explained.reason == "no-principal"
    assert explained.neighbour is not None
    assert explained.neighbour.differs == ("seed", "store")
    assert explained.neighbour.answer is None


async def test_a_request_that_cannot_be_compared_after_all_is_no_neighbour(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How deeply JSON may be nested depends on how deep the stack is already."""
    mw = gateway()
    await fetch(mw, ask(seed=1))
    await fetch(mw, ask(seed=2))
    explain = mw._parts.identifier.explain

    def explained(_: Identifier, *given: Any) -> Explanation:
        if given[2] == ask(seed=2):
            raise DoubtfulJSONError
        return explain(*given)

    monkeypatch.setattr(Identifier, "explain", explained)
    said = (await why(mw)).neighbour
    assert said is not None
    assert said.differs == ("seed",)
    assert said.result_hash == (await why(mw, ask(seed=1))).result_hash


async def test_the_lifetime_that_is_asked_for_counts(gateway: Gateway) -> None:
    """In the head and in LiteLLM's object; the least of all, and no more than is granted."""
    mw = gateway(result_ttl_s=100.0)
    for ttl, in_body, lifetime_s in (
        (b"30", {}, 30.0),
        (b"x", {}, 100.0),
        (b"30", {"ttl": 20}, 20.0),
        (b"3000", {"s-maxage": 5}, 100.0),
    ):
        body = asking({"cache": in_body}) if in_body else ask()
        said = await why(mw, body, headers=[KEY, (b"routecache-ttl", ttl)])
        assert said.ttl_s == lifetime_s
    assert said.asked_in_body == ("s-maxage=5",)
    said = await why(mw, asking({"cache": {"no-cache": True, "no-store": True}}))
    assert (said.outcome, said.reason, said.ttl_s) == ("bypass", "no-store", 0.0)


async def test_the_policy_of_the_request_is_the_one_it_is_explained_by(gateway: Gateway) -> None:
    seen: list[LLMRequest] = []

    def decide(request: LLMRequest) -> float | None:
        seen.append(request)
        if request.prompt_text == "never":
            raise RuntimeError(request.prompt_text)
        return 9.0 if request.prompt_text == "short" else None

    overrides = (Override(models=frozenset({"m"}), ttl_s=7.0),)
    mw = gateway(policy=CachePolicy(overrides=overrides, decide=decide))
    assert (await why(mw)).ttl_s == 7.0
    assert (await why(mw, ask("short"))).ttl_s == 9.0
    said = await why(mw, ask("never", cache={"ttl": 5}))
    assert (said.outcome, said.reason, said.ttl_s) == ("bypass", "policy", 0.0)
    assert seen[-1].body == ask("never")
    signed = [KEY, (b"content-digest", b"x")]
    await why(mw, ask("never", cache={"ttl": 5}), headers=signed)
    assert seen[-1].body == ask("never", cache={"ttl": 5})
