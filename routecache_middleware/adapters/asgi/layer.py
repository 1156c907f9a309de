"""A cache around an ASGI app: which requests it takes, and how each of them begins."""

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, cast

from routecache_middleware.adapters.asgi.exchange import Exchange
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.quick import QuickLane
from routecache_middleware.adapters.asgi.scopes import state_above
from routecache_middleware.adapters.asgi.types import Receive, Scope, Send
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.dialect import Dialect

if TYPE_CHECKING:
    from routecache_middleware.core.ports import Entering

__all__ = ["CacheLayer", "Match"]

_OFF = Mode.OFF
_SAMPLING = 63  # one less than a power of two

Match = Callable[[str, str], Dialect | None]
"""``(method, path)`` to the API of a request, or None: the cache has no business with it."""


class CacheLayer:
    """Serves requests of known APIs from a cache, and passes on everything else untouched.

    Immutable after construction; what one request needs lives in an object of its own.
    """

    def __init__(self, parts: Parts, match: Match) -> None:
        """Build a layer of its parts; opens nothing."""
        self._parts = parts
        self._app = parts.app
        self._engine = parts.engine
        self._match = match
        observer: object = parts.engine.observer
        self._entering = cast("Entering", observer) if hasattr(observer, "enter") else None
        self._quick = QuickLane(
            parts.engine,
            parts.heads,
            parts.identifier,
            has_router=parts.routing is not None,
            gate=parts.gate,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            dialect = self._match(scope["method"], scope["path"])
            if dialect is not None and self._takes_part(scope):
                entering, token = self._entering, None
                if entering is not None and not self._engine.is_quiet:
                    token = entering.enter(scope["headers"])
                if token is None or entering is None:
                    await self._serve(dialect, scope, receive, send)
                    return
                try:
                    await self._serve(dialect, scope, receive, send)
                finally:
                    entering.leave(token)
                return
        await self._app(scope, receive, send)

    async def _serve(self, dialect: Dialect, scope: Scope, receive: Receive, send: Send) -> None:
        """Try the short way; whatever it comes to, or fails with, the long way takes over there."""
        head = first = tried = None
        quick, recorder = self._quick, self._engine.recorder
        # One in 64 is timed: two readings of the clock cost a fiftieth of such a hit.
        is_timed = recorder.result.hits & _SAMPLING == _SAMPLING
        began_s = perf_counter() if is_timed else 0.0
        try:
            head = quick.head(dialect, scope)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not fail the request
            self._parts.warn("the cache", error)
        if head is not None:
            if is_timed:  # the client's time is not ours
                began_s -= perf_counter()
            first = await receive()
            if is_timed:
                began_s += perf_counter()
            try:
                answer = quick.answer(dialect, head, first)
            except Exception as error:  # noqa: BLE001 - as above
                self._parts.warn("the cache", error)
            else:
                if isinstance(answer, tuple):
                    if is_timed:
                        recorder.time.sampled(perf_counter() - began_s)
                        recorder.popular.seen(quick.key_of(head, first), _SAMPLING + 1)
                    await send(answer[0])
                    await send(answer[1])
                    return
                tried = answer
        exchange = Exchange(
            self._parts, dialect, scope, receive, send, head=head, first=first, tried=tried
        )
        await exchange.run()

    def _takes_part(self, scope: Scope) -> bool:
        if self._engine.mode is _OFF and self._parts.routing is None:
            return False
        state = scope.get("state")
        if not state:
            return True
        # Another middleware above us has the same cache: it leads the flight that this request is
        # part of, and joining that would be waiting for ourselves.
        outer = state_above(scope)
        while outer is not None and outer.cache is not self._engine:
            outer = outer.outer
        return outer is None
