"""Every reason is told in one sentence."""

import re

import pytest

from routecache_middleware.core.models import BypassReason, DiscardReason, MissReason
from routecache_middleware.core.reasons import MEANINGS, NotOurs, Reason, meaning, reason_table

ALL: list[Reason] = [*BypassReason, *MissReason, *DiscardReason, *NotOurs]


@pytest.mark.parametrize("reason", ALL, ids=lambda r: f"{type(r).__name__}.{r}")
def test_every_reason_has_one_sentence(reason: Reason) -> None:
    """Capital, full stop, nothing that breaks a table; add it to ``core/reasons.py``."""
    assert re.fullmatch(r"[A-Z][^|\n]*[^.]\.", meaning(reason))


def test_the_table_is_of_reasons_that_there_are() -> None:
    assert [reason for group in MEANINGS.values() for reason in group] == ALL


def test_a_token_that_two_kinds_have_means_two_things() -> None:
    """``no-store`` of a request and of an answer are equal as words."""
    assert BypassReason.NO_STORE.value == DiscardReason.NO_STORE.value
    assert meaning(BypassReason.NO_STORE) != meaning(DiscardReason.NO_STORE)


def test_the_documentation_lists_them_all() -> None:
    table = reason_table()
    assert len(table.splitlines()) == len(ALL) + 2
    assert all(f"| `{reason}` | {meaning(reason)} |" in table for reason in ALL)
