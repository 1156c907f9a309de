"""The page and what belongs to it: files of this package, read once, the same for everybody."""

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["FILES", "Assets", "local_path"]

FILES: Final[Mapping[str, tuple[str, str]]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/assets/page.css": ("page.css", "text/css; charset=utf-8"),
    "/assets/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/assets/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/assets/drawing.js": ("drawing.js", "text/javascript; charset=utf-8"),
    "/assets/live.js": ("live.js", "text/javascript; charset=utf-8"),
    "/assets/tables.js": ("tables.js", "text/javascript; charset=utf-8"),
    "/assets/savings.js": ("savings.js", "text/javascript; charset=utf-8"),
    "/assets/stored.js": ("stored.js", "text/javascript; charset=utf-8"),
    "/assets/words.js": ("words.js", "text/javascript; charset=utf-8"),
    "/assets/echarts.min.js": ("vendor/echarts.min.js", "text/javascript; charset=utf-8"),
}
"""Path to file and media type."""

_NOT_MODIFIED: Final = 304


class Assets:
    """Finds them."""

    def find(self, method: str, path: str) -> "_Asset | None":
        """Return what is at a path, or None."""
        if method not in {"GET", "HEAD"} or path not in FILES:
            return None
        return _read(path)


class _Asset:
    """One file, as an ASGI app."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self._plain = content
        self._packed = gzip.compress(content, 9, mtime=0)
        self._media_type = media_type
        self._tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from starlette.datastructures import Headers  # noqa: PLC0415 - not before the app is made
        from starlette.responses import Response  # noqa: PLC0415 - as above

        asked = Headers(scope=scope)
        headers = {
            "cache-control": "no-cache",
            "content-type": self._media_type,
            "etag": self._tag,
            "vary": "accept-encoding",
        }
        if self._tag in asked.get("if-none-match", ""):
            await Response(b"", _NOT_MODIFIED, headers)(scope, receive, send)
            return
        content = self._plain
        if "gzip" in asked.get("accept-encoding", ""):
            content, headers["content-encoding"] = self._packed, "gzip"
        response = Response(b"" if scope["method"] == "HEAD" else content, 200, headers)
        response.headers["content-length"] = str(len(content))
        await response(scope, receive, send)


def local_path(scope: "Scope") -> str:
    """Return the path below wherever the app is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and path.startswith(f"{root}/"):
        return path[len(root) :]
    return path


@cache
def _read(path: str) -> _Asset:
    name, media_type = FILES[path]
    return _Asset(files(__package__).joinpath("page", name).read_bytes(), media_type)
