"""The seam for wire APIs: what the cache has to know of one, and nothing else.

A dialect is pure and stateless; one instance serves all requests. A new API is one file in
``routecache_middleware/dialects`` and one row in its table.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from routecache_middleware.core.models import BypassReason, DiscardReason, ResponseMode

__all__ = ["Dialect", "Judgement", "ParsedRequest"]


class ParsedRequest(msgspec.Struct, frozen=True):
    """What a dialect reads out of a request body.

    Attributes:
        model: The requested model, as the client named it.
        mode: Whether the client wants JSON or a stream.
        shape: Token of the exact wire form asked for: ``json``, ``stream``, ``stream+usage`` ...
        choices: How many answers were asked for (OpenAI's ``n``).
        temperature: Sampling temperature, or None when the request does not say.
        is_deterministic: The request asks for reproducible output (temperature 0, or a seed).
        bypass: Why the request can never be answered from a cache, or None.
    """

    model: str
    mode: ResponseMode
    shape: str
    choices: int = 1
    temperature: float | None = None
    is_deterministic: bool = False
    bypass: BypassReason | None = None


class Judgement(msgspec.Struct, frozen=True):
    """What a dialect says of a response body.

    Attributes:
        discard: Why it must not be stored, or None. Policy may still object.
        model: The model that the answer names, or empty.
        has_usage: It carries token usage.
        has_tool_calls: It asks the client to call tools.
        finish_reasons: One per choice.
        input_tokens: From the usage, or 0.
        output_tokens: From the usage, or 0.
    """

    discard: DiscardReason | None = None
    model: str = ""
    has_usage: bool = False
    has_tool_calls: bool = False
    finish_reasons: tuple[str, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0


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
        """Whole trailing path segments, each starting with ``/``, under which it is served."""

    @property
    def ignored_fields(self) -> frozenset[str]:
        """Top-level request fields that never change an answer: the deny-list of the key."""

    @property
    def sampling_fields(self) -> frozenset[str]:
        """Top-level request fields that change an answer but never a routing decision."""

    def parse(self, payload: Mapping[str, object]) -> ParsedRequest | None:
        """Read a request; None when it does not have this API's form."""

    def conversation(self, payload: Mapping[str, object]) -> object:
        """Return the JSON value that stands for a whole conversation.

        It is what a decision is keyed on with ``decision_scope="conversation"``:
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
