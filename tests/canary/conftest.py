"""Ears for a test; what was said has to be looked at in the end."""

from collections.abc import Iterator

import pytest

from tests.canary.ears import Ears, Kept, listening


@pytest.fixture
def ears(capfd: pytest.CaptureFixture[str]) -> Iterator[Ears]:
    """Hear everything; afterwards nothing secret may have been said, to the terminal neither."""
    yield from _listening(capfd, lambda _: True)


@pytest.fixture
def far_ears(capfd: pytest.CaptureFixture[str]) -> Iterator[Ears]:
    """The same for what another process says: here somebody asks it, with libraries that log."""
    yield from _listening(capfd, lambda _: False)


def _listening(capfd: pytest.CaptureFixture[str], keeps: Kept) -> Iterator[Ears]:
    with listening(keeps) as ears:
        yield ears
        said = capfd.readouterr()
        ears.hear("standard output", said.out)
        ears.hear("standard error", said.err)
        assert ears.leaks() == []
