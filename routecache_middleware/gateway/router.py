"""The router for alias models: rules by length, tools, images, price and weight.

It is asked by the cache, which keeps what it decides. It draws no lots: a request's hash decides
among rules of the same price, so that every process sends it the same way.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from routecache_middleware.core.models import RoutingDecision
from routecache_middleware.core.request import LLMRequest
from routecache_middleware.gateway.settings import RouteSettings

__all__ = ["Needs", "RuleRouter", "needs_of"]

_IMAGES: Final = frozenset({"image", "image_url", "input_image"})
_TEXTS: Final = frozenset({"content", "input", "messages", "prompt", "system", "text"})


class Needs(NamedTuple):
    """What a request asks of a model.

    Attributes:
        chars: Characters of all texts of the prompt.
        handles: What else it has: ``images``, ``tools``.
    """

    chars: int
    handles: frozenset[str]


class RuleRouter:
    """Chooses a model for requests to an alias."""

    def __init__(self, routes: Sequence[RouteSettings]) -> None:
        self._routes: dict[str, list[RouteSettings]] = {}
        for route in routes:
            self._routes.setdefault(route.alias, []).append(route)
        written = repr(tuple(routes)).encode("utf-8", "surrogatepass")
        self._version = hashlib.blake2b(written, digest_size=8).hexdigest()

    async def __call__(self, request: LLMRequest) -> RoutingDecision:
        """Choose.

        Raises:
            LookupError: No rule of the alias fits; the request then goes on as it came.
        """
        return self.decide(request)

    def decide(self, request: LLMRequest) -> RoutingDecision:
        """Choose; as above."""
        needs = needs_of(request.payload)
        fitting = [r for r in self._routes.get(request.model, ()) if _fits(r, needs)]
        if not fitting:
            raise LookupError("no rule of the alias fits the request")
        ranked = _ranked(fitting, request.query_hash)
        total = sum(route.weight for route in ranked if route.price == ranked[0].price)
        scored = [(route.model, _score(route, ranked[0], total)) for route in ranked]
        unique = dict(reversed(scored))  # the first of each model stays
        (model, score), *others = [(name, unique[name]) for name in dict(scored)]
        return RoutingDecision(
            selected_model=model,
            score=score,
            alternatives=tuple(others),
            strategy="rules",
            router_version=self._version,
            score_kind="weight",
        )


def needs_of(payload: Mapping[str, object]) -> Needs:
    """Return what a request asks of a model, whichever API it is of."""
    prompt = [
        payload[name] for name in ("system", "messages", "input", "prompt") if name in payload
    ]
    chars, has_images = 0, False
    for part in _parts(prompt):
        if isinstance(part, str):
            chars += len(part)
        else:
            has_images = True
    has_tools = bool(payload.get("tools") or payload.get("functions"))
    handles = {name for name, has in (("images", has_images), ("tools", has_tools)) if has}
    return Needs(chars, frozenset(handles))


def _parts(value: object) -> Iterator[str | None]:
    """Yield the texts of a prompt, and None for each image."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list):
            left += one
        elif isinstance(one, dict):
            if one.get("type") in _IMAGES:
                yield None
            else:
                left += [member for name, member in one.items() if name in _TEXTS]


def _fits(route: RouteSettings, needs: Needs) -> bool:
    is_short = route.max_chars is None or needs.chars <= route.max_chars
    return is_short and needs.chars >= route.min_chars and needs.handles <= set(route.handles)


def _ranked(routes: list[RouteSettings], query_hash: str) -> list[RouteSettings]:
    """Return rules best first: the cheapest; among those of one price one by weight, then others.

    Each is given a number out of the request's hash, raised to 1 / weight: the greatest wins as
    often as its weight says (Efraimidis and Spirakis, 2006).
    """
    return sorted(routes, key=lambda route: (route.price, -_lot(route, query_hash)))


def _lot(route: RouteSettings, query_hash: str) -> float:
    named = msgspec.msgpack.encode([query_hash, route.model.encode("utf-8", "surrogatepass")])
    digest = hashlib.blake2b(named, digest_size=7).digest()
    share = (int.from_bytes(digest, "big") + 1) / (1 << 56)  # above 0, at most 1
    return float(share ** (1 / route.weight))


def _score(route: RouteSettings, best: RouteSettings, total: float) -> float:
    return route.weight / total if route.price == best.price else 0.0
