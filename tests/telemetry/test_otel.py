import subprocess
import sys
from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    StaticSampler,
)
from opentelemetry.trace import SpanKind, StatusCode

from routecache_middleware import __version__
from routecache_middleware.core.events import (
    LookupFinished,
    Operation,
    PutFinished,
    RefreshFinished,
    RemoveFinished,
    RequestFinished,
    WaitFinished,
)
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import BypassReason, MissReason, Outcome
from routecache_middleware.telemetry import allowance, names
from routecache_middleware.telemetry.null import NULL_OPERATION
from routecache_middleware.telemetry.otel import ENABLED_VARIABLE, OtelObserver

ROOT = Path(__file__).parents[2]
TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
ORIGIN = f"00-{TRACE}-{SPAN}-01"
CANARY = "canary-7f3a"
Finished = LookupFinished | WaitFinished | PutFinished | RemoveFinished


class Tracing:
    """A provider of its own with an exporter that keeps what ended."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.app_tracer = self.provider.get_tracer("app")

    def observer(
        self, *, model_attributes: bool = True, lookups_per_s: float = inf
    ) -> OtelObserver:
        return OtelObserver(
            tracer_provider=self.provider,
            enabled=True,
            model_attributes=model_attributes,
            lookups_per_s=lookups_per_s,
        )

    def spans(self) -> Mapping[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def only(self) -> ReadableSpan:
        (span,) = self.exporter.get_finished_spans()
        return span


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    tracing = Tracing()
    yield tracing
    tracing.provider.shutdown()


def test_a_hit_is_one_internal_span_with_every_attribute(tracing: Tracing) -> None:
    opened = tracing.observer().begin(Operation.GET, "result", model="gpt-4o", verb="chat")
    opened.finish(
        LookupFinished(
            Outcome.HIT,
            served_by="memory",
            item_size=2048,
            ttl_s=299.9,
            age_s=0.25,
            model_id="gpt-4o-mini",
            cost_ms=1500.0,
            key_hash="0123456789abcdef" * 2,
        )
    )
    span = tracing.only()
    assert span.name == "cache.get result"
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "routecache.cache": "result",
        "openinference.span.kind": "CHAIN",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-mini",
        "cache.hit": True,
        "cache.item_size": 2048,
        "cache.ttl": 299,
        "routecache.outcome": "hit",
        "routecache.layer": "memory",
        "routecache.entry.age": 0.25,
        "routecache.key.hash": "0123456789abcdef",
        "routecache.saved.time": 1.5,
    }
    assert span.links == ()


def test_values_are_plain_types_so_that_every_exporter_takes_them(tracing: Tracing) -> None:
    opened = tracing.observer().begin(Operation.GET, Layer.RESULT)
    opened.finish(LookupFinished(Outcome.MISS, miss_reason=MissReason.ABSENT))
    attributes = tracing.only().attributes or {}
    assert {type(value) for value in attributes.values()} <= {str, bool, int, float}


def test_the_scope_carries_version_and_schema(tracing: Tracing) -> None:
    tracing.observer().begin(Operation.GET, "route").finish(LookupFinished(Outcome.MISS))
    scope = tracing.only().instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version) == ("routecache_middleware", __version__)
    assert scope.schema_url == names.SCHEMA_URL


def test_seconds_have_no_digits_that_nobody_measured(tracing: Tracing) -> None:
    opened = tracing.observer().begin(Operation.GET, "result")
    opened.finish(LookupFinished(Outcome.HIT, age_s=0.010543584823608398, cost_ms=256.066))
    said = tracing.only().attributes or {}
    assert said["routecache.entry.age"] == 0.010544
    assert 256.066 / 1000 != 0.256066
    assert said["routecache.saved.time"] == 0.256066


def test_a_stale_hit_has_a_negative_ttl(tracing: Tracing) -> None:
    """Rounded down, so that half a second past the end is not 0."""
    opened = tracing.observer().begin(Operation.GET, "result")
    opened.finish(LookupFinished(Outcome.STALE, served_by="redis", ttl_s=-0.5))
    attributes = tracing.only().attributes or {}
    assert attributes["cache.ttl"] == -1
    assert attributes["cache.hit"] is True
    assert attributes["routecache.outcome"] == "stale"


def test_a_miss_is_no_error_and_claims_nothing_of_an_entry(tracing: Tracing) -> None:
    opened = tracing.observer().begin(Operation.GET, "route")
    opened.finish(LookupFinished(Outcome.MISS, miss_reason=MissReason.EXPIRED))
    span = tracing.only()
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "routecache.cache": "route",
        "openinference.span.kind": "CHAIN",
        "cache.hit": False,
        "routecache.outcome": "miss",
        "routecache.miss.reason": "expired",
    }


def test_a_coordinator_error_on_a_lookup_was_handled_so_it_is_no_span_error(
    tracing: Tracing,
) -> None:
    """OpenTelemetry, recording errors: handled errors should not be recorded on spans."""
    opened = tracing.observer().begin(Operation.GET, "result")
    opened.finish(LookupFinished(Outcome.ERROR))
    span = tracing.only()
    assert span.status.status_code is StatusCode.UNSET
    assert span.events == ()
    assert (span.attributes or {})["routecache.outcome"] == "error"
    assert "error.type" not in (span.attributes or {})


def test_a_put_says_whether_it_wrote(tracing: Tracing) -> None:
    opened = tracing.observer().begin(Operation.PUT, "result")
    opened.finish(PutFinished(is_stored=True, item_size=7, ttl_s=600.0, model_id="m"))
    span = tracing.only()
    assert span.name == "cache.put result"
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "routecache.cache": "result",
        "openinference.span.kind": "CHAIN",
        "routecache.stored": True,
        "cache.write": True,
        "cache.item_size": 7,
        "cache.ttl": 600,
        "gen_ai.response.model": "m",
    }


@pytest.mark.parametrize(
    ("operation", "target", "record"),
    [
        (
            Operation.PUT,
            "result",
            PutFinished(is_stored=False, error_type="CoordinatorError"),
        ),
        (Operation.REMOVE, "model", RemoveFinished("model:m", error_type="CoordinatorError")),
    ],
)
def test_a_failed_put_or_remove_is_an_error(
    tracing: Tracing, operation: Operation, target: str, record: Finished
) -> None:
    tracing.observer().begin(operation, target).finish(record)
    span = tracing.only()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert (span.attributes or {})["error.type"] == "CoordinatorError"


def test_a_remove_names_the_kind_of_scope_only(tracing: Tracing) -> None:
    """What follows the kind names a tenant, a tag or a key; it would also be high cardinality."""
    opened = tracing.observer().begin(Operation.REMOVE, f"tenant:{CANARY}")
    opened.finish(RemoveFinished(f"tenant:{CANARY}"))
    span = tracing.only()
    assert span.name == "cache.remove tenant"
    assert dict(span.attributes or {}) == {
        "routecache.cache": "tenant",
        "openinference.span.kind": "CHAIN",
    }


def test_without_model_attributes_no_span_names_a_model(tracing: Tracing) -> None:
    observer = tracing.observer(model_attributes=False)
    observer.begin(Operation.GET, "result", model="gpt-4o", verb="chat").finish(
        LookupFinished(Outcome.HIT, model_id="gpt-4o")
    )
    observer.begin(Operation.PUT, "result", model="gpt-4o").finish(
        PutFinished(is_stored=True, model_id="gpt-4o")
    )
    for span in tracing.spans().values():
        assert "gpt-4o" not in (span.attributes or {}).values()
    assert (tracing.spans()["cache.get result"].attributes or {})["gen_ai.operation.name"] == "chat"


class RecordingSampler(Sampler):
    """Notes what it was shown."""

    seen: Mapping[str, object] = {}

    def should_sample(self, *args: object, **kwargs: object) -> SamplingResult:
        attributes = kwargs.get("attributes") or args[4]
        assert isinstance(attributes, Mapping)
        self.seen = dict(attributes)
        return SamplingResult(Decision.RECORD_AND_SAMPLE)

    def get_description(self) -> str:
        return "records"


def test_a_sampler_sees_cache_verb_and_model() -> None:
    sampler = RecordingSampler()
    Tracing(sampler).observer().begin(Operation.GET, "result", model="m", verb="chat")
    assert sampler.seen == {
        "routecache.cache": "result",
        "openinference.span.kind": "CHAIN",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
    }


@pytest.mark.parametrize(
    ("operation", "record", "link_type"),
    [
        (Operation.GET, LookupFinished(Outcome.HIT, origin=ORIGIN), "origin"),
        (Operation.WAIT, WaitFinished(Outcome.COALESCED, leader=ORIGIN), "leader"),
    ],
)
def test_a_traceparent_becomes_a_link(
    tracing: Tracing, operation: Operation, record: Finished, link_type: str
) -> None:
    tracing.observer().begin(operation, "result").finish(record)
    (link,) = tracing.only().links
    assert link.context.trace_id == int(TRACE, 16)
    assert link.context.span_id == int(SPAN, 16)
    assert link.context.is_remote
    assert link.context.trace_flags.sampled
    assert dict(link.attributes or {}) == {"routecache.link.type": link_type}
    said = tracing.only().attributes or {}  # for tools that keep no links
    assert said["routecache.link.type"] == link_type
    assert said["routecache.link.trace_id"] == TRACE
    assert said["routecache.link.span_id"] == SPAN


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "nonsense",
        ORIGIN + "\n",
        ORIGIN + "-extra",
        ORIGIN.upper(),
        ORIGIN.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-_1",
    ],
)
def test_a_malformed_traceparent_is_no_link(tracing: Tracing, traceparent: str) -> None:
    """W3C Trace Context section 3.2.2: lower-case hex, and no all-zero ids."""
    opened = tracing.observer().begin(Operation.GET, "result")
    opened.finish(LookupFinished(Outcome.HIT, origin=traceparent))
    assert tracing.only().links == ()
    assert not [name for name in tracing.only().attributes or {} if ".link." in name]


def test_a_wait_says_how_it_ended(tracing: Tracing) -> None:
    opened = tracing.observer().begin(Operation.WAIT, "result")
    opened.finish(WaitFinished(Outcome.ERROR))
    span = tracing.only()
    assert span.name == "cache.wait result"
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "routecache.cache": "result",
        "openinference.span.kind": "CHAIN",
        "routecache.outcome": "error",
    }


def test_what_one_operation_offers_another_can_link_to(tracing: Tracing) -> None:
    observer = tracing.observer()
    leader = observer.begin(Operation.PUT, "result")
    traceparent = leader.traceparent
    leader.finish(PutFinished(is_stored=True))
    assert leader.traceparent == traceparent  # the engine also asks when it is over
    observer.begin(Operation.WAIT, "result").finish(
        WaitFinished(Outcome.COALESCED, leader=traceparent)
    )
    spans = tracing.spans()
    context = spans["cache.put result"].context
    assert context is not None
    assert traceparent == f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
    (link,) = spans["cache.wait result"].links
    assert (link.context.trace_id, link.context.span_id) == (context.trace_id, context.span_id)


def test_spans_are_children_of_the_server_span_and_never_current(tracing: Tracing) -> None:
    with tracing.app_tracer.start_as_current_span("POST", kind=SpanKind.SERVER) as server:
        opened = tracing.observer().begin(Operation.GET, "result")
        assert trace.get_current_span() is server
        opened.finish(LookupFinished(Outcome.MISS))
    span = tracing.spans()["cache.get result"]
    assert span.parent == server.get_span_context()


def test_a_refresh_is_a_trace_of_its_own_linked_to_its_trigger(tracing: Tracing) -> None:
    """It outlives the request, so as a child it would outlast its parent."""
    with tracing.app_tracer.start_as_current_span("POST") as server:
        opened = tracing.observer().begin(Operation.REFRESH, "result")
        opened.finish(PutFinished(is_stored=True))
    span = tracing.spans()["cache.refresh result"]
    assert span.parent is None
    (link,) = span.links
    assert link.context == server.get_span_context()
    assert dict(link.attributes or {}) == {"routecache.link.type": "trigger"}
    said = span.attributes or {}
    assert said["routecache.link.type"] == "trigger"
    assert said["routecache.link.trace_id"] == f"{link.context.trace_id:032x}"
    assert said["routecache.link.span_id"] == f"{link.context.span_id:016x}"


def test_a_refresh_is_current_until_it_ends(tracing: Tracing) -> None:
    """What is done in its task is its own, and not the request's, which is over."""
    with tracing.app_tracer.start_as_current_span("POST") as server:
        opened = tracing.observer().begin(Operation.REFRESH, "result")
        tracing.app_tracer.start_span("chat").end()
        tracing.observer().begin(Operation.PUT, "result").finish(PutFinished(is_stored=True))
        opened.finish(RefreshFinished())
        assert trace.get_current_span() is server
    spans = tracing.spans()
    refresh = spans["cache.refresh result"]
    assert spans["chat"].parent == spans["cache.put result"].parent == refresh.context


def test_a_refresh_outside_any_trace_has_no_link(tracing: Tracing) -> None:
    tracing.observer().begin(Operation.REFRESH, "result").finish(PutFinished(is_stored=True))
    assert tracing.only().links == ()
    assert "routecache.link.type" not in (tracing.only().attributes or {})


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            RequestFinished(Outcome.HIT, served_by="memory"),
            {
                "cache.hit": True,
                "routecache.cache": "result",
                "routecache.outcome": "hit",
                "routecache.layer": "memory",
            },
        ),
        (
            RequestFinished(Outcome.STALE, Layer.ROUTING, served_by="redis"),
            {
                "cache.hit": True,
                "routecache.cache": "route",
                "routecache.outcome": "stale",
                "routecache.layer": "redis",
            },
        ),
        (
            RequestFinished(Outcome.BYPASS, bypass_reason=BypassReason.TEMPERATURE),
            {
                "cache.hit": False,
                "routecache.cache": "result",
                "routecache.outcome": "bypass",
                "routecache.bypass.reason": "temperature",
            },
        ),
        (
            RequestFinished(Outcome.COALESCED),
            {"cache.hit": False, "routecache.cache": "result", "routecache.outcome": "coalesced"},
        ),
    ],
)
def test_the_enclosing_server_span_is_marked(
    tracing: Tracing, record: RequestFinished, expected: dict[str, object]
) -> None:
    with tracing.app_tracer.start_as_current_span("POST", kind=SpanKind.SERVER):
        tracing.observer().request(record)
    assert dict(tracing.only().attributes or {}) == expected


def test_without_an_enclosing_span_a_request_leaves_no_trace(tracing: Tracing) -> None:
    tracing.observer().request(RequestFinished(Outcome.HIT))
    assert tracing.exporter.get_finished_spans() == ()


def test_a_span_that_is_not_sampled_costs_no_operation() -> None:
    tracing = Tracing(ALWAYS_OFF)
    opened = tracing.observer().begin(Operation.GET, "result")
    assert opened is NULL_OPERATION
    assert opened.traceparent == ""
    opened.finish(LookupFinished(Outcome.HIT))
    assert tracing.exporter.get_finished_spans() == ()


def test_a_request_inside_an_unsampled_trace_is_left_alone() -> None:
    tracing = Tracing(ParentBased(ALWAYS_OFF))
    with tracing.app_tracer.start_as_current_span("POST"):
        tracing.observer().request(RequestFinished(Outcome.HIT))
        opened = tracing.observer().begin(Operation.REFRESH, "result")
    assert opened is NULL_OPERATION


def test_a_span_recorded_but_not_sampled_offers_no_reference() -> None:
    """Nobody could follow the link: the span is not exported."""
    tracing = Tracing(StaticSampler(Decision.RECORD_ONLY))
    opened = tracing.observer().begin(Operation.GET, "result")
    assert opened is not NULL_OPERATION
    assert opened.traceparent == ""
    opened.finish(LookupFinished(Outcome.HIT))


def test_a_span_ends_even_when_a_record_cannot_be_told(tracing: Tracing) -> None:
    opened = tracing.observer().begin(Operation.GET, "result")
    with pytest.raises(OverflowError):
        opened.finish(LookupFinished(Outcome.HIT, ttl_s=float("inf")))
    assert tracing.only().name == "cache.get result"


@pytest.mark.parametrize("operation", list(Operation))
def test_without_a_provider_nothing_is_opened(operation: Operation) -> None:
    observer = OtelObserver()
    opened = observer.begin(operation, "result", model="m", verb="chat")
    assert opened is NULL_OPERATION
    observer.request(RequestFinished(Outcome.HIT))


@pytest.mark.parametrize(
    ("value", "enabled", "is_observed"),
    [
        (None, None, True),
        ("", None, True),
        ("true", None, True),
        ("false", None, False),
        (" FALSE ", None, False),
        ("0", None, False),
        ("off", None, False),
        ("no", None, False),
        ("false", True, True),
        ("true", False, False),
    ],
)
def test_the_switch_is_read_at_construction_and_the_argument_wins(
    tracing: Tracing,
    monkeypatch: pytest.MonkeyPatch,
    *,
    value: str | None,
    enabled: bool | None,
    is_observed: bool,
) -> None:
    if value is None:
        monkeypatch.delenv(ENABLED_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(ENABLED_VARIABLE, value)
    observer = OtelObserver(tracer_provider=tracing.provider, enabled=enabled)
    monkeypatch.delenv(ENABLED_VARIABLE, raising=False)
    with tracing.app_tracer.start_as_current_span("POST"):
        observer.request(RequestFinished(Outcome.HIT))
        observer.begin(Operation.GET, "result").finish(LookupFinished(Outcome.HIT))
    assert ("cache.get result" in tracing.spans()) is is_observed
    assert ("cache.hit" in (tracing.spans()["POST"].attributes or {})) is is_observed


def everything(observer: OtelObserver) -> None:
    """Every operation once, with a canary wherever a record has room for one."""
    records: dict[Operation, Finished] = {
        Operation.GET: LookupFinished(
            Outcome.HIT, key_hash="0123456789abcdef" + CANARY, origin=f"{ORIGIN}-{CANARY}"
        ),
        Operation.WAIT: WaitFinished(Outcome.COALESCED, leader=CANARY),
        Operation.PUT: PutFinished(is_stored=False, error_type="ValueError"),
        Operation.REFRESH: PutFinished(is_stored=True),
        Operation.REMOVE: RemoveFinished(f"key:result:{CANARY}"),
    }
    for operation, record in records.items():
        target = f"key:result:{CANARY}" if operation is Operation.REMOVE else "result"
        observer.begin(operation, target, model="m", verb="chat").finish(record)
    observer.request(RequestFinished(Outcome.HIT, served_by="memory"))


def test_no_key_tenant_or_usage_ever_reaches_a_span(tracing: Tracing) -> None:
    with tracing.app_tracer.start_as_current_span("POST"):
        everything(tracing.observer())
    spans = tracing.exporter.get_finished_spans()
    assert len(spans) == len(Operation) + 1
    for span in spans:
        assert CANARY not in str(span.to_json())
        assert set(span.attributes or {}) <= names.ATTRIBUTES
        assert not [name for name in span.attributes or {} if name.startswith("gen_ai.usage.")]
        assert span.kind is SpanKind.INTERNAL


def test_the_module_needs_the_api_alone() -> None:
    """The SDK is the user's choice; importing it costs time and a dependency."""
    program = (
        "import sys, routecache_middleware.telemetry.otel\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk',"
        " 'opentelemetry.semconv'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


LATE_SDK = """
from opentelemetry import trace
from routecache_middleware.core.events import LookupFinished, Operation, RequestFinished
from routecache_middleware.core.models import Outcome
from routecache_middleware.telemetry import otel

now_s = 100.0
otel.perf_counter = lambda: now_s
observer = otel.OtelObserver()
assert not observer.begin(Operation.GET, "result").is_watched
observer.request(RequestFinished(Outcome.HIT))

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
now_s += 0.5
assert not observer.begin(Operation.GET, "result").is_watched  # not looked again yet
now_s += 0.6
opened = observer.begin(Operation.GET, "result")
assert opened.is_watched
opened.finish(LookupFinished(Outcome.MISS))
assert [span.name for span in exporter.get_finished_spans()] == ["cache.get result"]
now_s -= 50
assert observer.begin(Operation.GET, "result").is_watched  # and never again
"""


def test_an_sdk_that_is_set_up_late_is_noticed_within_a_second() -> None:
    """In a process of its own: the global provider can be set only once."""
    run = subprocess.run(
        [sys.executable, "-c", LATE_SDK], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_once_a_global_sdk_is_there_nobody_looks_again(
    tracing: Tracing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider, once set, stays (OpenTelemetry API: it can be set only once)."""
    looks = 0

    def provider() -> object:
        nonlocal looks
        looks += 1
        return tracing.provider

    observer = OtelObserver()
    monkeypatch.setattr(trace, "get_tracer_provider", provider)
    for _ in range(3):
        observer.begin(Operation.GET, "result")
    assert looks == 1


def test_only_so_many_lookups_a_second_get_a_span(
    tracing: Tracing, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr(allowance, "perf_counter", lambda: now_s)
    observer = tracing.observer(lookups_per_s=3)

    def look_up(times: int) -> int:
        tracing.exporter.clear()
        for _ in range(times):
            observer.begin(Operation.GET, "result").finish(LookupFinished(Outcome.HIT))
        return len(tracing.exporter.get_finished_spans())

    look_up(10)
    assert look_up(10) == 0
    now_s += 1.0
    assert look_up(10) == 3
    now_s += 0.5
    assert look_up(10) == 0
    observer.begin(Operation.PUT, "result").finish(PutFinished(is_stored=True))
    assert len(tracing.exporter.get_finished_spans()) == 1, "what is no lookup always has one"
    now_s += 0.5
    assert look_up(2) == 2


def test_lookups_may_have_no_span_at_all(tracing: Tracing) -> None:
    observer = tracing.observer(lookups_per_s=0)
    for _ in range(3):
        assert observer.begin(Operation.GET, "result") is NULL_OPERATION
    with tracing.app_tracer.start_as_current_span("POST"):
        observer.request(RequestFinished(Outcome.HIT))
    assert (tracing.only().attributes or {})["routecache.outcome"] == "hit"
