"""What an explanation shows, and how it says it."""

import math

import msgspec
import pytest

from routecache_middleware.core.body_directives import BodyDirectives
from routecache_middleware.core.directives import NO_DIRECTIVES, Directives
from routecache_middleware.core.explanation import (
    Neighbour,
    RequestExplanation,
    StoredAnswer,
    asked_in_body,
    asked_in_head,
    opaque,
    shown,
    shown_all,
    state_of,
)
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Entry, Outcome

ENTRY = Entry(
    layer=Layer.RESULT,
    body=b"x" * 1234,
    created_s=1000.0,
    freshness_lifetime_s=10.0,
    stale_if_error_s=5.0,
    model_id="m",
    content_type="application/json",
    cost_ms=7.0,
)


@pytest.mark.parametrize(
    ("now_s", "is_current", "state"),
    [
        (1000.0, True, "fresh"),
        (1012.0, True, "stale"),
        (1015.0, True, "expired"),
        (900.0, True, "expired"),  # from the future: its age cannot be known
        (1000.0, False, "invalidated"),
        (1015.0, False, "invalidated"),
    ],
)
def test_what_an_entry_is_good_for_has_one_word(
    now_s: float, state: str, *, is_current: bool
) -> None:
    assert state_of(ENTRY, is_current=is_current, now_s=now_s) == state


def test_an_answer_is_described_by_figures() -> None:
    """Age and what is left of the lifetime, never the body."""
    found = StoredAnswer.of(ENTRY, is_current=True, now_s=1012.3456)
    assert found == StoredAnswer(
        state="stale",
        age_s=12.346,
        ttl_s=-2.346,
        size_bytes=1234,
        shape="json",
        content_type="application/json",
        model="m",
        made_in_ms=7.0,
    )


@pytest.mark.parametrize(
    ("directives", "words"),
    [
        (NO_DIRECTIVES, ()),
        (
            Directives(no_cache=True, no_store=True, only_if_cached=True, no_transform=True),
            ("no-cache", "no-store", "only-if-cached", "no-transform"),
        ),
        (
            Directives(max_age_s=0, max_stale_s=3, min_fresh_s=4),
            ("max-age=0", "max-stale=3", "min-fresh=4"),
        ),
        (Directives(max_stale_s=math.inf), ("max-stale",)),
    ],
)
def test_directives_are_said_in_the_words_of_cache_control(
    directives: Directives, words: tuple[str, ...]
) -> None:
    assert asked_in_head(directives) == words


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (None, ()),
        (BodyDirectives(), ()),
        (
            BodyDirectives(Directives(no_cache=True, max_age_s=9), ttl_s=60.0),
            ("no-cache", "s-maxage=9", "ttl=60"),
        ),
        (
            BodyDirectives(namespace="of a customer", is_opted_in=False),
            ("namespace", "use-cache=false"),
        ),
    ],
)
def test_the_cache_object_is_said_in_its_own_words(
    asked: BodyDirectives | None, words: tuple[str, ...]
) -> None:
    """The name of a namespace is the client's text, so it stays out."""
    assert asked_in_body(asked) == words


def test_a_tenant_is_shown_as_the_beginning_of_a_hash() -> None:
    """Also one that only looks like a hash: an operator may name tenants by their keys."""
    made = "0123456789abcdef" * 2
    assert opaque(made, b"", is_hash=True) == "0123456789ab"
    hashed = opaque(made, b"", is_hash=False)
    assert len(hashed) == 12
    assert hashed != "0123456789ab"
    assert opaque("acme", b"", is_hash=False) != opaque("acme", b"s" * 16, is_hash=False)
    assert opaque("\ud800", b"", is_hash=False)
    assert [opaque(word, b"", is_hash=False) for word in ("", "shared", "anonymous")] == [
        "",
        "shared",
        "anonymous",
    ]


def test_names_are_cut_and_fit_for_json() -> None:
    assert shown("n" * 64) == "n" * 64
    assert shown("n" * 65) == "n" * 63 + "…"
    assert msgspec.json.encode(shown("\ud800")) == b'"\\\\ud800"'
    assert len(shown_all(["a"] * 100)) == 64


ANSWER = StoredAnswer.of(ENTRY, is_current=True, now_s=1002.0)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (RequestExplanation(outcome=Outcome.MISS), "miss"),
        (
            RequestExplanation(outcome=Outcome.HIT, because="It is there.", answer=ANSWER),
            "hit: It is there.\nstored: fresh, made 2 s ago, 1,234 bytes",
        ),
        (
            RequestExplanation(
                outcome=Outcome.MISS, last_discard="empty", discarded_because="It says nothing."
            ),
            "miss\nlast answer not stored (empty): It says nothing.",
        ),
        (
            RequestExplanation(
                outcome=Outcome.MISS,
                reason="absent",
                because="Nothing is there.",
                neighbour=Neighbour(
                    is_given=False,
                    differs=("seed", "n"),
                    differences=2,
                    result_hash="1",
                    answer=ANSWER,
                ),
                trouble="it rains",
            ),
            (
                "miss (absent): Nothing is there.\n"
                "nearest stored answer (fresh, made 2 s ago, 1,234 bytes) differs in: seed, n\n"
                "trouble: it rains"
            ),
        ),
        (
            RequestExplanation(
                outcome=Outcome.MISS,
                neighbour=Neighbour(
                    is_given=True, differs=("seed",), differences=70, result_hash="1"
                ),
            ),
            "miss\nthe one named differs in: seed, and 69 more",
        ),
        (
            RequestExplanation(
                outcome=Outcome.MISS, neighbour=Neighbour(is_given=True, result_hash="1")
            ),
            "miss\nthe one named differs in: nothing",
        ),
        (
            RequestExplanation(
                outcome=Outcome.MISS,
                neighbour=Neighbour(is_given=True, reason="store", because="It is kept."),
            ),
            "miss\nthe one named (store: It is kept.)",
        ),
    ],
)
def test_it_says_the_main_thing_in_words(said: RequestExplanation, text: str) -> None:
    assert str(said) == text
