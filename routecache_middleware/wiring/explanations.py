"""Asking what becomes of a request, and why: of a cache, or of the middleware that uses it."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from routecache_middleware.core.explanation import RequestExplanation
from routecache_middleware.errors import ConfigurationError

__all__ = ["Explains", "Explanations", "GivenHeaders", "GivenRequest", "check_given"]

GivenHeaders = (
    Iterable[tuple[bytes, bytes]]
    | Iterable[tuple[str, str]]
    | Mapping[bytes, bytes]
    | Mapping[str, str]
)
"""Header fields as whoever asks has them; names in any case."""

_WANTED: dict[str, tuple[type | tuple[type, ...], str]] = {
    "path": (str, "a str, such as '/v1/chat/completions'"),
    "body": (bytes, "bytes, as they are sent: of a dict, json.dumps(...).encode()"),
    "neighbour": ((bytes, type(None)), "the body of another request, in bytes, or None"),
    "method": (str, "a str, such as 'POST'"),
    "query_string": (bytes, "bytes, without the question mark"),
    "root_path": (str, "a str, such as '/gateway', or empty"),
    "tenant": ((str, type(None)), "a str, or None: whom its credentials name"),
    "full": (bool, "True or False"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenRequest:
    """A request as whoever asks describes it; see :meth:`Explanations.explain`.

    Attributes:
        fields: ``headers`` as pairs, names in lower case.

    Raises:
        TypeError: Something has another type. The text says which, and what it has to be.
        ValueError: ``path`` is no path.
    """

    path: str
    body: bytes
    headers: GivenHeaders = ()
    method: str = "POST"
    query_string: bytes = b""
    root_path: str = ""
    user: object = None
    tenant: str | None = None
    neighbour: bytes | None = None
    full: bool = False
    fields: tuple[tuple[bytes, bytes], ...] = field(init=False)

    def __post_init__(self) -> None:
        check_given(**{name: getattr(self, name) for name in _WANTED})
        object.__setattr__(self, "fields", tuple(_fields(self.headers)))
        if not self.path.startswith("/"):  # it is not shown: a URL may hold a password
            raise ValueError("path has to begin with '/'; leave out the scheme and the host")
        path, mark, query = self.path.partition("?")
        if mark and not self.query_string:  # else the mark is one that was decoded from %3F
            object.__setattr__(self, "path", path)
            object.__setattr__(self, "query_string", query.encode("utf-8", "surrogatepass"))


Explains = Callable[[GivenRequest], Awaitable[RequestExplanation]]
"""Reads requests for the cache, and says what would become of one."""


class Explanations:
    """The method of a cache, and of its middleware, that explains requests.

    Attributes:
        explainer: Who does it: of a cache the middleware built last with it, or None.
    """

    explainer: Explains | None

    async def explain(
        self,
        *,
        path: str,
        body: bytes,
        headers: GivenHeaders = (),
        method: str = "POST",
        query_string: bytes = b"",
        root_path: str = "",
        user: object = None,
        tenant: str | None = None,
        neighbour: bytes | None = None,
        full: bool = False,
    ) -> RequestExplanation:
        """Say what would become of a request to the middleware if it came now, and why.

        What it says, and what it does not do, is told at
        :meth:`RouteCacheMiddleware.explain_scope`. A cache has this method for gateways whose
        framework keeps the middleware to itself.

        Args:
            path: Its path, with the prefix that the app is mounted under, if any. What stands
                behind a ``?`` counts as ``query_string`` where that is not given.
            body: Its body.
            headers: Its header fields: a mapping, or pairs; names in any case. Without a content
                type it counts as JSON.
            method: Its method.
            query_string: Its query, raw.
            root_path: ASGI ``root_path``.
            user: ASGI ``scope["user"]``.
            tenant: As for ``explain_scope``, also for ``neighbour`` and ``full``.
            neighbour: As there.
            full: As there.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: ``path`` does not begin with ``/``.
            ConfigurationError: No middleware uses this cache in this process.
        """
        given = GivenRequest(
            path=path,
            body=body,
            headers=headers,
            method=method,
            query_string=query_string,
            root_path=root_path,
            user=user,
            tenant=tenant,
            neighbour=neighbour,
            full=full,
        )
        if self.explainer is None:
            raise ConfigurationError(
                "explain() needs to know how requests are read, and no RouteCacheMiddleware uses "
                "this cache; pass it to one as cache="
            )
        return await self.explainer(given)


def check_given(**given: object) -> None:
    """Check the types of arguments by their names; their values are never shown.

    Raises:
        TypeError: One is wrong.
    """
    for name, value in given.items():
        kind, wanted = _WANTED[name]
        if not isinstance(value, kind):
            raise TypeError(f"{name} is a {type(value).__name__}; it has to be {wanted}")


def _fields(headers: object) -> Iterator[tuple[bytes, bytes]]:
    pairs: object = headers.items() if isinstance(headers, Mapping) else headers
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Iterable):
        raise _no_fields(type(headers).__name__)
    for pair in pairs:
        match pair:
            case (str() | bytes() as name, str() | bytes() as value):
                yield _bytes(name).lower(), _bytes(value)
            case _:
                raise _no_fields(f"{type(headers).__name__} with something else in it")


def _no_fields(found: str) -> TypeError:
    return TypeError(
        f"headers is a {found}; it has to be a mapping of names to values, or pairs of them, in "
        "str or in bytes"
    )


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
