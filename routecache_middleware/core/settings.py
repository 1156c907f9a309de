"""Settings: how the cache behaves. Every field is documented here and in the README.

Durations are float seconds, sizes are bytes. The record validates itself: a wrong value is a
:class:`ConfigurationError` that names the setting, the value and the remedy.
"""

from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Literal, Self, assert_never

from routecache_middleware.core.checks import (
    check_flag,
    check_lower_case,
    check_secret,
    freeze_set,
    is_amount,
    wrong,
)
from routecache_middleware.core.choices import (
    Compression,
    DecisionScope,
    Eviction,
    Mode,
    Replay,
    Tenancy,
    Word,
)
from routecache_middleware.core.keys import Layer
from routecache_middleware.errors import ConfigurationError

__all__ = ["PROFILES", "Settings"]

PROFILES: dict[str, dict[str, float]] = {
    "development": {
        "routing_ttl_s": 60.0,
        "result_ttl_s": 300.0,
        "metadata_ttl_s": 30.0,
        "load_ttl_s": 5.0,
    },
    "production": {
        "routing_ttl_s": 300.0,
        "result_ttl_s": 600.0,
        "metadata_ttl_s": 60.0,
        "load_ttl_s": 5.0,
    },
    "high-traffic": {
        "routing_ttl_s": 900.0,
        "result_ttl_s": 1800.0,
        "metadata_ttl_s": 300.0,
        "load_ttl_s": 3.0,
    },
}
"""The three TTL profiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the cache behaves.

    Attributes:
        routing_ttl_s: How long a routing decision is fresh.
        result_ttl_s: How long an answer is fresh.
        metadata_ttl_s: How long model metadata is fresh.
        load_ttl_s: How long load metrics are fresh.
        routing_stale_while_revalidate_s: For how long after that a decision is still served, while
            it is made anew in the background.
        routing_stale_if_error_s: For how long after that it is served when the router fails.
        result_stale_while_revalidate_s: For how long an answer that is no longer fresh is still
            served, while it is made anew in the background.
        result_stale_if_error_s: For how long it is served when the upstream fails: 429, 500, 502,
            503, 504, or no answer at all.
        max_client_ttl_s: The longest lifetime that a client may ask for, with ``RouteCache-TTL`` or
            in its body's ``cache`` object. It never gets less than answers have anyway, and may
            always ask for a shorter one.
        mode: ``on``, ``off``, ``read_only`` (nothing is stored), ``write_only`` (nothing is
            served) or ``shadow`` (everything but serving; counts what would have been served).
        result_caching: Whether answers are cached at all; decisions are unaffected.
        coalescing: Whether identical concurrent requests share one upstream call.
        decision_scope: ``request``: a decision holds for identical requests, sampling parameters
            aside. ``conversation``: for all turns of a conversation (same system prompt, tools,
            first user message, capabilities and context size bucket).
        routed_models: Model names that the router is asked about, in requests of any API; None:
            every model, where models write the answer: not for embeddings, rerank, count_tokens.
        router_version: Version of the router; part of every decision's key, so a new version
            starts with no decisions.
        tenancy: ``principal``: each caller sees only what was made for itself. ``shared``: one
            cache for all, served only to callers that the app itself has accepted lately.
        allow_anonymous: Serve requests that carry no credential at all; they share one tenant.
        authenticated_upstream: With ``shared``: the app around this middleware has already
            authenticated every request, so no proof of acceptance is needed.
        auth_ttl_s: With ``shared``: how long a 2xx of the app vouches for a caller.
        credential_headers: Further request headers (lower case) that identify the caller.
        secret: Deployment secret: keys every hash, so that stored keys reveal no prompts. Use at
            least 16 bytes. Must be equal in all processes that share a coordinator.
        previous_secrets: Former deployment secrets, latest first: answers stored under them are
            still found, and everything new is stored under ``secret``. For the time it takes the
            old entries to expire.
        max_request_bytes: Larger request bodies stream through uncached.
        max_result_bytes: Larger answers are not stored.
        max_capture_bytes: Bytes of answers being recorded at one time, over all requests.
        max_memory_bytes: Budget of the memory coordinator, all layers together.
        eviction: What the memory coordinator drops first: ``s3fifo`` or ``lru``.
        near: Whether a networked coordinator gets a cache inside this process in front of it.
        near_bytes: Budget of that cache.
        max_disconnected_s: How long that cache goes on answering when the coordinator cannot be
            reached; after that, nothing it holds is served.
        coordinator_timeout_s: How long one request waits for a networked coordinator, all its
            lookups together. Then it goes on without.
        lease_ttl_s: How long a process that makes an answer for others may be silent before one of
            them takes over.
        max_wait_s: How long a request waits for an answer that another process is making.
        stream_wait_s: The same for a streamed answer, of which other processes see nothing before
            it is complete.
        compression: ``zstd`` or ``none``: how answers of 1 KB and more are kept in coordinators
            outside this process. ``zstd`` needs the extra of that name.
        replay: How a stored stream is cut into messages. ``burst``: as few as possible, of up to 16
            KiB. ``original``: each event by itself, as the upstream framed it.
        max_lag_bytes: How far the slowest reader of a shared live answer may fall behind before
            the app is held back.
        slow_reader_timeout_s: How long the app is held back before that reader is cut off.
        hash_in_thread_bytes: Larger request bodies are parsed and hashed in a thread.
        memo_bytes: Memory for remembering the hashes of request bodies seen lately.
        drain_timeout_s: How long shutdown waits for writes that are under way.
        response_headers: Whether ``Cache-Status``, ``X-RouteCache`` and ``Age`` are sent.
        server_timing: Whether ``Server-Timing`` is sent: time in the cache, and in the app.
    """

    routing_ttl_s: float = 300.0
    result_ttl_s: float = 600.0
    metadata_ttl_s: float = 60.0
    load_ttl_s: float = 5.0
    routing_stale_while_revalidate_s: float = 0.0
    routing_stale_if_error_s: float = 0.0
    result_stale_while_revalidate_s: float = 0.0
    result_stale_if_error_s: float = 0.0
    max_client_ttl_s: float = 0.0
    mode: Word[Mode, Literal["on", "off", "read_only", "write_only", "shadow"]] = Word(Mode.ON)
    result_caching: bool = True
    coalescing: bool = True
    decision_scope: Word[DecisionScope, Literal["request", "conversation"]] = Word(
        DecisionScope.REQUEST
    )
    routed_models: frozenset[str] | None = None
    router_version: str = ""
    tenancy: Word[Tenancy, Literal["principal", "shared"]] = Word(Tenancy.PRINCIPAL)
    allow_anonymous: bool = False
    authenticated_upstream: bool = False
    auth_ttl_s: float = 60.0
    credential_headers: frozenset[str] = frozenset()
    secret: bytes = field(default=b"", repr=False)
    previous_secrets: tuple[bytes, ...] = field(default=(), repr=False)
    max_request_bytes: int = 1_048_576
    max_result_bytes: int = 1_048_576
    max_capture_bytes: int = 67_108_864
    max_memory_bytes: int = 268_435_456
    eviction: Word[Eviction, Literal["s3fifo", "lru"]] = Word(Eviction.S3FIFO)
    near: bool = True
    near_bytes: int = 67_108_864
    max_disconnected_s: float = 5.0
    coordinator_timeout_s: float = 0.05
    lease_ttl_s: float = 6.0
    max_wait_s: float = 120.0
    stream_wait_s: float = 1.0
    compression: Word[Compression, Literal["none", "zstd"]] = Word(Compression.NONE)
    replay: Word[Replay, Literal["burst", "original"]] = Word(Replay.BURST)
    max_lag_bytes: int = 1_048_576
    slow_reader_timeout_s: float = 5.0
    hash_in_thread_bytes: int = 65_536
    memo_bytes: int = 8_388_608
    drain_timeout_s: float = 5.0
    response_headers: bool = True
    server_timing: bool = False

    def __post_init__(self) -> None:
        for name, kind in _ENUMS.items():
            _coerce_enum(self, name, kind)
        for name in _DURATIONS:
            value = getattr(self, name)
            if not is_amount(value):
                raise wrong(name, value, "a finite number of seconds, 0 or more")
        for name in _SIZES:
            value = getattr(self, name)
            if not (is_amount(value) and isinstance(value, int)):
                raise wrong(name, value, "a whole number of bytes, 0 or more")
        for name in _FLAGS:
            check_flag(name, getattr(self, name))
        if not isinstance(self.router_version, str):
            raise wrong("router_version", self.router_version, "text")
        if self.routed_models is not None:
            freeze_set(self, "routed_models")
        freeze_set(self, "credential_headers")
        check_lower_case(self, "credential_headers")
        _check_secrets(self)
        if self.lease_ttl_s < _MIN_LEASE_S:
            raise wrong("lease_ttl_s", self.lease_ttl_s, f"at least {_MIN_LEASE_S} seconds")

    @classmethod
    def profile(cls, name: str, **overrides: object) -> Self:
        """Settings of a TTL profile: ``development``, ``production`` or ``high-traffic``.

        Raises:
            ConfigurationError: There is no such profile, or an override is wrong.
        """
        if name not in PROFILES:
            raise wrong("profile", name, "one of " + ", ".join(PROFILES))
        unknown = sorted(set(overrides) - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigurationError(
                f"there is no setting named {unknown[0]!r}; the settings are "
                + ", ".join(field.name for field in fields(cls))
            )
        return replace(cls(), **{**PROFILES[name], **overrides})  # type: ignore[arg-type]

    def ttl_s(self, layer: Layer) -> float:
        """Freshness lifetime of a layer, seconds."""
        match layer:
            case Layer.ROUTING:
                return self.routing_ttl_s
            case Layer.RESULT:
                return self.result_ttl_s
            case Layer.METADATA:
                return self.metadata_ttl_s
            case Layer.LOAD:
                return self.load_ttl_s
            case _:
                assert_never(layer)

    def stale_windows_s(self, layer: Layer) -> tuple[float, float]:
        """For how long something may be served after its lifetime, seconds (RFC 5861).

        Returns:
            While it is made anew, and when that fails.
        """
        match layer:
            case Layer.ROUTING:
                return self.routing_stale_while_revalidate_s, self.routing_stale_if_error_s
            case Layer.RESULT:
                return self.result_stale_while_revalidate_s, self.result_stale_if_error_s
            case _:  # what is measured live is of no use when it is old
                return 0.0, 0.0


_MIN_LEASE_S = 0.5  # renewed at a third of that
_ENUMS: dict[str, type[StrEnum]] = {
    "mode": Mode,
    "decision_scope": DecisionScope,
    "tenancy": Tenancy,
    "eviction": Eviction,
    "compression": Compression,
    "replay": Replay,
}
_DURATIONS = (
    "routing_ttl_s",
    "result_ttl_s",
    "metadata_ttl_s",
    "load_ttl_s",
    "routing_stale_while_revalidate_s",
    "routing_stale_if_error_s",
    "result_stale_while_revalidate_s",
    "result_stale_if_error_s",
    "max_client_ttl_s",
    "auth_ttl_s",
    "slow_reader_timeout_s",
    "drain_timeout_s",
    "max_disconnected_s",
    "coordinator_timeout_s",
    "lease_ttl_s",
    "max_wait_s",
    "stream_wait_s",
)
_FLAGS = (
    "result_caching",
    "coalescing",
    "near",
    "allow_anonymous",
    "authenticated_upstream",
    "response_headers",
    "server_timing",
)
_SIZES = (
    "max_request_bytes",
    "max_result_bytes",
    "max_capture_bytes",
    "max_memory_bytes",
    "near_bytes",
    "max_lag_bytes",
    "hash_in_thread_bytes",
    "memo_bytes",
)


def _coerce_enum(settings: Settings, name: str, kind: type[StrEnum]) -> None:
    value = getattr(settings, name)
    try:
        object.__setattr__(settings, name, kind(value))  # accepts the plain word as well
    except ValueError:
        raise wrong(name, value, "one of " + ", ".join(kind)) from None


def _check_secrets(settings: Settings) -> None:
    check_secret("secret", settings.secret)
    secrets: object = settings.previous_secrets
    if not isinstance(secrets, list | tuple):
        kind = type(secrets).__name__
        raise wrong("previous_secrets", f"<{kind}>", "a list of secrets, each of them bytes")
    for secret in secrets:
        check_secret("previous_secrets", secret)
    object.__setattr__(settings, "previous_secrets", tuple(secrets))
