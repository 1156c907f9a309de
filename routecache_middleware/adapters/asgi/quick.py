"""The short way: a plain request that was seen before, answered with what is stored, as it is.

Most hits are of this kind, so this way is flat: one pass, no object per request beyond the answer.
What it finds out on the way to a miss is handed on, so that nothing is read or hashed twice.
"""

import msgspec

from routecache_middleware.adapters.asgi.gate import Gate
from routecache_middleware.adapters.asgi.head import HeadReader, RequestHead
from routecache_middleware.adapters.asgi.marks import HIT_MARK
from routecache_middleware.adapters.asgi.types import Message, Scope
from routecache_middleware.core import cache_status
from routecache_middleware.core.choices import Mode, Replay, Tenancy
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.core.events import RequestFinished
from routecache_middleware.core.keys import CacheKey, Layer, result_key
from routecache_middleware.core.models import Outcome, ResponseMode
from routecache_middleware.core.plan import Serve
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.identify import Identified, Identifier
from routecache_middleware.engine.lookup import Lookup

__all__ = ["QuickLane", "Tried"]

_LARGEST_BYTES = 16_384  # what is larger is sent in pieces, the long way
# Members of an Enum are slow to read from their class in Python 3.11: 75 ns each, measured.
_JSON, _ON, _RESULT = ResponseMode.JSON, Mode.ON, Layer.RESULT


class Tried(msgspec.Struct, frozen=True):
    """How far the short way came: what the long way need not do again."""

    key: CacheKey
    lookup: Lookup


class QuickLane:
    """Serves plain repeats. One per middleware; holds nothing of a request."""

    __slots__ = (
        "_engine",
        "_finished",
        "_gate",
        "_heads",
        "_identifier",
        "_is_burst",
        "_is_possible",
        "_served_by",
    )

    def __init__(
        self,
        engine: Engine,
        heads: HeadReader,
        identifier: Identifier,
        *,
        has_router: bool,
        gate: Gate | None = None,
    ) -> None:
        settings = engine.settings
        self._engine = engine
        self._gate = gate
        self._heads = heads
        self._identifier = identifier
        self._served_by = engine.coordinator.name
        self._finished = RequestFinished(Outcome.HIT, _RESULT, self._served_by)
        self._is_burst = settings.replay is Replay.BURST
        self._is_possible = (
            not has_router
            and settings.result_caching
            and settings.response_headers
            and not settings.server_timing
            and not settings.previous_secrets  # their keys have to be looked up as well
            and settings.tenancy is Tenancy.PRINCIPAL
            and engine.policies.are_plain
        )

    def head(self, dialect: Dialect, scope: Scope) -> RequestHead | None:
        """Read the head of a request, if the short way may do for it."""
        engine = self._engine
        if not self._is_possible or engine.mode is not _ON or not engine.is_open():
            return None
        head = self._heads.read(dialect, scope)
        return head if head.is_plain and head.refusal is None else None

    def key_of(self, head: RequestHead, message: Message) -> CacheKey | None:
        """Return the key of the answer that a request has just been given; for the few sampled."""
        found = self._identifier.recall(head.context, message.get("body", b""))
        if not isinstance(found, Identified):
            return None
        return result_key(found.fingerprint.result, found.parsed.model, head.tenant)

    def answer(
        self, dialect: Dialect, head: RequestHead, message: Message
    ) -> tuple[Message, Message] | Tried | None:
        """Return the stored answer to a request that came in one message, or how far that went."""
        if message["type"] != "http.request" or message.get("more_body", False):
            return None
        found = self._identifier.recall(head.context, message.get("body", b""))
        if type(found) is not Identified or found.parsed.bypass is not None or found.asked:
            return None
        engine, gate, model = self._engine, self._gate, found.parsed.model
        ticket = None if gate is None else gate.admit(gate.slot(head, found.parsed))
        if ticket is None and gate is not None:
            lookup = None
        else:
            key = result_key(found.fingerprint.result, model, head.tenant)
            lookup = engine.lookup_now(
                _RESULT, key, model=model, verb=dialect.verb, may_be_stale=gate is None
            )
        if lookup is None:
            return None
        plan = lookup.plan
        if type(plan) is not Serve or plan.is_stale:
            return Tried(key, lookup)
        entry = plan.entry
        body = entry.body
        is_stream = entry.mode is not _JSON
        in_pieces = len(body) > _LARGEST_BYTES or (is_stream and not self._is_burst)
        if in_pieces or entry.shape != found.parsed.shape:
            return Tried(key, lookup)
        recorder, verb = engine.recorder, dialect.verb
        recorder.result.hits += 1
        tally = recorder.models.tallies.get((model, verb)) or recorder.models.tally(model, verb)
        tally.hits += 1
        recorder.saved_results.served(entry, head.tenant)
        if not engine.is_quiet:
            engine.observer.request(self._finished)
        if ticket is not None:
            ticket.served(entry)
        headers = [
            (b"content-type", entry.content_type.encode("latin-1")),
            *entry.headers,
            (b"content-length", b"%d" % len(body)),
            (b"age", b"%d" % plan.age_s),
            (b"cache-status", cache_status.hit(plan.ttl_s, self._served_by)),
            HIT_MARK,
        ]
        if is_stream:
            headers[-4:-3] = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        return (
            {"type": "http.response.start", "status": 200, "headers": headers},
            {"type": "http.response.body", "body": body, "more_body": False},
        )
