"""Ears for a test; what was said has to be looked at in the end."""

from collections.abc import Iterator

import pytest

from tests.canary.ears import Ears, listening


@pytest.fixture
def ears(capfd: pytest.CaptureFixture[str]) -> Iterator[Ears]:
    """Hear everything; afterwards nothing secret may have been said, to the terminal neither."""
    with listening() as ears:
        yield ears
        said = capfd.readouterr()
        ears.hear("standard output", said.out)
        ears.hear("standard error", said.err)
        assert ears.leaks() == []
