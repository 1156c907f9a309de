"""Spans through the OpenTelemetry API alone; names in :mod:`.names`.

Who installs no SDK pays for a look at the clock: whether there is one is looked up once a second.
A span that does not record is dropped at once. Our spans do not become the current one. That is
what makes them cheap (entering a context costs several times the span), and it keeps the server
span current, so that :meth:`OtelObserver.request` can mark it and the app's own spans stay its
children. A refresh is the exception: it has a task of its own, in which the server span would be
one that is over, and what the app does for it belongs to it.
"""

import os
import re
from collections.abc import Iterable
from math import floor, inf
from time import perf_counter
from typing import TYPE_CHECKING, Final, assert_never, cast

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context

from routecache_middleware import __version__
from routecache_middleware.core.events import (
    Finished,
    LookupFinished,
    Operation,
    PutFinished,
    RefreshFinished,
    RemoveFinished,
    RequestFinished,
    WaitFinished,
)
from routecache_middleware.core.models import Outcome
from routecache_middleware.core.ports import OpenOperation
from routecache_middleware.telemetry import names
from routecache_middleware.telemetry.allowance import Allowance
from routecache_middleware.telemetry.null import NULL_OPERATION

if TYPE_CHECKING:
    from contextvars import Token

__all__ = ["ENABLED_VARIABLE", "OFF_WORDS", "OtelObserver"]

ENABLED_VARIABLE: Final = "OTEL_PYTHON_INSTRUMENTATION_ROUTECACHE_ENABLED"
"""Environment variable that turns spans off with ``false``, ``0``, ``no`` or ``off``."""

OFF_WORDS: Final = frozenset({"false", "0", "no", "off"})
"""What :data:`ENABLED_VARIABLE` says to turn everything off, in any case."""

_HITS: Final = frozenset({Outcome.HIT, Outcome.STALE})
_BAGGAGE: Final = frozenset({"baggage"})  # anybody's word, and of no use to us
_KEY_HASH_DIGITS: Final = 16
_LOOK_AGAIN_S: Final = 1.0
_NEW_ROOT: Final = Context()
# Members of an Enum are slow to read from their class in Python 3.11: 75 ns each, measured.
_GET: Final = Operation.GET
_REFRESH: Final = Operation.REFRESH
_REMOVE: Final = Operation.REMOVE
# W3C Trace Context section 3.2.2, version 00: the only one that we write.
_TRACEPARENT: Final = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

_Attributes = dict[str, str | bool | int | float]


class OtelObserver:
    """An observer that makes one INTERNAL span per operation and marks the enclosing server span.

    What it sets never includes prompts, completions, credentials or keys.

    Args:
        tracer_provider: Where spans go; None: the global provider, even one that is set later.
        enabled: Whether anything is observed; None: unless :data:`ENABLED_VARIABLE` says no.
        model_attributes: Whether spans name models. Some backends take every span with a model for
            a generation and price it.
        lookups_per_s: How many lookups a second get a span.
    """

    __slots__ = (
        "_fields",
        "_idle_until_s",
        "_is_global",
        "_lookups",
        "_model_attributes",
        "_textmap",
        "_tracer",
    )

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        enabled: bool | None = None,
        model_attributes: bool = True,
        lookups_per_s: float = inf,
    ) -> None:
        if enabled is None:
            enabled = os.environ.get(ENABLED_VARIABLE, "").strip().lower() not in OFF_WORDS
        self._model_attributes = model_attributes
        self._is_global = tracer_provider is None
        self._idle_until_s = -inf
        self._lookups = Allowance(lookups_per_s)
        self._textmap: object = None
        self._fields: frozenset[bytes] = frozenset()
        # By keyword: the third positional parameter of get_tracer is the provider.
        self._tracer = (
            trace.get_tracer(
                names.SCOPE_NAME,
                __version__,
                tracer_provider=tracer_provider,
                schema_url=names.SCHEMA_URL,
            )
            if enabled
            else None
        )

    def enter(self, headers: Iterable[tuple[bytes, bytes]]) -> object | None:
        """Make the caller's trace current when no server span did; see :class:`.ports.Entering`.

        No span is made for it: ours become children of the remote one.
        """
        if self._tracer is None or self._is_idle():
            return None
        if trace.get_current_span() is not trace.INVALID_SPAN:
            return None
        textmap = propagate.get_global_textmap()
        if textmap is not self._textmap:  # asking for its fields costs some microseconds
            self._fields = frozenset(name.encode() for name in textmap.fields - _BAGGAGE)
            self._textmap = textmap
        carrier: dict[str, str] = {}
        for name, value in headers:
            field = name.lower()
            if field in self._fields:  # extracting costs 6 us: only when there is something
                carrier[field.decode("latin-1")] = value.decode("latin-1")
        return context.attach(propagate.extract(carrier)) if carrier else None

    def leave(self, token: object) -> None:
        """Undo :meth:`enter`, in the same task."""
        context.detach(cast("Token[Context]", token))

    def begin(
        self, operation: Operation, target: str, *, model: str = "", verb: str = ""
    ) -> OpenOperation:
        """Start a span; what samplers may want to know is set at once."""
        tracer = self._tracer
        if tracer is None or self._is_idle():
            return NULL_OPERATION
        if operation is _GET and not self._lookups.take():
            return NULL_OPERATION
        if operation is _REMOVE:
            # A scope names tenants, tags and keys after its kind.
            target = target.partition(":")[0]
        target = str(target)  # a Layer may have been passed; exporters want exact types
        attributes: _Attributes = {names.CACHE: target, names.SPAN_KIND: names.SPAN_KIND_CHAIN}
        if verb:
            attributes[names.OPERATION_NAME] = verb
        if model and self._model_attributes:
            attributes[names.REQUEST_MODEL] = model
        if operation is _REFRESH:
            span = _start_root(tracer, f"{operation} {target}", attributes)
        else:
            span = tracer.start_span(f"{operation} {target}", attributes=attributes)
        if not span.is_recording():
            return NULL_OPERATION
        opened = _OpenRefresh if operation is _REFRESH else _OpenSpan
        return opened(span, model_attributes=self._model_attributes)

    @property
    def quiet_until_s(self) -> float:
        """See :class:`~routecache_middleware.core.ports.QuietObserver`."""
        if self._tracer is None:
            return inf
        return self._idle_until_s if self._is_global else -inf

    def _is_idle(self) -> bool:
        """Whether no SDK has been set up, so that nobody could see a span.

        Looking costs more than a span does (the API reads the environment each time), so it is done
        once in ``_LOOK_AGAIN_S``: an SDK that is set up later is noticed that much later.
        """
        if not self._is_global:
            return False
        now_s = perf_counter()
        if now_s < self._idle_until_s:
            return True
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            self._idle_until_s = now_s + _LOOK_AGAIN_S
            return True
        self._is_global = False  # a provider, once set, stays
        return False

    def request(self, record: RequestFinished) -> None:
        """Mark the enclosing span, so that root spans can be told apart by outcome."""
        if self._tracer is None or self._is_idle():
            return
        span = trace.get_current_span()
        if not span.is_recording():
            return
        attributes: _Attributes = {
            names.CACHE_HIT: record.outcome in _HITS,
            names.CACHE: record.layer.value,
            names.OUTCOME: record.outcome.value,
        }
        if record.served_by:
            attributes[names.LAYER] = record.served_by
        if record.bypass_reason is not None:
            attributes[names.REASON_BYPASS] = record.bypass_reason.value
        if record.stale_reason is not None:
            attributes[names.REASON_STALE] = record.stale_reason.value
        span.set_attributes(attributes)


class _OpenSpan:
    """A recording span that has not ended."""

    __slots__ = ("_model_attributes", "_span")
    is_watched: Final = True

    def __init__(self, span: trace.Span, *, model_attributes: bool) -> None:
        self._span = span
        self._model_attributes = model_attributes

    @property
    def traceparent(self) -> str:
        context = self._span.get_span_context()
        if not context.trace_flags.sampled:  # recorded here only: nobody could follow the link
            return ""
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    def finish(self, record: Finished) -> None:
        span = self._span
        try:
            match record:
                case LookupFinished():
                    self._set(_lookup_attributes(record), record.model_id)
                    _add_link(span, record.origin, names.LINK_ORIGIN)
                case WaitFinished():
                    span.set_attribute(names.OUTCOME, record.outcome.value)
                    _add_link(span, record.leader, names.LINK_LEADER)
                case PutFinished():
                    self._set(_put_attributes(record), record.model_id)
                    _mark_failure(span, record.error_type)
                case RefreshFinished() | RemoveFinished():
                    _mark_failure(span, record.error_type)
                case _:
                    assert_never(record)
        finally:
            span.end()

    def _set(self, attributes: _Attributes, model_id: str) -> None:
        if model_id and self._model_attributes:
            attributes[names.RESPONSE_MODEL] = model_id
        self._span.set_attributes(attributes)


class _OpenRefresh(_OpenSpan):
    """A refresh, in whose task it is the current span."""

    __slots__ = ("_token",)

    def __init__(self, span: trace.Span, *, model_attributes: bool) -> None:
        super().__init__(span, model_attributes=model_attributes)
        self._token = context.attach(trace.set_span_in_context(span))

    def finish(self, record: Finished) -> None:
        context.detach(self._token)
        super().finish(record)


def _lookup_attributes(record: LookupFinished) -> _Attributes:
    is_hit = record.outcome in _HITS
    attributes: _Attributes = {
        names.CACHE_HIT: is_hit,
        names.OUTCOME: record.outcome.value,
    }
    if record.served_by:
        attributes[names.LAYER] = record.served_by
    if record.miss_reason is not None:
        attributes[names.REASON_MISS] = record.miss_reason.value
    if record.key_hash:
        attributes[names.KEY_HASH] = record.key_hash[:_KEY_HASH_DIGITS]
    if is_hit:
        attributes[names.CACHE_ITEM_SIZE] = record.item_size
        attributes[names.CACHE_TTL] = floor(record.ttl_s)
        attributes[names.ENTRY_AGE] = round(record.age_s, 6)  # people read this
        attributes[names.SAVED_TIME] = round(record.cost_ms / 1000, 6)
        if record.stale_reason is not None:
            attributes[names.REASON_STALE] = record.stale_reason.value
        if record.input_tokens or record.output_tokens:
            attributes[names.SAVED_INPUT_TOKENS] = record.input_tokens
            attributes[names.SAVED_OUTPUT_TOKENS] = record.output_tokens
        if record.cost_usd is not None:
            attributes[names.SAVED_COST] = record.cost_usd
    return attributes


def _put_attributes(record: PutFinished) -> _Attributes:
    return {
        names.STORED: record.is_stored,
        names.CACHE_WRITE: record.is_stored,
        names.CACHE_ITEM_SIZE: record.item_size,
        names.CACHE_TTL: floor(record.ttl_s),
    }


def _mark_failure(span: trace.Span, error_type: str) -> None:
    """Only what failed for the caller is an error; a lookup that failed open was handled."""
    if error_type:
        span.set_attribute(names.ERROR_TYPE, error_type)
        span.set_status(trace.Status(trace.StatusCode.ERROR))


def _add_link(span: trace.Span, traceparent: str, link_type: str) -> None:
    """Link to what ``traceparent`` names; one that is malformed or all zeros is no link."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return
    trace_id, span_id, flags = (int(part, 16) for part in match.groups())
    context = trace.SpanContext(
        trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(flags)
    )
    if context.is_valid:
        span.add_link(context, {names.LINK_TYPE: link_type})
        span.set_attributes(_linked(context, link_type))


def _start_root(tracer: trace.Tracer, name: str, attributes: _Attributes) -> trace.Span:
    """Start a span that links to the current one and outlives it, so that it is no child."""
    links = []
    trigger = trace.get_current_span().get_span_context()
    if trigger.is_valid and trigger.trace_flags.sampled:
        links = [trace.Link(trigger, {names.LINK_TYPE: names.LINK_TRIGGER})]
        attributes = attributes | _linked(trigger, names.LINK_TRIGGER)
    return tracer.start_span(name, context=_NEW_ROOT, attributes=attributes, links=links)


def _linked(context: trace.SpanContext, link_type: str) -> _Attributes:
    """Say it in attributes, too: tools that keep no links keep these."""
    return {
        names.LINK_TYPE: link_type,
        names.LINK_TRACE: f"{context.trace_id:032x}",
        names.LINK_SPAN: f"{context.span_id:016x}",
    }
