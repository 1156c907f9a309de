"""Which wire APIs there are. A new one is one file beside this one and one row here.

An API of one's own is a file anywhere and one call of :func:`register`, before the first request.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from importlib import import_module
from typing import NamedTuple, cast

from routecache_middleware.core.dialect import Dialect
from routecache_middleware.errors import ConfigurationError

__all__ = ["DIALECTS", "Row", "load", "match", "path_model", "register"]

_MODEL = "{model}"


class Row(NamedTuple):
    """One dialect.

    Attributes:
        suffixes: Whole trailing path segments under which it is served, under any prefix; Google's
            verbs, as in ``:generateContent``, count as such. One ``{model}`` in it stands for one
            or more segments that name the model. They stand here and not only on the dialect so
            that other paths load no dialect.
        factory: ``module:factory``, imported on first use, or the factory itself.
        paths: Whole paths under which it is served, as LiteLLM does it at its root: without a
            version, their words are too common to match under any prefix.
    """

    suffixes: tuple[str, ...]
    factory: str | Callable[[], Dialect]
    paths: tuple[str, ...] = ()


DIALECTS: dict[str, Row] = {
    "openai.chat": Row(
        suffixes=(
            "/v1/chat/completions",
            "/engines/{model}/chat/completions",
            "/openai/deployments/{model}/chat/completions",
        ),
        paths=("/chat/completions",),
        factory="routecache_middleware.dialects.openai_chat:OpenAIChat",
    ),
    "openai.completions": Row(
        suffixes=(
            "/v1/completions",
            "/engines/{model}/completions",
            "/openai/deployments/{model}/completions",
        ),
        paths=("/completions",),
        factory="routecache_middleware.dialects.openai_completions:OpenAICompletions",
    ),
    "openai.embeddings": Row(
        suffixes=(
            "/v1/embeddings",
            "/engines/{model}/embeddings",
            "/openai/deployments/{model}/embeddings",
        ),
        paths=("/embeddings",),
        factory="routecache_middleware.dialects.openai_embeddings:OpenAIEmbeddings",
    ),
    "openai.responses": Row(
        suffixes=("/v1/responses", "/openai/responses"),
        paths=("/responses",),
        factory="routecache_middleware.dialects.responses:OpenAIResponses",
    ),
    "anthropic.messages": Row(
        suffixes=("/v1/messages",),
        factory="routecache_middleware.dialects.anthropic_messages:AnthropicMessages",
    ),
    "anthropic.count_tokens": Row(
        suffixes=("/v1/messages/count_tokens",),
        factory="routecache_middleware.dialects.anthropic_count_tokens:AnthropicCountTokens",
    ),
    "gemini": Row(
        suffixes=("/models/{model}:generateContent", "/models/{model}:streamGenerateContent"),
        factory="routecache_middleware.dialects.gemini:Gemini",
    ),
    "rerank": Row(
        suffixes=("/v1/rerank", "/v2/rerank", "/v1/reranking"),
        paths=("/rerank",),
        factory="routecache_middleware.dialects.rerank:Rerank",
    ),
}
"""Dialect name to row."""


class _Pattern(NamedTuple):
    """A suffix, cut where the model is.

    Attributes:
        name: The dialect.
        head: What comes before the model; empty when the path names none.
        tail: What the path ends with.
    """

    name: str
    head: str
    tail: str


class _Index:
    """What matching needs, made from the table."""

    __slots__ = ("endings", "paths", "patterns")

    def __init__(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Make it anew: the table has changed."""
        cut = [
            _Pattern(name, *suffix.rpartition(_MODEL)[::2])
            for name, row in DIALECTS.items()
            for suffix in row.suffixes
        ]
        # The longest ending first: /engines/llama/v1/chat/completions has a prefix and no model.
        self.patterns = sorted(cut, key=lambda p: (len(p.tail), len(p.head)), reverse=True)
        self.paths = {path: name for name, row in DIALECTS.items() for path in row.paths}
        self.endings = tuple({*self.paths, *(pattern.tail for pattern in cut)})


def match(method: str, path: str) -> Dialect | None:
    """Return the dialect that a request is in, or None: the cache has no business with it.

    Args:
        method: HTTP method; only ``POST`` counts.
        path: ASGI ``path``, with whatever prefix the app is mounted under.
    """
    if method != "POST" or not path.endswith(_INDEX.endings):
        return None
    return _dialect_at(path)


def path_model(path: str) -> str:
    """Return the model that a path names, as of Azure's deployments, or empty.

    The upstream then takes no notice of the ``model`` in a body.
    """
    return _by_path(path)[1]


@cache
def load(name: str) -> Dialect:
    """Return the one instance of a dialect.

    Raises:
        KeyError: There is no such dialect.
    """
    factory = DIALECTS[name].factory
    if isinstance(factory, str):
        module, _, attribute = factory.partition(":")
        factory = cast("Callable[[], Dialect]", getattr(import_module(module), attribute))
    return factory()


def register(
    name: str,
    factory: str | Callable[[], Dialect],
    *,
    suffixes: tuple[str, ...] = (),
    paths: tuple[str, ...] = (),
) -> None:
    """Add a dialect of one's own, or put one in the place of one of ours.

    To be called before the first request, in every process.

    Args:
        name: Its name; part of every key.
        factory: ``module:factory`` or the factory itself; called once, on first use.
        suffixes: As in :class:`Row`.
        paths: As in :class:`Row`.

    Raises:
        ConfigurationError: It is served nowhere, a path makes no sense, or is another dialect's.
    """
    others = {
        place: other
        for other, row in DIALECTS.items()
        for place in (*row.suffixes, *row.paths)
        if other != name
    }
    for place in (*suffixes, *paths):
        if place in others:
            raise ConfigurationError(f"{place!r} is already served by {others[place]}")
        if not place.startswith("/") or place.endswith((_MODEL, "/")) or place.count(_MODEL) > 1:
            raise ConfigurationError(
                f"{place!r} is no path of dialect {name!r}: it has to start with '/', end with a "
                "whole segment, and may have one '{model}' in between"
            )
    if not (suffixes or paths):
        raise ConfigurationError(f"dialect {name!r} is served nowhere; pass suffixes= or paths=")
    DIALECTS[name] = Row(suffixes, factory, paths)
    _refresh()


_INDEX = _Index()


def _refresh() -> None:
    _INDEX.refresh()
    for memory in (_dialect_at, _by_path, load):
        memory.cache_clear()


@lru_cache(maxsize=1024)
def _dialect_at(path: str) -> Dialect | None:
    name, _ = _by_path(path)
    return load(name) if name else None


@lru_cache(maxsize=1024)
def _by_path(path: str) -> tuple[str, str]:
    """Return the name of a dialect and that of a model; empty where there is none."""
    for name, head, tail in _INDEX.patterns:
        if not path.endswith(tail):
            continue
        if not head:
            return name, ""
        start = path.find(head)
        model = path[start + len(head) : -len(tail)] if start >= 0 else ""
        if model and model == model.strip("/"):
            return name, model
    return _INDEX.paths.get(path, ""), ""
