"""The dashboard in a real browser when things are not as usual, and what it says was saved."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.admin.browsing import CHROMIUM, Page
from tests.admin.kit import TOKEN
from tests.support.child import ModuleChild

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

UNKNOWN = "\u2013"
AXIS = """(id) => { const [axis] = echarts.getInstanceByDom(document.getElementById(id))
    .getOption().xAxis; return [axis.min, axis.max]; }"""


@pytest.fixture(scope="module")
def child() -> Iterator[ModuleChild]:
    found = ModuleChild("tests.admin.loaded")
    yield found
    found.close()


@pytest.fixture
def page(browser: Any, child: ModuleChild) -> Iterator[Page]:
    found = Page(browser, child, viewport={"width": 1200, "height": 900})
    yield found
    found.context.close()


def test_what_was_saved_is_told_by_layer_model_and_tenant(page: Page) -> None:
    page.child.ask("load 3")
    page.enter()
    found = page.told("savings")
    page.until("document.querySelector('#net').textContent")
    layers, models, tenants = (page.rows(f"by-{by}") for by in ("layer", "model", "tenant"))
    assert [row[0] for row in layers] == ["answers"]
    assert {row[0] for row in models} == set(found["by_model"])
    assert {row[0] for row in tenants} == set(found["by_tenant"])
    for rows in (layers, models, tenants):
        assert sum(int(row[1].replace(",", "")) for row in rows) == found["requests"]
        cents = sum(float(row[3].removeprefix("$")) for row in rows)
        assert cents == pytest.approx(found["usd"], abs=1e-3)
    assert page.text("net").startswith(f"{found['requests']} requests spared ")
    assert "The cache itself took " in page.text("net")
    assert page.text("n-saved") == "since the process began"
    assert page.page.is_hidden("#shadow-panel")
    assert page.errors == []


def test_charts_reach_over_the_whole_window_and_say_what_a_point_is(page: Page) -> None:
    page.child.ask("load 1")
    page.enter()
    low, high = page.page.evaluate(AXIS, "c-outcomes")
    assert high - low == pytest.approx(300_000)
    assert page.text("n-outcomes") == "requests a second"
    page.page.click("[data-window='24h']")
    page.frames(2)
    low, high = page.page.evaluate(AXIS, "c-outcomes")
    assert high - low == pytest.approx(86_400_000)
    assert page.text("n-outcomes") == "requests in 4 min"
    assert page.page.text_content("#t-live small") == "the last 24 hours"
    page.page.select_option("#outcomes-of", "route")
    assert page.page.is_visible("#c-outcomes ~ .empty")
    assert page.text("n-outcomes") == ""
    assert page.errors == []


def test_reasons_are_explained_to_who_unfolds_them_with_the_keyboard(page: Page) -> None:
    page.child.ask("load 1")
    page.enter()
    page.page.focus("details:has(#m-bypass) summary")
    page.page.keyboard.press("Enter")
    assert page.page.is_visible("#m-bypass")
    told = page.told("meanings")
    assert told["bypass"]["temperature"].replace("`", "") in page.text("m-bypass")
    assert told["miss"]["absent"] in page.text("m-miss")
    assert page.errors == []


def test_a_key_that_is_held_down_since_the_dry_run_confirms_nothing(page: Page) -> None:
    page.child.ask("load 1")
    page.enter()
    page.page.fill("#invalidate [name=value]", "gpt-small")
    page.page.keyboard.down("Enter")
    page.page.wait_for_selector("#confirm:not([hidden])")
    for _ in range(3):
        page.page.keyboard.down("Enter")  # repeated, as it was not let go
    page.frames(1)
    assert page.text("invalidated").startswith("This would drop")
    page.page.keyboard.up("Enter")
    page.page.keyboard.press("Enter")
    page.until("document.querySelector('#invalidated').textContent.startsWith('Done')")
    assert page.page.evaluate("document.activeElement.id") == "invalidated"
    assert page.errors == []


def test_names_of_models_are_text_however_many_and_long_they_are(browser: Any) -> None:
    child = ModuleChild("tests.admin.loaded")
    page = Page(browser, child, viewport={"width": 400, "height": 900})
    names = [f"vendor-{number}/model" for number in range(60)]
    names += ["<img src=x onerror=alert(1)>", "long-" * 40]
    try:
        page.enter()  # the history begins with that
        for name in reversed(names):
            child.ask(f"ask {json.dumps(name)}")
        page.until("document.querySelector('#by-model').textContent.includes('<img src=x')")
        assert page.page.query_selector("main img") is None
        assert page.page.evaluate("document.documentElement.scrollWidth") <= 400
        page.until("document.querySelector('#n-models').textContent.startsWith('the 10 most')")
        page.page.reload()  # all of them are in the next answer
        page.frames(2)
        page.until("document.querySelector('#net').textContent")
        assert page.text("n-models") == "the 10 most asked for, of 51"
        assert len(page.rows("by-model")) == 62
        assert max(len(row[0]) for row in page.rows("by-model")) < 70
        assert "No price is known of " in page.text("net")
        assert page.errors == []
    finally:
        page.context.close()
        child.close()


@pytest.mark.parametrize("mode", ["off", "shadow"])
def test_where_nothing_may_be_served_no_rate_of_0_is_shown(browser: Any, mode: str) -> None:
    child = ModuleChild("tests.admin.loaded", mode)
    page = Page(browser, child)
    try:
        page.enter()
        page.until("document.querySelector('#net').textContent")
        assert page.page.is_hidden("#shadow-panel")
        child.ask("load 2")
        page.page.reload()
        page.frames(3)
        words = {"off": "The cache is off: ", "shadow": "Shadow mode: "}
        assert page.text("banner").startswith(words[mode])
        assert [page.text(f"rate-{name}") for name in ("5m", "1h", "24h")] == [UNKNOWN] * 3
        assert page.label("c-rate").startswith("Hit rate: ")
        empty = page.page.text_content("#c-rate ~ .empty")
        assert empty == "Nothing is served in this mode"
        page.until("document.querySelector('#net').textContent")
        found = page.told("savings")["shadow"]
        assert page.page.is_visible("#shadow-panel") == (mode == "shadow")
        if mode == "shadow":
            assert page.rows("shadow")[0] == ["Would have been served", str(found["served"])]
            assert found["served"] > 0
        assert page.errors == []
    finally:
        page.context.close()
        child.close()


def test_an_empty_cache_is_not_said_to_have_looked_everything_up(browser: Any) -> None:
    child = ModuleChild("tests.admin.loaded")
    page = Page(browser, child)
    try:
        page.enter()
        for name in ("c-rate", "c-outcomes", "c-bypass", "c-miss"):
            assert page.label(name) in {"Nothing was asked in this time", "Hit rate: "} or (
                page.page.text_content(f"#{name} ~ .empty") == "Nothing was asked in this time"
            )
        assert (page.text("entries"), page.text("bytes")) == ("0", "0 B")
        assert page.errors == []
    finally:
        page.context.close()
        child.close()


def test_a_backend_that_is_down_is_shown_and_so_is_its_return(browser: Any) -> None:
    child = ModuleChild("tests.admin.loaded")
    page = Page(browser, child)
    try:
        page.enter()
        child.ask("down")
        page.until("document.querySelector('#backend').textContent === 'down'")
        assert page.text("state").startswith("Backend down")
        assert page.text("banner").startswith("The coordinator is down")
        child.ask("up")
        page.until("document.querySelector('#backend').textContent === 'up'")
        assert page.page.is_hidden("#banner")
        assert page.errors == []
    finally:
        page.context.close()
        child.close()


def test_the_page_outlives_its_server_and_says_how_old_its_figures_are(browser: Any) -> None:
    child = ModuleChild("tests.admin.loaded")
    page = Page(browser, child)
    try:
        page.enter()
        child.close()
        page.until("document.querySelector('#state').textContent === 'No connection'")
        assert "All figures are of " in page.text("banner")
        assert page.page.is_visible("#main")
        child = ModuleChild("tests.admin.loaded", "on", str(child.port))
        page.until("document.querySelector('#state').textContent.startsWith('Live')")
        assert page.page.is_hidden("#banner")
        assert page.page.evaluate("sessionStorage.getItem('routecache.token')") == TOKEN
    finally:
        page.context.close()
        child.close()
