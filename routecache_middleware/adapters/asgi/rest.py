"""Asking the app for the items that are not known, and joining its answer with those that are.

The app's answer is kept back until it is complete. What cannot be joined is thrown away, and the
app is asked again, with the request as it came: a request never fails because part of it was known.
An answer that says an error is passed on, unless the error is about the body that we have made.
"""

from msgspec.structs import replace

from routecache_middleware.adapters.asgi.app_call import AppCall
from routecache_middleware.adapters.asgi.batch import aside
from routecache_middleware.adapters.asgi.body import Replay
from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.items import Items
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.relay import Relay
from routecache_middleware.adapters.asgi.scopes import ChildScope, detach_state
from routecache_middleware.adapters.asgi.state import RouteCacheState
from routecache_middleware.adapters.asgi.types import Headers, Message, Receive, Send
from routecache_middleware.core import cache_status
from routecache_middleware.core.batch import Batched
from routecache_middleware.core.canonical import decode
from routecache_middleware.core.models import MissReason, ResponseMode
from routecache_middleware.core.plan import plan_share, plan_store, read_response_head
from routecache_middleware.engine.recheck import are_still_current

__all__ = ["RestCall", "call_for"]

_FIRST_ERROR = 400
# These may name an item by its place, and the client does not know the places in our list.
_ABOUT_THE_BODY = frozenset({400, 413, 422})
# What is said of the bytes that the app has sent is not true of those that we make of them.
_OF_THE_BYTES = frozenset(
    {
        b"age",
        b"content-digest",
        b"content-length",
        b"content-md5",
        b"digest",
        b"etag",
        b"repr-digest",
        b"signature",
        b"signature-input",
    }
)
_JSON = ResponseMode.JSON
_START, _BODY = "http.response.start", "http.response.body"
_TRAILERS = "http.response.trailers"
_MAX_AGE_DIGITS = 11  # RFC 9111 section 1.2.2 counts no further than 2^31


def call_for(parts: Parts, case: Case, state: RouteCacheState) -> AppCall:
    """Return the call of the app that a request needs."""
    items = case.items
    if items is None or not items.wanted or case.bypass is not None:
        return AppCall(parts, case, state)
    return RestCall(parts, case, state, items)


class RestCall(AppCall):
    """A call for some of the items, and another one for all of them where that is of no use."""

    __slots__ = ("_items",)

    def __init__(self, parts: Parts, case: Case, state: RouteCacheState, items: Items) -> None:
        super().__init__(parts, case, state)
        self._items = items

    def replayed(self) -> list[Message]:
        """Return nothing: each call of the app gets a body of its own."""
        return []

    async def run(self, child: ChildScope, receive: Receive, send: Send, relay: Relay) -> None:
        """Call the app; raises what it raises."""
        parts, case = self._parts, self._case
        body = await self._rest()
        if body is not None:
            joint = _Joint(parts, case, self._items, self.state, send, relay)
            message: Message = {"type": "http.request", "body": body, "more_body": False}
            some = ChildScope(case.scope, body=body, is_storable=True)
            try:
                await super().run(some, Replay([message], receive), joint.send, relay)
            finally:
                joint.capture.release()
            if joint.is_over or relay.is_client_gone:
                return
            self._begin_again(relay)
        await super().run(child, Replay(super().replayed(), receive), send, relay)

    async def _rest(self) -> bytes | None:
        """Return the body of a request for what is not known."""
        parts, case, items = self._parts, self._case, self._items
        dialect = case.dialect
        assert isinstance(dialect, Batched)  # noqa: S101 - else it would have no items
        came = b"".join(message.get("body", b"") for message in super().replayed())
        try:
            count = len(items.keys)
            return await aside(
                parts, len(came), count, lambda: dialect.only(decode(came), items.wanted)
            )
        except Exception as error:  # noqa: BLE001 - a fault of ours must not fail the request
            parts.warn("the cache", error)
            items.wanted = ()
            return None

    def _begin_again(self, relay: Relay) -> None:
        """Forget what the first call has come to; what it said of its answer is not about this."""
        first = self.state
        detach_state(self._case.scope, first)
        self.state = RouteCacheState(self._parts.engine)
        self.state.outcome = first.outcome
        self._items.fresh, relay.status = None, 0


class _Joint:
    """The ``send`` of a call for some of the items.

    Attributes:
        capture: Its part of the memory for answers under way.
        is_over: The client has its answer, or the beginning of one.

    Messages of other kinds pass, but for trailers: they end the app's own answer, so they go where
    that goes.
    """

    __slots__ = (
        "_case",
        "_chunks",
        "_is_own",
        "_is_useless",
        "_items",
        "_parts",
        "_relay",
        "_send",
        "_start",
        "_state",
        "capture",
        "is_over",
    )

    def __init__(  # noqa: PLR0917 - private, and always the same six
        self,
        parts: Parts,
        case: Case,
        items: Items,
        state: RouteCacheState,
        send: Send,
        relay: Relay,
    ) -> None:
        self._parts = parts
        self._case = case
        self._items = items
        self._state = state
        self._send = send
        self._relay = relay
        self._start: Message | None = None
        self._chunks: list[bytes] = []
        self._is_own = self._is_useless = False
        self.capture = parts.engine.captures.start(len(items.wanted))
        self.is_over = False

    async def send(self, message: Message) -> None:
        """Take a message from the app; its client gets it all at once, joined."""
        kind = message["type"]
        if kind == _START and not self.is_over:
            self._begin(message)
        if self._is_own or kind not in {_START, _BODY, _TRAILERS}:
            await self._send(message)
        elif kind == _BODY and not (self._is_useless or self.is_over):
            await self._body(message)

    def _begin(self, message: Message) -> None:
        status = self._relay.status = message["status"]
        facts = read_response_head(
            status, message.get("headers", ()), has_trailers=message.get("trailers", False)
        )
        self._start = message
        self.is_over = self._is_own = status >= _FIRST_ERROR and status not in _ABOUT_THE_BODY
        if not self.is_over and plan_share(facts, _JSON) is not None:
            self._useless()

    async def _body(self, message: Message) -> None:
        chunk = message.get("body", b"")
        if not self.capture.take(len(chunk)):
            self._useless()
            return
        self._chunks.append(chunk)
        if message.get("more_body", False):
            return
        try:
            joined = await self._joined(b"".join(self._chunks))
        except Exception as error:  # noqa: BLE001 - a fault of ours must not fail the request
            self._parts.warn("the cache", error)
            joined = None
        if joined is None:
            self._useless()
            return
        self.is_over = True
        self._let_go()  # not when the app returns: it may have work to do in the background
        self._relay.stamp.cache_status = cache_status.forwarded(MissReason.PARTIAL)
        for made in joined:
            await self._send(made)

    def _useless(self) -> None:
        self._is_useless = True
        self._let_go()

    def _let_go(self) -> None:
        """Give the memory back: of the answer's parts nothing is needed any more."""
        self._chunks.clear()
        self.capture.release()
        self._items.known = {}

    async def _joined(self, body: bytes) -> list[Message] | None:
        start = self._start
        if start is None or not _has_length(start, body) or not await self._is_still_known():
            return None
        size = len(body) + sum(len(serve.entry.body) for serve in self._items.known.values())
        count = len(self._items.keys)
        whole = await aside(self._parts, size, count, lambda: self._put_together(body))
        engine, held = self._parts.engine, self._items.held()
        if whole is None or not all(engine.is_current(key, entry) for key, entry in held):
            return None
        return [
            {**start, "headers": self._headers(start, len(whole))},
            {"type": "http.response.body", "body": whole, "more_body": False},
        ]

    async def _is_still_known(self) -> bool:
        """Whether nothing of what is known was invalidated while the app was at work."""
        engine, case = self._parts.engine, self._case
        if self._state.model_served not in {"", case.model}:  # the rest has another model
            return False
        return await are_still_current(engine, self._items.held())

    def _put_together(self, body: bytes) -> bytes | None:
        dialect, found, items = self._case.dialect, self._case.found, self._items
        assert isinstance(dialect, Batched)  # noqa: S101 - else it would have no items
        assert found is not None  # noqa: S101 - likewise
        sizes = found.parsed.sizes
        asked = replace(
            found.parsed,
            choices=len(items.wanted),
            sizes=tuple(sizes[place] for place in items.wanted) if sizes else (),
        )
        judgement = dialect.judge(body, _JSON, asked)
        held = self._case.policy
        policy = self._parts.engine.policy if held is None else held.policy
        if plan_store(judgement, asked, policy) is not None:
            return None
        apart = [body] if len(items.wanted) == 1 else dialect.take_apart(body, asked)
        if apart is None:
            return None
        items.fresh = dict(zip(items.wanted, apart, strict=True))
        return dialect.put_together(items.in_order(), found.parsed)

    def _headers(self, start: Message, length: int) -> Headers:
        sent: Headers = [(name, value) for name, value in start.get("headers", ())]
        headers = [pair for pair in sent if pair[0].lower() not in _OF_THE_BYTES]
        headers.append((b"content-length", b"%d" % length))
        ages = [value for name, value in sent if name.lower() == b"age"]
        if self._parts.engine.settings.response_headers:
            upstream_s = [
                int(value) for value in ages if len(value) < _MAX_AGE_DIGITS and value.isdigit()
            ]
            headers.append((b"age", b"%d" % max(self._items.age_s, *upstream_s, 0)))
        return headers


def _has_length(start: Message, body: bytes) -> bool:
    """Whether no other length was announced."""
    names = [value for name, value in start.get("headers", ()) if name.lower() == b"content-length"]
    return all(value == b"%d" % len(body) for value in names)
