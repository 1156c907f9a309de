"""The dashboard in a real browser: true numbers, nothing from elsewhere, and nothing that leaks."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.admin.browsing import CHROMIUM, SERIES, Page
from tests.admin.kit import TOKEN
from tests.support.child import ModuleChild

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

CHARTS = [
    *("c-rate", "c-outcomes", "c-bypass", "c-miss", "c-models", "c-latency", "c-versus"),
    *("c-waits", "c-errors", "c-tree", "c-ttl", "c-size", "c-age", "c-zipf"),
]
HELLO = [{"role": "user", "content": "hello"}]
OTHER_TOKEN = "another-token-from-now-on"
SECRETS = ("question", "word word", "key-0", "key-1", TOKEN, OTHER_TOKEN)


@pytest.fixture(scope="module")
def child() -> Iterator[ModuleChild]:
    found = ModuleChild("tests.admin.loaded")
    yield found
    found.close()


@pytest.fixture
def page(browser: Any, child: ModuleChild) -> Iterator[Page]:
    child.ask(f"token {TOKEN}")
    found = Page(browser, child, viewport={"width": 1600, "height": 1000})
    yield found
    found.context.close()


def test_a_wrong_token_is_told_so_and_the_right_one_lets_in(page: Page) -> None:
    page.sign_in("wrong-token-of-somebody")
    page.until("document.querySelector('#door-reason').textContent")
    assert "Authorization header" in page.text("door-reason")
    assert page.page.is_hidden("#main")
    assert "401" in page.errors.pop()  # the browser's own word for what was refused
    page.page.keyboard.type(TOKEN)
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector("#main:not([hidden])")
    assert page.errors == []


def test_cards_and_charts_show_what_has_happened(page: Page) -> None:
    page.enter()
    before = {name: int(value) for name, value in parsed(page.label("c-outcomes")).items()}
    counts = json.loads(page.child.ask("load 4"))
    page.frames(3)
    now = {name: int(value) for name, value in parsed(page.label("c-outcomes")).items()}
    moved = {name: now[name] - before.get(name, 0) for name in now}
    words = {"HIT": "hit", "MISS": "miss", "COALESCED": "shared", "BYPASS": "bypass"}
    assert {words[name]: count for name, count in counts.items()} == {
        name: count for name, count in moved.items() if count
    }
    drawn = {
        name: sum(value for _, value in data) for name, data in page.series("c-outcomes").items()
    }
    assert drawn == {name: count for name, count in now.items() if count}
    asked = now["hit"] + now["miss"] + now["shared"]
    assert page.text("rate-5m") == f"{round(100 * now['hit'] / asked, 1):g}%"
    assert page.label("c-rate") == f"Hit rate: answers {page.text('rate-5m')}"
    total = told(page)["cards"]
    assert int(page.text("served").replace(",", "")) == total["served"]
    assert int(page.text("tokens").replace(",", "")) == 150 * total["served"]
    assert page.text("usd") == f"${total['served'] * (100 * 10 + 50 * 30) / 1e6:.4f}"
    assert page.text("backend") == "up"
    assert page.text("bytes").endswith("KiB")
    assert page.text("limit") == "of 47.7 MiB"
    assert counts["COALESCED"] >= 4
    assert page.label("c-waits") == f"{now['shared']} waited"
    assert "temperature" in page.label("c-bypass")
    assert "absent" in page.label("c-miss")
    assert "request" in page.label("c-miss")
    assert set(parsed(page.label("c-models"), sep=", ")) == {"claude", "gpt-large", "gpt-small"}
    assert page.errors == []


def parsed(label: str, sep: str = ", ") -> dict[str, str]:
    """Return the pairs of a chart's description: words, and a number at the end of each."""
    pairs = (part.rpartition(" ") for part in label.split(sep) if " " in part)
    return {name: value for name, _, value in pairs}


def told(page: Page) -> Any:
    """Return what the app itself says now."""
    return page.told("history")


def test_every_chart_is_drawn_and_says_in_words_what_it_shows(page: Page) -> None:
    page.enter()
    page.child.ask("load 2")
    page.page.reload()  # what is stored is asked for at once
    page.frames(3)
    page.until("document.querySelector('#c-zipf').getAttribute('aria-label')")
    for name in CHARTS:
        assert page.label(name), name
        if not page.page.is_visible(f"#{name} ~ .empty"):
            assert page.page.query_selector(f"#{name} canvas") is not None, name
            assert all(page.series(name).values()), name
    (tree,) = page.page.evaluate(SERIES, "c-tree")
    models = {one["name"] for tenant in tree[1] for one in tenant["children"]}
    assert models == {"claude", "gpt-large", "gpt-small"}
    assert len(page.page.query_selector_all("#top tbody tr")) >= 9
    assert "memory" in page.text("nodes")
    page.page.select_option("#layer", "route")
    assert page.page.is_visible("#c-latency ~ .empty")
    assert page.errors == []


def test_an_invalidation_is_tried_then_confirmed_with_the_keyboard_alone(page: Page) -> None:
    page.enter()
    page.child.ask("load 1")
    page.page.focus("#invalidate [name=value]")
    page.page.keyboard.type("claude")
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector("#confirm:not([hidden])")
    assert "everything of model claude" in page.text("invalidated")
    entries = page.text("entries")
    page.page.keyboard.press("Enter")  # the focus is on the button that confirms
    page.until("document.querySelector('#invalidated').textContent.startsWith('Done')")
    page.until("document.querySelector('#audit').textContent.includes('model claude')")
    assert page.text("audit").count("everything of model claude") == 1
    assert page.text("entries") == entries  # freed when somebody comes by
    page.page.fill("#invalidate [name=value]", "claude")
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector("#confirm:not([hidden])")
    assert "claude: 0 of" in page.text("invalidated")
    page.page.fill("#invalidate [name=value]", "gpt-small")
    assert page.page.is_hidden("#confirm")  # what was tried is not what stands there now
    assert page.errors == []


def test_one_of_the_answers_served_most_can_be_invalidated(page: Page) -> None:
    page.enter()
    page.child.ask("load 3")
    page.page.reload()
    page.page.wait_for_selector("#top button")
    entry = page.page.text_content("#top tbody tr:first-child code")
    page.page.click("#top tbody tr:first-child button")
    page.page.wait_for_selector("#confirm:not([hidden])")
    assert page.text("invalidated").startswith(f"This would drop entry {entry}: 1 of")
    page.page.click("#confirm")
    page.until("document.querySelector('#invalidated').textContent.startsWith('Done')")
    assert page.errors == []


def test_a_request_can_be_explained(page: Page) -> None:
    page.enter()
    page.page.fill(
        "#explain textarea", json.dumps({"model": "m", "messages": HELLO, "temperature": 1.2})
    )
    page.page.fill("#explain [name=tenant]", "somebody")
    page.page.click("#explain button")
    page.until("document.querySelector('#explained').textContent")
    assert page.text("explained").startswith("bypass (temperature)")
    assert "counted: " in page.text("explained")
    assert page.errors == []


def test_a_token_that_is_withdrawn_shows_the_sign_in(page: Page) -> None:
    page.enter()
    page.child.ask(f"token {OTHER_TOKEN}")
    page.page.wait_for_selector("#door:not([hidden])", timeout=30_000)
    assert page.page.is_hidden("#main")
    assert page.page.evaluate("sessionStorage.getItem('routecache.token')") is None
    assert all("401" in error for error in page.errors)


def test_a_coordinator_that_falls_silent_is_told_of(browser: Any) -> None:
    child = ModuleChild("tests.admin.loaded")
    page = Page(browser, child)
    try:
        page.enter()
        child.ask("stall")
        page.until("document.querySelector('#state').textContent.startsWith('Numbers are not')")
        page.until("document.querySelector('#breakers').textContent.includes('did not answer')")
        assert all("503" in error for error in page.errors)
    finally:
        page.context.close()
        child.close()


def test_a_connection_that_falls_silent_is_told_of_and_given_up(page: Page) -> None:
    """As one does that a sleeping laptop or a proxy has lost: nothing comes, nor any error."""
    held: list[Any] = []
    page.enter()
    # Neither answered nor refused. It has to be a function.
    page.page.route("**/live?*", lambda route: held.append(route))  # noqa: PLW0108 - see above
    page.page.click("[data-window='1h']")
    page.until("document.querySelector('#banner').textContent.includes('says nothing')")
    page.page.unroute("**/live?*")
    page.until("document.querySelector('#state').textContent.startsWith('Live')")


def test_a_server_that_is_away_for_a_moment_signs_nobody_out(page: Page) -> None:
    page.enter()
    page.page.route("**/meanings", lambda route: route.abort())
    page.page.reload()
    page.until("document.querySelector('#state').textContent.startsWith('No connection')")
    assert page.page.is_hidden("#door")
    page.page.unroute("**/meanings")
    page.until("document.querySelector('#state').textContent.startsWith('Live')")
    assert page.page.is_hidden("#door")


def test_signing_out_forgets_the_token_and_asks_for_nothing_more(page: Page) -> None:
    page.enter()
    page.page.click("#leave")
    assert page.page.is_hidden("#main")
    asked = len(page.asked)
    page.page.wait_for_timeout(1500)
    assert len(page.asked) == asked
    assert page.errors == []


def test_the_window_can_be_chosen(page: Page) -> None:
    page.enter()
    page.child.ask("load 1")
    for name in ("24h", "1h"):
        page.page.click(f"[data-window='{name}']")
        page.frames(2)
        assert page.page.get_attribute(f"[data-window='{name}']", "aria-pressed") == "true"
        assert page.page.get_attribute("[data-window='5m']", "aria-pressed") == "false"
        assert any(f"window={name}" in url for url in page.asked)
        assert int(parsed(page.label("c-outcomes"))["hit"]) > 0
    assert page.errors == []


@pytest.mark.parametrize("width", [400, 900, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_follows_the_light(
    browser: Any, child: ModuleChild, width: int, scheme: str
) -> None:
    child.ask(f"token {TOKEN}")
    page = Page(browser, child, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.enter()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.page.evaluate("document.documentElement.dataset.theme") == scheme
    page.page.click("#theme")
    other = {"light": "dark", "dark": "light"}[scheme]
    assert page.page.evaluate("document.documentElement.dataset.theme") == other
    for name in CHARTS:
        box = page.page.query_selector(f"#{name}").bounding_box()
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= width, name
    assert page.errors == []
    page.context.close()


def test_nothing_comes_from_elsewhere_and_nothing_says_what_was_asked_or_answered(
    browser: Any, child: ModuleChild
) -> None:
    """Prompts, answers, credentials and tokens are in no page, script or figure."""
    child.ask(f"token {TOKEN}")
    child.ask("load 2")
    page = Page(browser, child)
    bodies: list[tuple[str, str]] = []

    def keep(answer: Any) -> None:
        if "live" not in answer.url:
            bodies.append((answer.url, answer.text()))

    page.page.on("requestfinished", lambda request: keep(request.response()))
    page.enter()
    page.page.wait_for_selector("#top button")
    bodies.append(("the page", page.page.content()))
    bodies.append(("the stream", json.dumps(told(page))))
    assert all(url.startswith(page.url) or url == "data:," for url in page.asked)
    found = [
        (url, secret)
        for url, text in bodies
        for secret in SECRETS
        if secret in text and not url.endswith("echarts.min.js")
    ]
    assert found == []
    assert {"distribution", "cluster", "audit"} <= {url.rpartition("/")[2] for url, _ in bodies}
    page.context.close()
