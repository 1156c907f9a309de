"""Every name that spans carry: scope, links and attributes, with the versions they were taken from.

A span is named ``{operation} {target}``: an :class:`~routecache_middleware.core.events.Operation`
and a layer's value or the kind of scope that is invalidated, such as ``cache.get result`` or
``cache.remove model``. All of them are INTERNAL.

OpenTelemetry has no convention for caches (semantic-conventions#1747 is open), so:

- ``gen_ai.*`` are the names that every version of the GenAI conventions shares. They are copied,
  because the Python constants are deprecated since the conventions left the main repository
  (semantic-conventions#3696), and their successors are still in development.
- ``gen_ai.usage.*`` is absent on purpose: a hit is no inference, and backends price those numbers.
- ``gen_ai.provider.name`` and ``gen_ai.response.id`` are absent too: in front of a gateway nobody
  knows the first, and the second stands inside of an answer, which a hit does not read.
- ``cache.*`` are Sentry's, the one published set for caches.
- ``openinference.span.kind`` says that a span is no call of a model, for tools that would count it.
- Everything else is ours, below ``routecache.``.
"""

from typing import Final

__all__ = [
    "ATTRIBUTES",
    "CACHE",
    "CACHE_HIT",
    "CACHE_ITEM_SIZE",
    "CACHE_TTL",
    "CACHE_WRITE",
    "ENTRY_AGE",
    "ERROR_TYPE",
    "KEY_HASH",
    "LAYER",
    "LINK_LEADER",
    "LINK_ORIGIN",
    "LINK_SPAN",
    "LINK_TRACE",
    "LINK_TRIGGER",
    "LINK_TYPE",
    "OPERATION_NAME",
    "OUTCOME",
    "REASON_BYPASS",
    "REASON_MISS",
    "REASON_STALE",
    "REQUEST_MODEL",
    "RESPONSE_MODEL",
    "SAVED_COST",
    "SAVED_INPUT_TOKENS",
    "SAVED_OUTPUT_TOKENS",
    "SAVED_TIME",
    "SCHEMA_URL",
    "SCOPE_NAME",
    "SPAN_KIND",
    "SPAN_KIND_CHAIN",
    "STORED",
]

SCOPE_NAME: Final = "routecache_middleware"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
"""Version of the general and GenAI conventions that the names follow."""

# OpenTelemetry, semantic conventions 1.44.0
ERROR_TYPE: Final = "error.type"
OPERATION_NAME: Final = "gen_ai.operation.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"

# OpenInference semantic conventions 0.1.42, which require it
SPAN_KIND: Final = "openinference.span.kind"
SPAN_KIND_CHAIN: Final = "CHAIN"
"""A step. Without it Phoenix takes every span with ``gen_ai.operation.name`` for a call of a
model."""

# Sentry conventions 0.5.0
CACHE_HIT: Final = "cache.hit"
"""True for a hit and for a stale answer."""
CACHE_ITEM_SIZE: Final = "cache.item_size"
"""Bytes."""
CACHE_TTL: Final = "cache.ttl"
"""Whole seconds left, rounded down: negative when stale."""
CACHE_WRITE: Final = "cache.write"
"""Whether a put wrote anything."""

# Ours
CACHE: Final = "routecache.cache"
"""Which of the four caches: ``route``, ``result``, ``meta`` or ``load``; of an invalidation, what
kind of scope."""
OUTCOME: Final = "routecache.outcome"
LAYER: Final = "routecache.layer"
"""Where a hit was found, such as ``memory`` or ``redis``."""
REASON_MISS: Final = "routecache.miss.reason"
REASON_BYPASS: Final = "routecache.bypass.reason"
REASON_STALE: Final = "routecache.stale.reason"
"""``while_revalidate`` or ``max_stale``; of a request also ``if_error``."""
ENTRY_AGE: Final = "routecache.entry.age"
"""Seconds, a float."""
KEY_HASH: Final = "routecache.key.hash"
"""The first 16 hex digits of the keyed hash; never the key."""
SAVED_INPUT_TOKENS: Final = "routecache.saved.input_tokens"
"""Tokens that making the answer once took; on hits, where its usage was known. Also
:data:`SAVED_OUTPUT_TOKENS`."""
SAVED_OUTPUT_TOKENS: Final = "routecache.saved.output_tokens"
SAVED_COST: Final = "routecache.saved.cost"
"""US dollars that these tokens cost, where a price is known."""
SAVED_TIME: Final = "routecache.saved.time"
"""Seconds that making the answer once took; on hits."""
STORED: Final = "routecache.stored"

# A link's attribute; the span has it too, with what the link leads to, because some tools that show
# spans keep no links (Phoenix 20 drops them, others do not show where they lead).
LINK_TYPE: Final = "routecache.link.type"
LINK_TRACE: Final = "routecache.link.trace_id"
"""32 hex digits."""
LINK_SPAN: Final = "routecache.link.span_id"
"""16 hex digits."""
LINK_ORIGIN: Final = "origin"
"""From a hit to the request that stored the entry."""
LINK_LEADER: Final = "leader"
"""From a follower's wait to the request whose answer it shared."""
LINK_TRIGGER: Final = "trigger"
"""From a background refresh, which is a trace of its own, to the request that started it."""

ATTRIBUTES: Final = frozenset(
    {
        CACHE,
        CACHE_HIT,
        CACHE_ITEM_SIZE,
        CACHE_TTL,
        CACHE_WRITE,
        ENTRY_AGE,
        ERROR_TYPE,
        KEY_HASH,
        LAYER,
        LINK_SPAN,
        LINK_TRACE,
        LINK_TYPE,
        OPERATION_NAME,
        OUTCOME,
        REASON_BYPASS,
        REASON_MISS,
        REASON_STALE,
        REQUEST_MODEL,
        RESPONSE_MODEL,
        SAVED_COST,
        SAVED_INPUT_TOKENS,
        SAVED_OUTPUT_TOKENS,
        SAVED_TIME,
        SPAN_KIND,
        STORED,
    }
)
"""All attributes that a span of ours or the enclosing server span may get from us."""
