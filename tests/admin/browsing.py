"""The dashboard as a test looks at it, in a real browser."""

import shutil
from typing import Any

from tests.admin.kit import TOKEN
from tests.support.child import ModuleChild, wait_until

__all__ = ["CHROMIUM", "SERIES", "Page"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SERIES = """(id) => echarts.getInstanceByDom(document.getElementById(id)).getOption().series
    .map((one) => [one.name, one.data])"""


class Page:
    """A page that a test looks at, and all that it asked for and was told."""

    def __init__(self, browser: Any, child: ModuleChild, **context: Any) -> None:
        self.child = child
        self.url = f"http://127.0.0.1:{child.port}/routecache/"
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _said(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)

    def sign_in(self, token: str = TOKEN) -> None:
        self.page.goto(self.url)
        self.page.wait_for_selector("#door:not([hidden])")
        self.page.keyboard.type(token)  # the field has the focus
        self.page.keyboard.press("Enter")

    def enter(self) -> None:
        self.sign_in()
        self.page.wait_for_selector("#main:not([hidden])")
        self.frames(2)

    def frames(self, more: int) -> None:
        """Wait for so many more updates."""
        seen = int(self.page.evaluate("document.body.dataset.frames ?? 0"))
        self.until(f"Number(document.body.dataset.frames) >= {seen + more}")

    def until(self, is_so: str, *, timeout_s: float = 30.0) -> None:
        """Wait until an expression is true; not in the page, whose policy forbids to compile."""
        wait_until(lambda: self._now(is_so), is_so, timeout_s=timeout_s)

    def _now(self, is_so: str) -> bool:
        self.page.wait_for_timeout(50)  # lets the page go on
        return bool(self.page.evaluate(is_so))

    def text(self, name: str) -> str:
        return str(self.page.text_content(f"#{name}"))

    def label(self, name: str) -> str:
        return str(self.page.get_attribute(f"#{name}", "aria-label"))

    def series(self, name: str) -> dict[str, Any]:
        return dict(self.page.evaluate(SERIES, name))

    def told(self, path: str) -> Any:
        """Return what the app itself says now."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        return self.context.request.get(self.url + path, headers=headers).json()

    def rows(self, table: str) -> list[list[str]]:
        """Return the cells of a table's body."""
        found: list[list[str]] = self.page.evaluate(
            """(id) => [...document.getElementById(id).tBodies[0].rows]
                .map((row) => [...row.cells].map((cell) => cell.textContent))""",
            table,
        )
        return found
