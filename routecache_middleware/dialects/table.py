"""Which wire APIs there are. A new one is one file beside this one and one row here."""

from functools import cache, lru_cache
from importlib import import_module
from typing import NamedTuple, cast

from routecache_middleware.core.dialect import Dialect

__all__ = ["DIALECTS", "Row", "load", "match"]


class Row(NamedTuple):
    """One dialect.

    Attributes:
        suffixes: Whole trailing path segments under which it is served, under any prefix. They
            stand here and not only on the dialect so that other paths load no dialect.
        factory: ``module:factory``, imported on first use.
    """

    suffixes: tuple[str, ...]
    factory: str


DIALECTS: dict[str, Row] = {
    "openai.chat": Row(
        suffixes=("/v1/chat/completions",),
        factory="routecache_middleware.dialects.openai_chat:OpenAIChat",
    ),
}
"""Dialect name to row."""

_ENDINGS = tuple((suffix, name) for name, row in DIALECTS.items() for suffix in row.suffixes)
_SUFFIXES = tuple(suffix for suffix, _ in _ENDINGS)


def match(method: str, path: str) -> Dialect | None:
    """Return the dialect that a request is in, or None: the cache has no business with it.

    Args:
        method: HTTP method; only ``POST`` counts.
        path: ASGI ``path``, with whatever prefix the app is mounted under.
    """
    if method != "POST" or not path.endswith(_SUFFIXES):
        return None
    return _by_path(path)


@lru_cache(maxsize=1024)
def _by_path(path: str) -> Dialect:
    return load(next(name for suffix, name in _ENDINGS if path.endswith(suffix)))


@cache
def load(name: str) -> Dialect:
    """Return the one instance of a dialect.

    Raises:
        KeyError: There is no such dialect.
    """
    module, _, factory = DIALECTS[name].factory.partition(":")
    return cast("Dialect", getattr(import_module(module), factory)())
