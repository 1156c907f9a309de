"""What a user sees, to a type checker. Never executed: mypy --strict reads it.

Every name of the top level is used as the documentation says; whatever here stops type-checking
would stop type-checking at the users'.
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from routecache_middleware import (
    CachePolicy,
    CacheStats,
    LLMRequest,
    LoadMetrics,
    ModelMetadata,
    QueryResult,
    RouteCache,
    RouteCacheError,
    RouteCacheMiddleware,
    RoutingDecision,
    Settings,
    hash_query,
)

if TYPE_CHECKING:
    from routecache_middleware.adapters.asgi import RequestExplanation
    from routecache_middleware.core.cluster import ClusterStats
    from routecache_middleware.core.savings import SavingsReport
    from routecache_middleware.core.shadow import ShadowReport

Message = MutableMapping[str, Any]


def settings() -> None:
    plain: Settings = Settings()
    profile: Settings = Settings.profile("production", result_ttl_s=30.0)
    words: Settings = Settings(
        mode="shadow", tenancy="shared", eviction="lru", decision_scope="conversation"
    )
    members: Settings = Settings(mode=plain.mode, tenancy=profile.tenancy, eviction=words.eviction)
    is_off: bool = members.mode == "off"
    seconds: tuple[float, float, float, float] = (
        plain.routing_ttl_s,
        plain.result_ttl_s,
        plain.metadata_ttl_s,
        plain.load_ttl_s,
    )
    sizes: tuple[int, int] = (plain.max_result_bytes, plain.max_request_bytes)
    flags: tuple[bool, bool] = (plain.result_caching, is_off)
    policy: CachePolicy = CachePolicy(max_temperature=0.5, cache_tool_calls=False)
    _ = (seconds, sizes, flags, policy)


def hashing(payload: Mapping[str, object]) -> None:
    from_mapping: str = hash_query(payload)
    from_bytes: str = hash_query(b"{}", tenant="acme", secret=b"0123456789abcdef")
    from_text: str = hash_query("a plain question")
    _ = (from_mapping, from_bytes, from_text)


def records() -> None:
    decision: RoutingDecision = RoutingDecision(
        selected_model="small",
        score=0.7,
        alternatives=(("large", 0.3),),
        strategy="complexity",
        router_version="v1",
    )
    result: QueryResult = QueryResult(
        result_data=b"{}", model_id="small", response_time_ms=12.5, content_type="application/json"
    )
    metadata: ModelMetadata = ModelMetadata(
        model_id="small", capabilities={"tools": True}, current_load=1, avg_response_time_ms=80
    )
    load: LoadMetrics = LoadMetrics(
        model_id="small", in_flight=1, requests_per_s=2, avg_response_time_ms=80, error_rate=0.1
    )
    model: str = decision.selected_model
    outcomes: Sequence[str] = [
        decision.outcome,
        result.outcome,
        metadata.outcome,
        load.outcome,
    ]
    ages: Sequence[float] = [decision.age_s, result.age_s, metadata.age_s, load.age_s]
    body: bytes = result.result_data
    _ = (model, outcomes, ages, body)


async def decide() -> RoutingDecision:
    return RoutingDecision("small")


async def answer() -> bytes:
    return b"{}"


async def whole_answer() -> QueryResult:
    return QueryResult(b"{}", "small")


async def load(model_id: str) -> ModelMetadata:
    return ModelMetadata(model_id)


async def reading(cache: RouteCache) -> None:
    decision: RoutingDecision | None = await cache.get_routing_decision("q", tenant="t")
    result: QueryResult | None = await cache.get_query_result("q", "m", tags=("x",))
    metadata: ModelMetadata | None = await cache.get_model_metadata("m")
    metrics: LoadMetrics | None = await cache.get_load_metrics("m")
    _ = (decision, result, metadata, metrics)


async def writing(cache: RouteCache) -> None:
    captured = (await cache.invalidate_tag("x")).position
    stored: Sequence[bool] = [
        await cache.cache_routing_decision("q", "m", 0.7, strategy="s", tenant="t", tags=["x"]),
        await cache.cache_query_result("q", "m", b"{}", 12.5, ttl_s=60),
        await cache.cache_model_metadata("m", {"tools": True}, 1, 80.0),
        await cache.cache_load_metrics("m", in_flight=1, captured=captured),
    ]
    _ = stored


async def computing(cache: RouteCache) -> None:
    decision: RoutingDecision = await cache.route(
        "q", decide, tenant="t", tags=("x",), ttl_s=60.0, refresh=True, store=False
    )
    eligible: Callable[[str], bool] = "small".__eq__
    chosen: RoutingDecision = await cache.route("q", decide, eligible=eligible)
    result: QueryResult = await cache.result("q", "m", answer)
    whole: QueryResult = await cache.result("q", "m", whole_answer, tenant="t")
    metadata: ModelMetadata = await cache.metadata("m", load)
    report = await cache.warm(["m", "n"], load=load, concurrency=2)
    warmed: int = report.warmed
    failed: Mapping[str, str] = report.failed
    _ = (decision, chosen, result, whole, metadata, warmed, failed)


async def invalidating(cache: RouteCache) -> None:
    reports = [
        await cache.invalidate_model("m", older_than=1.0, router_version="v1"),
        await cache.invalidate_routing_decision("q", tenant="t"),
        await cache.invalidate_query_result("q", "m"),
        await cache.invalidate_tenant("t"),
        await cache.invalidate_tag("x"),
        await cache.invalidate_layer("route"),
        await cache.invalidate_all(),
    ]
    try:
        await cache.invalidate_all()
    except RouteCacheError as error:
        text: str = str(error)
        _ = text
    positions: Sequence[int] = [report.position for report in reports]
    scopes: Sequence[str] = [report.scope for report in reports]
    replicas: int = reports[0].replicas_acknowledged
    __ = (positions, scopes, replicas)


async def lifecycle() -> None:
    cache: RouteCache = RouteCache.from_url("memory://", settings=Settings())
    async with cache as opened:
        same: RouteCache = opened
    await cache.open()
    await cache.aclose()
    saved: SavingsReport = same.savings()
    shadow: ShadowReport = same.shadow_report()
    numbers: tuple[float, float, int, float] = (
        saved.usd,
        saved.saved_s,
        saved.by_model()["m"].input_tokens,
        shadow.same_rate(),
    )
    stats: CacheStats = same.stats()
    rates: Sequence[float] = [
        stats.routing_hit_rate(),
        stats.result_hit_rate(),
        stats.metadata_hit_rate(),
        stats.load_hit_rate(),
        stats.overall_hit_rate(),
    ]
    counts: Sequence[int] = [
        stats.routing.hits,
        stats.result.misses,
        stats.load.writes,
        stats.invalidations,
        stats.warm_operations,
        stats.total_keys,
        stats.cluster_nodes,
        stats.corrupt_entries,
    ]
    _ = (rates, counts, numbers)


async def nodes(cache: RouteCache) -> None:
    cluster: ClusterStats = await cache.cluster_stats()
    states: Sequence[str] = [node.state for node in cluster.nodes]
    behind: Sequence[int] = [cluster.position - process.position for process in cluster.processes]
    name: str = await cache.register_node("cache-4:6379", weight=2.0)
    await cache.unregister_node(name)
    _ = (states, behind)


async def router(request: LLMRequest) -> RoutingDecision | str:
    prompt: str = request.prompt_text
    messages: Sequence[Mapping[str, object]] = request.messages
    return RoutingDecision("large") if len(prompt) > 100 or len(messages) > 9 else "small"


def plain_router(request: LLMRequest) -> str:
    return request.model


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})


def middleware(cache: RouteCache) -> None:
    short: RouteCacheMiddleware = RouteCacheMiddleware(app)
    full: RouteCacheMiddleware = RouteCacheMiddleware(
        app, cache=cache, router=router, tenant=lambda _: "acme"
    )
    own: RouteCacheMiddleware = RouteCacheMiddleware(
        app, url="memory://", settings=Settings(), policy=CachePolicy(), router=plain_router
    )
    _ = (short, full, own)


async def explaining(cache: RouteCache, app: RouteCacheMiddleware, scope: Message) -> None:
    explained: Sequence[RequestExplanation] = [
        await cache.explain(path="/v1/chat/completions", body=b"{}", headers={"x-api-key": "k"}),
        await app.explain(
            path="/v1/chat/completions",
            body=b"{}",
            headers=[(b"x-api-key", b"k")],
            query_string=b"a=1",
            tenant="t",
            neighbour=b"{}",
            full=True,
        ),
        await app.explain_scope(scope, b"{}", tenant="t"),
    ]
    reasons: Sequence[tuple[str, str, str]] = [(e.outcome, e.reason, e.because) for e in explained]
    near = explained[0].neighbour
    differs: tuple[str, ...] = () if near is None else near.differs
    _ = (reasons, differs)
