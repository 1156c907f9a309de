"""The seam for wire APIs: what the cache has to know of one, and nothing else.

A dialect is pure and stateless; one instance serves all requests. A new API is one file in
``routecache_middleware/dialects`` and one row in its table. One of one's own is a file anywhere and
a call of ``register`` there: see ``examples/custom_dialect.py``.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec

from routecache_middleware.core.models import BypassReason, DiscardReason, ResponseMode

__all__ = [
    "Dialect",
    "Field",
    "Judgement",
    "ParsedRequest",
    "Place",
    "Placed",
    "Role",
    "field_table",
    "names",
    "place_of",
]


class Role(StrEnum):
    """What a top-level request field means for the key. A field that no table names is ``KEY``."""

    KEY = "key"
    """Part of both hashes."""

    SAMPLING = "sampling"
    """Part of the result hash only: it changes an answer but never a routing decision."""

    IGNORED = "ignored"
    """Part of neither: it never changes an answer."""

    BYPASS = "bypass"
    """Can make a request uncacheable; where it does not, it is part of both hashes."""

    PARTITION = "partition"
    """Says for whom an answer is; part of both hashes."""


class Field(NamedTuple):
    """One request field of an API.

    Attributes:
        role: What it means for the key.
        note: What a reader of the documentation has to know besides: for ``BYPASS`` when it makes
            a request uncacheable, for ``IGNORED`` why it may be. Markdown, without ``|`` and
            without a full stop.
    """

    role: Role
    note: str = ""


def names(fields: Mapping[str, Field], role: Role) -> frozenset[str]:
    """Return the fields of one role."""
    return frozenset(name for name, field in fields.items() if field.role is role)


def field_table(fields: Mapping[str, Field]) -> str:
    """Return a table of fields as Markdown: what documentation shows, sorted by role and name."""
    order = list(Role)
    ranked = sorted(fields.items(), key=lambda item: (order.index(item[1].role), item[0]))
    rows = [f"| `{name}` | {field.role} | {field.note} |" for name, field in ranked]
    return "\n".join(["| field | role | note |", "|---|---|---|", *rows])


class ParsedRequest(msgspec.Struct, frozen=True):
    """What a dialect reads out of a request body.

    Attributes:
        model: The requested model, as the client named it.
        mode: Whether the client wants JSON or a stream.
        shape: Token of the exact wire form asked for: ``json``, ``stream``, ``stream+usage`` ...
        choices: How many answers were asked for: OpenAI's ``n``, for every prompt that there is.
        inputs: How many things were asked about at once, such as documents to rank.
        temperature: Sampling temperature, or None when the request does not say.
        is_deterministic: The request asks for reproducible output (temperature 0, or a seed).
        bypass: Why the request can never be answered from a cache, or None.
        sizes: How long each of several items is, in a unit of the dialect's own, for sharing out
            what is counted for all of them (see ``core.batch``); empty when there is one.
    """

    model: str
    mode: ResponseMode
    shape: str
    choices: int = 1
    inputs: int = 1
    temperature: float | None = None
    is_deterministic: bool = False
    bypass: BypassReason | None = None
    sizes: tuple[int, ...] = ()


class Judgement(msgspec.Struct, frozen=True):
    """What a dialect says of a response body.

    Attributes:
        discard: Why it must not be stored, or None. Policy may still object.
        model: The model that the answer names, or empty.
        has_usage: It carries token usage.
        has_tool_calls: It asks the client to call tools.
        finish_reasons: One per choice.
        is_ended: Its own last event says that nothing follows; false where only the end of the
            response does.
        input_tokens: From the usage, or 0.
        output_tokens: From the usage, or 0.
    """

    discard: DiscardReason | None = None
    model: str = ""
    has_usage: bool = False
    has_tool_calls: bool = False
    finish_reasons: tuple[str, ...] = ()
    is_ended: bool = True
    input_tokens: int = 0
    output_tokens: int = 0


class Place(NamedTuple):
    """Where a request was sent, as the key sees it.

    Attributes:
        path: The path; the same for all wire forms of one answer.
        query: The query string; the same for all of them as well.
        form: What path and query say of the wire form; :meth:`Dialect.parse` finds it as the member
            ``stream``. Empty: the body says it.
    """

    path: str
    query: bytes
    form: str = ""


@runtime_checkable
class Placed(Protocol):
    """What a dialect has besides whose wire form is said by the path and not by the body."""

    def place(self, path: str, query: bytes) -> Place:
        """Return where a request was sent, as the key sees it."""


def place_of(dialect: object, path: str, query: bytes) -> Place:
    """Return where a request of ``dialect`` was sent, as the key sees it."""
    return dialect.place(path, query) if isinstance(dialect, Placed) else Place(path, query)


class Dialect(Protocol):
    """One wire API."""

    @property
    def name(self) -> str:
        """Short name, such as ``openai.chat``; part of every key."""

    @property
    def verb(self) -> str:
        """``gen_ai.operation.name`` of its requests, such as ``chat``."""

    @property
    def path_suffixes(self) -> tuple[str, ...]:
        """Whole trailing path segments, each starting with ``/``, under which it is served.

        Google's verbs, as in ``:generateContent``, count as such. One ``{model}`` among them stands
        for the name of a model.
        """

    @property
    def fields(self) -> Mapping[str, Field]:
        """The top-level request fields that are known, by name; any other counts as ``KEY``."""

    @property
    def ignored_fields(self) -> frozenset[str]:
        """Those that never change an answer, the deny-list of the key: see :func:`names`."""

    @property
    def sampling_fields(self) -> frozenset[str]:
        """Those that change an answer but never a routing decision: see :func:`names`."""

    def parse(self, payload: Mapping[str, object]) -> ParsedRequest | None:
        """Read a request; None when it does not have this API's form.

        What the path says of the model or of the wire form is there as ``model`` and ``stream``,
        whatever the body says.
        """

    def keyed(self, payload: Mapping[str, object]) -> Mapping[str, object]:
        """Return the request as the key sees it: requests that mean the same, made equal.

        Usually the payload itself, which is never changed. Fields are left out by the table, not
        here; this is for what the table cannot say, such as a mark deep inside of a message. It is
        called for what :meth:`parse` accepts only.
        """

    def conversation(self, payload: Mapping[str, object]) -> object:
        """Return the JSON value that stands for a whole conversation.

        It is what a decision is keyed on with ``decision_scope="conversation"``, made of what
        :meth:`keyed` returned:
        System prompt, tools, first user message and a capability fingerprint: images, tools,
        response format, and the size of the context in powers of four.
        """

    def judge(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> Judgement:
        """Say whether ``body`` is a complete, successful answer to ``request``."""

    def render(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> bytes | None:
        """Turn a stored body of another shape into the shape of ``request``.

        None when that cannot be done truthfully, for example usage that the stored stream never
        carried. Never called when the shapes are equal: those bytes are served verbatim.
        """

    def error_body(self, message: str, *, kind: str, code: str) -> bytes:
        """Return an error in this API's own JSON shape."""
