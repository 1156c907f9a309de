"""What LiteLLM is told of the hits that it did not see."""

import asyncio
import json
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger

from routecache_middleware.adapters.litellm.fastlane.leases import Accepted, Lease
from routecache_middleware.adapters.litellm.fastlane.logged import log_hits
from routecache_middleware.adapters.litellm.fastlane.report import Report, Tally
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Entry

SOON_S = 0.01


def who(key: str = "hash", model: str = "m") -> Accepted:
    names = {"user_api_key_team_id": "t", "user_api_key_end_user_id": "u"}
    return Accepted(key, model, "u", {"user_api_key": key, **names})


def entry(tokens: int = 10) -> Entry:
    usage = {"prompt_tokens": tokens, "completion_tokens": 2, "total_tokens": tokens + 2}
    message = {"role": "assistant", "content": "hi"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "1", "object": "chat.completion", "model": "m", "choices": [choice]}
    return Entry(
        Layer.RESULT,
        json.dumps({**body, "usage": usage}).encode(),
        0.0,
        60.0,
        has_usage=True,
        headers=(
            (b"x-litellm-model-name", b"openai/gpt-4o-mini"),
            (b"x-litellm-model-id", b"deployment-1"),
        ),
    )


class Book:
    """Takes tallies."""

    def __init__(self) -> None:
        self.tallies: list[Tally] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False

    async def __call__(self, tally: Tally) -> None:
        await self.gate.wait()
        if self.fails:
            raise RuntimeError("the logger is broken")
        self.tallies.append(tally)


async def settled(report: Report) -> None:
    await asyncio.sleep(SOON_S * 3)
    await report.aclose()


async def test_hits_are_summed_up_per_key_and_model() -> None:
    book = Book()
    report = Report(book, every_s=SOON_S)
    served = entry()
    leases = [Lease(who(), 1.0, report.add), Lease(who(), 1.0, report.add)]
    leases.append(Lease(who(model="other"), 1.0, report.add))
    for lease in leases:
        for _ in range(5):
            lease.served(served)
    await settled(report)
    assert {(t.accepted.model, t.hits) for t in book.tallies} == {("m", 10), ("other", 5)}
    assert [count for t in book.tallies for _, count in t.entries.values()] == [10, 5]
    assert (report.reported, report.dropped) == (15, 0)
    assert [lease.hits for lease in leases] == [0, 0, 0]


async def test_a_hit_is_reported_once() -> None:
    book = Book()
    report = Report(book, every_s=SOON_S)
    lease = Lease(who(), 1.0, report.add)
    for _ in range(3):
        lease.served(None)
        await asyncio.sleep(SOON_S * 3)
    await settled(report)
    assert [tally.hits for tally in book.tallies] == [1, 1, 1]


async def test_a_slow_logger_makes_sums_larger_not_more() -> None:
    book = Book()
    report = Report(book, every_s=SOON_S)
    book.gate.clear()
    lease = Lease(who(), 1.0, report.add)
    for _ in range(20):
        lease.served(None)
        await asyncio.sleep(SOON_S * 1.5)
    book.gate.set()
    await settled(report)
    assert len(book.tallies) <= 3
    assert report.reported == 20


async def test_more_keys_than_can_wait_are_dropped_and_counted() -> None:
    book = Book()
    report = Report(book, every_s=SOON_S, max_tallies=4)
    for number in range(10):
        lease = Lease(who(f"key-{number}"), 1.0, report.add)
        lease.served(None)
        lease.served(None)
    await settled(report)
    assert (report.reported, report.dropped) == (8, 12)


async def test_a_logger_that_fails_costs_no_more_than_its_report() -> None:
    book = Book()
    book.fails = True
    report = Report(book, every_s=SOON_S)
    Lease(who(), 1.0, report.add).served(None)
    await settled(report)
    assert (report.reported, report.dropped) == (0, 1)


async def test_closing_reports_what_is_left_at_once() -> None:
    book = Book()
    report = Report(book, every_s=60.0)
    Lease(who(), 1.0, report.add).served(None)
    await report.aclose()
    assert [tally.hits for tally in book.tallies] == [1]
    await report.aclose()


async def test_closing_does_not_wait_for_a_logger_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("routecache_middleware.adapters.litellm.fastlane.report._CLOSING_S", 0.05)
    book = Book()
    book.gate.clear()
    report = Report(book, every_s=60.0)
    for number in range(3):
        Lease(who(f"key-{number}"), 1.0, report.add).served(None)
    async with asyncio.timeout(5):
        await report.aclose()
    assert report.dropped == 3


class Seen(CustomLogger):
    """Keeps the payloads that LiteLLM's logging gives to callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self.payloads: list[dict[str, Any]] = []

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        self.payloads.append(kwargs["standard_logging_object"])


async def test_litellm_logs_them_as_hits_of_its_own() -> None:
    seen = Seen()
    litellm.callbacks = [seen]
    litellm._async_success_callback = [seen]
    served = entry()
    await log_hits(Tally(who(), 5, {id(served): (served, 4)}))
    (payload,) = seen.payloads
    assert payload["cache_hit"] is True
    assert payload["response_cost"] == 0.0
    assert payload["saved_cache_cost"] == pytest.approx(5 * (10 * 1.5e-7 + 2 * 6e-7))
    assert (payload["prompt_tokens"], payload["completion_tokens"]) == (50, 10)
    assert (payload["model_group"], payload["model_id"]) == ("m", "deployment-1")
    assert payload["end_user"] == "u"
    assert payload["metadata"]["user_api_key_team_id"] == "t"
    assert payload["metadata"]["spend_logs_metadata"] == {"routecache_hits": 5}


async def test_what_was_saved_is_priced_as_the_model_that_served() -> None:
    """A group may bear the name of a model with another price: here ``gpt-4o``."""
    seen = Seen()
    litellm.callbacks = [seen]
    litellm._async_success_callback = [seen]
    served = entry()
    await log_hits(Tally(who(model="gpt-4o"), 1, {id(served): (served, 1)}))
    (payload,) = seen.payloads
    assert payload["saved_cache_cost"] == pytest.approx(10 * 1.5e-7 + 2 * 6e-7)
    assert payload["model_group"] == "gpt-4o"


async def test_of_an_unknown_model_litellm_is_told_all_the_same() -> None:
    seen = Seen()
    litellm.callbacks = [seen]
    litellm._async_success_callback = [seen]
    await log_hits(Tally(who(model="nobody-knows-it"), 2, {}))
    (payload,) = seen.payloads
    assert payload["metadata"]["spend_logs_metadata"] == {"routecache_hits": 2}
    assert payload["total_tokens"] == 0
