"""What each reason means, in one plain sentence: for explanations, the README and the command line.

A reason is a token in headers, spans and statistics; here is what a person is told. The table is
complete: a test fails for a reason without a sentence.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from routecache_middleware.core.models import BypassReason, DiscardReason, MissReason

__all__ = ["MEANINGS", "NotOurs", "Reason", "meaning", "reason_table"]


class NotOurs(StrEnum):
    """Why a request has nothing to do with the cache at all; it carries no ``Cache-Status``."""

    METHOD = "method"
    PATH = "path"


Reason = BypassReason | MissReason | DiscardReason | NotOurs

_BYPASS: dict[Reason, str] = {
    BypassReason.DISABLED: "Caching is off: as a whole, for answers, or for requests of this kind.",
    BypassReason.NO_PRINCIPAL: (
        "The request carries no credential, so it is not known whose answers it may see."
    ),
    BypassReason.TENANT_ERROR: "The `tenant` callable raised, so the request is nobody's.",
    BypassReason.CONTENT_TYPE: "The request's content type is not JSON in UTF-8.",
    BypassReason.CONTENT_ENCODING: "The request body is compressed, so it is not read.",
    BypassReason.BODY_TOO_LARGE: "The request body is larger than `max_request_bytes`.",
    BypassReason.INVALID_JSON: (
        "The request body is not strictly valid JSON, or does not have this API's form."
    ),
    BypassReason.NO_STORE: "The client asks for no stored answer and for nothing to be stored.",
    BypassReason.SIGNED: (
        "A header vouches for the body's bytes, so a router cannot put its model there."
    ),
    BypassReason.STORE: "The client asks the provider to keep the answer.",
    BypassReason.WEB_SEARCH: "The answer depends on a search of the web.",
    BypassReason.SERVER_TOOLS: "The provider runs tools for this request.",
    BypassReason.AUDIO: "The answer has audio.",
    BypassReason.REMOTE_MEDIA: "The request names media elsewhere, which may change.",
    BypassReason.STATEFUL: "The request refers to what the provider holds, which changes.",
    BypassReason.BACKGROUND: "The request only starts work whose result is fetched later.",
    BypassReason.MUTABLE_PROMPT: "The request uses a prompt template without naming its version.",
    BypassReason.PREWARM: "The request only warms the provider's own cache.",
    BypassReason.TEMPERATURE: "The sampling temperature is above `max_temperature`.",
    BypassReason.POLICY: "The policy says so: an override, `decide`, or `opt_in`.",
    BypassReason.SHADOW: "The cache is in shadow mode: it counts what it would serve.",
    BypassReason.ROUTER_ERROR: "The router failed, so the request was forwarded as it came.",
    BypassReason.COORDINATOR_ERROR: "The coordinator failed, or did not answer in time.",
    BypassReason.INTERNAL_ERROR: "The cache itself failed; the log says where.",
}

_MISS: dict[Reason, str] = {
    MissReason.ABSENT: "Nothing is stored for this request.",
    MissReason.EXPIRED: "What is stored is past its lifetime.",
    MissReason.INVALIDATED: "What is stored was invalidated after its making began.",
    MissReason.REQUEST: (
        "What is stored is not fresh enough for this request's `Cache-Control`, or nothing is "
        "served in `write_only` mode."
    ),
    MissReason.CONVERSION: (
        "What is stored has another wire form, which cannot truthfully be turned into this one."
    ),
    MissReason.INELIGIBLE: "The model that was decided on may not be used right now.",
    MissReason.UNAUTHORISED: (
        "Entries are shared, and the app has not answered this caller with 2xx lately."
    ),
    MissReason.PARTIAL: (
        "Some of its inputs have a stored answer: `fwd=partial` where only the others were asked "
        "for, else `fwd=miss`."
    ),
}

_DISCARD: dict[Reason, str] = {
    DiscardReason.STATUS: "The answer's status is not 200.",
    DiscardReason.CONTENT_ENCODING: "The answer is compressed.",
    DiscardReason.CONTENT_TYPE: "The answer is neither JSON nor an event stream, as was asked for.",
    DiscardReason.VARY: "The answer says `Vary: *`: it holds for this one request.",
    DiscardReason.TRAILERS: "The answer has trailers, which are not kept.",
    DiscardReason.TOO_LARGE: "The answer is larger than `max_result_bytes`.",
    DiscardReason.CAPTURE_FULL: "Too many answers were being recorded: `max_capture_bytes`.",
    DiscardReason.INCOMPLETE: "The answer ended early, or without its terminal marker.",
    DiscardReason.ERROR_BODY: "The answer reports an error.",
    DiscardReason.FINISH_REASON: "The answer did not finish for one of `finish_reasons`.",
    DiscardReason.TOOL_CALLS: "The answer calls tools, and `cache_tool_calls` does not allow that.",
    DiscardReason.EMPTY: "The answer says nothing.",
    DiscardReason.VETOED: "The app said that its answer must not be stored.",
    DiscardReason.MODE: "Nothing is stored in `read_only` mode.",
    DiscardReason.NO_STORE: "The client asks for nothing to be stored.",
    DiscardReason.DISABLED: "Caching is off for answers of this kind.",
}

_NOT_OURS: dict[Reason, str] = {
    NotOurs.METHOD: "Only POST requests are cached; this one passes through untouched.",
    NotOurs.PATH: "No known API is served at this path; the request passes through untouched.",
}

MEANINGS: Mapping[str, Mapping[Reason, str]] = MappingProxyType(
    {
        "not cached: `fwd=bypass`": MappingProxyType(_BYPASS),
        "not found: `fwd=miss`, `stale`, `request` or `partial`": MappingProxyType(_MISS),
        "not stored": MappingProxyType(_DISCARD),
        "not ours": MappingProxyType(_NOT_OURS),
    }
)
"""What the reasons have in common to reason to sentence."""

_SENTENCES = {(type(r), r): text for group in MEANINGS.values() for r, text in group.items()}


def meaning(reason: Reason) -> str:
    """Return what a reason means: one sentence of Markdown, with a full stop."""
    return _SENTENCES[type(reason), reason]


def reason_table() -> str:
    """Return all reasons as a Markdown table: what documentation shows."""
    rows = ["| | reason | meaning |", "|---|---|---|"]
    for kind, group in MEANINGS.items():
        for number, (reason, text) in enumerate(group.items()):
            rows.append(f"| {'' if number else kind} | `{reason}` | {text} |")
    return "\n".join(rows)
