"""A browser for the tests that look at the dashboard; only they load what drives it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.admin.browsing import CHROMIUM


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - not for all other tests

    with sync_playwright() as api:
        found = api.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()
