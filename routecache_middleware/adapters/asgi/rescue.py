"""stale-if-error (RFC 5861 section 4): what is past its lifetime, instead of a failure."""

from collections.abc import Awaitable

from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.relay import Relay
from routecache_middleware.adapters.asgi.serving import as_rescue
from routecache_middleware.adapters.asgi.types import Message, Send
from routecache_middleware.core.models import Outcome
from routecache_middleware.core.plan import Forward, Serve
from routecache_middleware.engine.recheck import are_still_current

__all__ = ["Rescue", "rescue_for", "saved_by"]

_FAILURES = frozenset({429, 500, 502, 503, 504})  # 429 is ours: to a model's client it is a failure


class Rescue:
    """The way out for one request, should the app fail. Counts the miss, or what took its place."""

    __slots__ = ("_case", "_is_settled", "_parts", "_plan")

    def __init__(self, parts: Parts, case: Case, plan: Serve) -> None:
        self._parts = parts
        self._case = case
        self._plan = plan
        self._is_settled = False

    async def on_status(self, status: int) -> list[Message] | None:
        """Return what to send instead of a response of this status; None: the app's own."""
        answer = await self.answer() if status in _FAILURES else None
        if answer is None:
            self.not_needed()
        return answer

    async def answer(self) -> list[Message] | None:
        """Return the stale answer, unless it may not be used or cannot be made of what is there."""
        if self._is_settled:
            return None
        answer = None
        held = ((self._case.key, self._plan.entry),)
        try:
            if await are_still_current(self._parts.engine, held) and not self._is_settled:
                answer = self._stale_answer()
        except Exception as error:  # noqa: BLE001 - a fault of ours must not change the answer
            self._parts.warn("the cache", error)
        self._is_settled |= answer is not None
        return answer

    async def run(self, calling: Awaitable[None], relay: Relay, send: Send) -> None:
        """Call the app; if it raises before it has answered, answer in its place.

        Raises:
            Exception: What the app raised, when there is nothing to answer with.
        """
        try:
            await calling
        except Exception as error:
            answer = None if relay.status else await self.answer()
            if answer is None:
                raise
            self._parts.warn("the app", error)
            for message in answer:
                await send(message)
        finally:
            self.not_needed()

    def not_needed(self) -> None:
        """The app has the last word: a miss like any other; idempotent."""
        if not self._is_settled:
            self._is_settled = True
            recorder, case = self._parts.engine.recorder, self._case
            recorder.result.misses += 1
            recorder.models.count(Outcome.MISS, case.model, case.dialect.verb)

    def _stale_answer(self) -> list[Message] | None:
        case, entry, found = self._case, self._plan.entry, self._case.found
        if found is None:
            return None
        parsed = found.parsed
        body: bytes | None = entry.body
        if entry.shape != parsed.shape:
            if case.proceed is None or not case.proceed.may_convert:
                return None
            body = case.dialect.render(entry.body, entry.mode, parsed)
        return None if body is None else as_rescue(self._parts, case, self._plan, body, parsed.mode)


def saved_by(status: int) -> bool:
    """Whether a response of this status, or none at all (0), is a failure to be rescued from."""
    return status in _FAILURES or not status


def rescue_for(parts: Parts, case: Case) -> Rescue | None:
    """Return the way out for a request that is about to be forwarded, if it has one."""
    plan = None if case.lookup is None else case.lookup.plan
    if not isinstance(plan, Forward) or plan.fallback is None or case.is_refresh:
        return None
    if case.proceed is None or not case.proceed.may_serve:
        return None
    return Rescue(parts, case, plan.fallback)
