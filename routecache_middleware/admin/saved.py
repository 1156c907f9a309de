"""What the administration app says of what was saved."""

from collections.abc import Callable, Mapping
from dataclasses import asdict

import msgspec

from routecache_middleware.admin.listing import hash_shown
from routecache_middleware.admin.values import Answer, Asked, refused
from routecache_middleware.core.explanation import shown, shown_all
from routecache_middleware.core.savings import OTHER, SavedRow
from routecache_middleware.errors import ConfigurationError

__all__ = ["SavedOf", "Savings", "savings"]


class SavedOf(msgspec.Struct, frozen=True, kw_only=True):
    """What was saved of one layer, model or tenant; ``usd`` is null when no price is known."""

    requests: int
    without_tokens: int
    input_tokens: int
    output_tokens: int
    upstream_s: float
    usd: float | None


class Savings(msgspec.Struct, frozen=True, kw_only=True):
    """Savings of this process: in all, by layer, model and (opaque) tenant, and of shadow mode."""

    requests: int
    input_tokens: int
    output_tokens: int
    usd: float
    saved_s: float
    cache_s: float
    unpriced: tuple[str, ...]
    by_layer: dict[str, SavedOf]
    by_model: dict[str, SavedOf]
    by_tenant: dict[str, SavedOf]
    shadow: dict[str, float]


async def savings(asked: Asked) -> Answer:
    """What this process has saved: tokens, money and time, less what the cache itself took."""
    try:
        found = asked.cache.savings()
    except ConfigurationError as error:
        return refused(409, str(error))
    secret = asked.cache.engine.settings.secret
    return Answer(
        Savings(
            requests=found.requests,
            input_tokens=found.input_tokens,
            output_tokens=found.output_tokens,
            usd=found.usd,
            saved_s=found.saved_s,
            cache_s=found.cache_s,
            unpriced=shown_all(found.unpriced),
            by_layer=_shares(found.by_layer(), str),
            by_model=_shares(found.by_model(), shown),
            by_tenant=_shares(found.by_tenant(), lambda name: _whose(name, secret)),
            shadow=asdict(asked.cache.shadow_report()),
        )
    )


def _shares(rows: Mapping[str, SavedRow], name: Callable[[str], str]) -> dict[str, SavedOf]:
    """Return rows by what they are called here; a row itself may name a tenant."""
    fields = SavedOf.__struct_fields__
    return {name(key): SavedOf(**{f: getattr(row, f) for f in fields}) for key, row in rows.items()}


def _whose(tenant: str, secret: bytes) -> str:
    return tenant if tenant == OTHER else hash_shown(tenant, secret)
