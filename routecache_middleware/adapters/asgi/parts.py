"""What all requests of one middleware share. Nothing in it belongs to a single request."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

from routecache_middleware.adapters.asgi.gate import Gate
from routecache_middleware.adapters.asgi.head import HeadReader
from routecache_middleware.adapters.asgi.types import ASGIApp
from routecache_middleware.core.models import RoutingDecision
from routecache_middleware.core.overrides import VerdictError
from routecache_middleware.core.request import LLMRequest
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.faults import fault
from routecache_middleware.engine.identify import Identifier
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.cache import RouteCache
from routecache_middleware.wiring.eligibility import Chooser, Eligible

__all__ = ["Parts", "Router", "Routing", "WarnOnce"]

Router = Callable[[LLMRequest], RoutingDecision | str | Awaitable[RoutingDecision | str]]
"""Chooses a model for a request. An async callable is awaited, a plain one runs in a thread."""

_logger = logging.getLogger("routecache")

_NOT_WRITTEN = frozenset({"count_tokens", "embeddings", "rerank"})


_MAX_KINDS = 64  # of failures that are told of: types of errors may be made at run time


class WarnOnce:
    """Logs the first failure of each kind; the rest would only fill the disk."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def __call__(
        self, what: str, error: BaseException, so: str = "requests go on without it"
    ) -> None:
        """Log that ``what`` failed, with what and where, unless that was said before.

        The error's text stays out: it may quote what a client sent. ``so``: what comes of it, and
        what to do.
        """
        kind = type(error).__name__
        if (what, kind) in self._seen or len(self._seen) >= _MAX_KINDS:
            return
        self._seen.add((what, kind))
        if isinstance(error, ConfigurationError):  # says the remedy, and nothing secret
            _logger.warning("%s does not work: %s; %s", what, error, so)
        elif isinstance(error, VerdictError):  # likewise
            _logger.warning("%s failed: %s; %s", what, error, so)
        else:
            _logger.warning("%s failed with %s; %s", what, fault(error), so)


class Routing:
    """The user's router, called the right way."""

    __slots__ = ("_chooser", "_is_async", "_models", "_router", "eligible")

    def __init__(
        self, router: Router, models: frozenset[str] | None, eligible: Eligible | None
    ) -> None:
        self._router = router
        self._models = models
        self._is_async = inspect.iscoroutinefunction(router) or inspect.iscoroutinefunction(
            getattr(router, "__call__", None)  # noqa: B004 - looking at the method, not asking whether there is one
        )
        self.eligible = eligible
        self._chooser = Chooser()

    def wants(self, model: str, verb: str) -> bool:
        """Whether requests for ``model`` are routed; ``verb``: their dialect's.

        Where the models are not named, only APIs whose answers are written by the model are: a
        vector, a ranking or a count of another model than the client's is another thing.
        """
        if self._models is None:
            return verb not in _NOT_WRITTEN
        return model in self._models

    async def decide(self, request: LLMRequest) -> RoutingDecision:
        """Ask the router.

        Raises:
            TypeError: It returned neither a decision nor a model name.
            Exception: Whatever the router raised.
        """
        started_s = asyncio.get_running_loop().time()
        if self._is_async:
            answer = await cast("Awaitable[RoutingDecision | str]", self._router(request))
        else:
            said = await asyncio.to_thread(self._router, request)
            answer = await said if inspect.isawaitable(said) else said
        if isinstance(answer, str) and answer:
            answer = RoutingDecision(answer)
        if not (isinstance(answer, RoutingDecision) and answer.selected_model):
            raise TypeError(
                f"a router returns a RoutingDecision or a model name, not {type(answer)}"
            )
        elapsed_ms = (asyncio.get_running_loop().time() - started_s) * 1000
        return answer if answer.decide_ms else replace(answer, decide_ms=round(elapsed_ms, 3))

    def usable(self, decision: RoutingDecision) -> RoutingDecision | None:
        """Return the decision with its best eligible model, or None when there is none."""
        return self._chooser.choose(decision, self.eligible)

    def computing(self, request: LLMRequest) -> Callable[[], Awaitable[RoutingDecision]]:
        """Return the call, to be made if need be."""
        return partial(self.decide, request)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a middleware.

    With a gate, what is forwarded is left to the cache behind it: that one counts it and, where it
    writes our fields into the response, has the last word.
    """

    app: ASGIApp
    cache: RouteCache
    engine: Engine
    heads: HeadReader
    identifier: Identifier
    routing: Routing | None
    warn: WarnOnce
    stored_headers: frozenset[bytes]
    gate: Gate | None = None
    refreshing: set[str] = field(default_factory=set)
