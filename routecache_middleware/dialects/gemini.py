"""Gemini: ``POST .../models/{model}:generateContent`` and ``:streamGenerateContent``.

Both of Google's services speak it, and LiteLLM. What is special is that the path says which form
the answer has: JSON, an event stream (``?alt=sse``), or all chunks of one in a JSON array.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from routecache_middleware.core.dialect import Judgement, ParsedRequest, Place, Role, names
from routecache_middleware.core.models import ResponseMode
from routecache_middleware.dialects.gemini_convert import in_shape
from routecache_middleware.dialects.gemini_judge import judge
from routecache_middleware.dialects.gemini_request import FIELDS, conversation_of, read_request

__all__ = ["Gemini"]

_JSON_VERB: Final = ":generateContent"
_STREAM_VERB: Final = ":streamGenerateContent"
_FORMS: Final = {
    _JSON_VERB: {b"": "json", b"json": "json"},
    _STREAM_VERB: {b"": "array", b"json": "array", b"sse": "stream"},
}
"""What ``alt`` in the query makes of an answer, by the path's verb."""


class Gemini:
    """The dialect; see :class:`~routecache_middleware.core.dialect.Dialect` and ``Placed``."""

    __slots__ = ()

    name = "gemini"
    verb = "generate_content"
    path_suffixes = ("/models/{model}:generateContent", "/models/{model}:streamGenerateContent")
    fields = FIELDS
    ignored_fields = names(FIELDS, Role.IGNORED)
    sampling_fields = names(FIELDS, Role.SAMPLING)

    def place(self, path: str, query: bytes) -> Place:
        """Return the path of the JSON form, and the query without ``alt``, as the key sees them."""
        head, _, verb = path.rpartition(":")
        alts, rest = [b""], []
        for pair in query.split(b"&"):
            name, _, value = pair.partition(b"=")
            if unquote_to_bytes(name) in (b"alt", b"$alt"):
                alts.append(value)
            else:
                rest.append(pair)
        # Said twice, it is anybody's guess which of them counts.
        form = _FORMS.get(f":{verb}", {}).get(alts[-1]) if len(alts) < 3 else None  # noqa: PLR2004 - the default and one
        if form is None:
            return Place(path, query, "other")
        return Place(head + _JSON_VERB, b"&".join(rest), form)

    def parse(self, payload: Mapping[str, object]) -> ParsedRequest | None:
        """Read a request; None when it does not have this API's form."""
        return read_request(payload)

    def keyed(self, payload: Mapping[str, object]) -> Mapping[str, object]:
        """Return the request itself: its two spellings of names are two keys."""
        return payload

    def conversation(self, payload: Mapping[str, object]) -> object:
        """Return what stays the same over the turns of a conversation."""
        return conversation_of(payload)

    def judge(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> Judgement:
        """Say whether ``body`` is a complete, successful answer; never raises."""
        return judge(body, mode, request)

    def render(self, body: bytes, mode: ResponseMode, request: ParsedRequest) -> bytes | None:
        """Turn a stored body into the shape of ``request``, or None."""
        return in_shape(body, mode, request.shape)

    def error_body(self, message: str, *, kind: str, code: str) -> bytes:
        """Return an error in Google's JSON shape, of the status that goes with HTTP's 504."""
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": code.upper(),
            "domain": "routecache",
            "metadata": {"kind": kind},
        }
        error = {"code": 504, "message": message, "status": "DEADLINE_EXCEEDED", "details": [info]}
        return msgspec.json.encode({"error": error})
