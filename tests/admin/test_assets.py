"""The page's files: whole, small on the wire, and none of them from elsewhere."""

import gzip
import hashlib
import re
from importlib.resources import files

import pytest

from routecache_middleware.admin.assets import FILES, local_path
from tests.admin.kit import Admin, quiet_cache
from tests.support.asgi import scope_of

PAGE = files("routecache_middleware.admin").joinpath("page")
OWN = [name for name, _ in FILES.values() if not name.startswith("vendor/")]
ECHARTS_5_6_0 = "bf4a223524e40b77c304bec67e1222cf551f14880cf42c69dc046558e11c07b1"


@pytest.fixture
def admin() -> Admin:
    return Admin(quiet_cache())


@pytest.mark.parametrize("path", FILES)
async def test_every_file_is_served_to_everybody_and_kept_only_if_asked_again(
    admin: Admin, path: str
) -> None:
    answer = await admin.get(path, token="")
    name, media_type = FILES[path]
    assert answer.status == 200
    assert answer.body == PAGE.joinpath(name).read_bytes()
    assert answer.get("content-type") == media_type
    assert answer.get("cache-control") == "no-cache"
    tag = (answer.get("etag") or "").encode()
    again = await admin.get(path, token="", headers=[(b"if-none-match", tag)])
    assert (again.status, again.body) == (304, b"")


async def test_files_are_packed_for_who_can_unpack_them(admin: Admin) -> None:
    path = "/assets/echarts.min.js"
    headers = [(b"accept-encoding", b"br, gzip")]
    answer = await admin.get(path, token="", headers=headers)
    assert answer.get("content-encoding") == "gzip"
    assert answer.get("vary") == "accept-encoding"
    assert len(answer.body) < 400_000
    assert gzip.decompress(answer.body) == PAGE.joinpath(FILES[path][0]).read_bytes()


async def test_head_says_how_large_it_is(admin: Admin) -> None:
    answer = await admin.get("/", token="", scope=scope_of(path="/", method="HEAD"))
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.get("content-length") or 0) == len(PAGE.joinpath("index.html").read_bytes())


@pytest.mark.parametrize(
    "path", ["/assets/../app.py", "/assets/vendor/echarts.min.js", "/page.css"]
)
async def test_nothing_else_is_served_without_a_token(admin: Admin, path: str) -> None:
    assert (await admin.get(path, token="")).status == 401


def test_all_that_the_page_names_is_there() -> None:
    text = "".join(PAGE.joinpath(name).read_text("utf-8") for name in OWN)
    named = set(re.findall(r'(?:src|href)="(assets/[^"]+)"', text))
    named |= {f"assets/{name}" for name in re.findall(r'from "\./([^"]+)"', text)}
    assert {f"/{name}" for name in named} == set(FILES) - {"/"}


@pytest.mark.parametrize("name", OWN)
def test_no_file_of_ours_names_another_host_or_has_markup_made_of_text(name: str) -> None:
    text = PAGE.joinpath(name).read_text("utf-8")
    assert re.findall(r"(?:https?:)?//[\w.]+\.\w+", text) == []
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|style=", text)


_TEXT = ("ink", "soft", "accent", "danger")
_DRAWN = ("hit", "stale", "coalesced", "miss", "error", "bypass", "edge")
_LABELLED = ("c1", "c2", "c3", "c4", "c5", "c6")  # text of the panel's colour lies on them


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    digits = colour if len(colour) == 6 else "".join(digit * 2 for digit in colour)
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2.2, 1..21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'])
def test_colours_can_be_told_from_what_they_lie_on(theme: str) -> None:
    """WCAG 2.2 AA: text 4.5 (1.4.3), what is drawn and the edges of controls 3 (1.4.11)."""
    css = PAGE.joinpath("page.css").read_text("utf-8")
    block = css[css.index(theme) :].partition("}")[0]
    colours = dict(re.findall(r"--(\w+): #(\w+)", block))
    for name in (*_TEXT, *_LABELLED):
        assert contrast(colours[name], colours["panel"]) >= 4.5, name
    for name in _TEXT:
        assert contrast(colours[name], colours["page"]) >= 4.5, name
    for name in _DRAWN:
        assert contrast(colours[name], colours["panel"]) >= 3, name


def test_the_chart_library_is_as_it_was_released_with_its_licence() -> None:
    """ECharts 5.6.0 from npm: ``npm pack echarts@5.6.0``, ``package/dist/echarts.min.js``."""
    vendor = PAGE.joinpath("vendor")
    found = hashlib.sha256(vendor.joinpath("echarts.min.js").read_bytes()).hexdigest()
    assert found == ECHARTS_5_6_0
    assert "Apache License" in vendor.joinpath("echarts.LICENSE").read_text("utf-8")
    assert "ECharts" in vendor.joinpath("echarts.NOTICE").read_text("utf-8")
    assert "Bostock" in vendor.joinpath("echarts.LICENSE-d3").read_text("utf-8")


@pytest.mark.parametrize(
    ("path", "root", "local"),
    [
        ("/stats", "", "/stats"),
        ("/routecache/stats", "/routecache", "/stats"),
        ("/a/b/", "/a/b", "/"),
        ("/stats", "/routecache", "/stats"),  # servers of old strip the prefix themselves
        ("/routecaches", "/routecache", "/routecaches"),
    ],
)
def test_where_it_is_mounted_makes_no_difference(path: str, root: str, local: str) -> None:
    assert local_path(scope_of(path=path, root_path=root)) == local
