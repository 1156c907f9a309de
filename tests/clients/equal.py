"""Whether a client library can tell a hit from a live answer."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from tests.clients.serving import Exchange, Gateway
from tests.support.child import wait_until

__all__ = ["dump", "live", "live_and_hit", "served"]


def dump(value: Any) -> Any:
    """Return everything that a parsed answer holds, as plain data that compares by value.

    Of a model: its class, every field, and which of them the answer really had.
    """
    if isinstance(value, BaseModel):
        return (
            type(value).__name__,
            value.model_dump(warnings=False),
            value.model_dump(warnings=False, exclude_unset=True),
        )
    if isinstance(value, Mapping):
        return {name: dump(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [dump(item) for item in value]
    return value


def served(gateway: Gateway, key: str, call: Callable[[], Any]) -> tuple[Any, Exchange]:
    """Return what a call returned, as plain data, and its only exchange with the gateway."""
    before = len(gateway.seen(key))
    result = call()
    made = gateway.seen(key)[before:]
    assert len(made) == 1, [(exchange.path, exchange.status) for exchange in made]
    # The client has the last byte before the cache has stored the answer: that is how it should be.
    wait_until(lambda: made[0].is_over, "the exchange is over")
    return result, made[0]


def live(gateway: Gateway, key: str, call: Callable[[], Any]) -> tuple[Any, Exchange]:
    """Make a call that is answered live."""
    result, exchange = served(gateway, key, call)
    assert (exchange.status, exchange.outcome) == (200, "MISS")
    return result, exchange


def live_and_hit(gateway: Gateway, key: str, call: Callable[[], Any]) -> tuple[Any, Exchange]:
    """Make a call twice: live, and from the cache; all that is parsed of it and all bytes equal.

    Returns:
        What the hit was parsed to, and its exchange.
    """
    at_first, first = live(gateway, key, call)
    hit, second = served(gateway, key, call)
    assert second.outcome == "HIT"
    assert (second.status, second.headers["content-type"], second.body) == (
        first.status,
        first.headers["content-type"],
        first.body,
    )
    assert second.is_whole
    assert hit == at_first
    return hit, second
