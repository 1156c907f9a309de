"""One attempt of LiteLLM to get an answer, from its first hook to the last write.

LiteLLM hands a key from the lookup to the write, in several ways, through several tasks. So the key
itself carries what has to go with it: a string that knows its call.
"""

import asyncio
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

from routecache_middleware.adapters.litellm.outcomes import CallOutcome
from routecache_middleware.adapters.litellm.results.apis import Api
from routecache_middleware.adapters.litellm.results.keying import Identified, Keyer, Keys
from routecache_middleware.core.body_directives import BodyDirectives
from routecache_middleware.core.canonical import DoubtfulJSONError
from routecache_middleware.core.models import BypassReason, Position

if TYPE_CHECKING:
    from routecache_middleware.adapters.litellm.results.board import Flight
    from routecache_middleware.core.overrides import RequestPolicy
    from routecache_middleware.core.plan import Proceed
    from routecache_middleware.engine.claims import Claim
    from routecache_middleware.engine.leases import Lease
    from routecache_middleware.engine.lookup import Lookup

__all__ = ["Ask", "Call", "CallKey", "begun_call", "call_of"]


class Ask:
    """One entry that a call wants: one per call, or one per input of an embedding.

    Attributes:
        keys: Where it is kept.
        position: The captured position.
        lookup: What the lookup has found; None before it, and when there was none.
        flight: The flight that this call leads, if any.
        lease: The lease under which it is made, if any.
        late: The claim of a call that has waited too long for somebody else's answer.
        began_s: When making it began, on the monotonic clock.
        is_written: The answer has come to the cache; whatever comes after it is the same again.
    """

    __slots__ = (
        "began_s",
        "flight",
        "is_written",
        "keys",
        "late",
        "lease",
        "lookup",
        "position",
    )

    def __init__(self, keys: Keys, position: Position, began_s: float) -> None:
        self.keys = keys
        self.position = position
        self.began_s = began_s
        self.lookup: Lookup | None = None
        self.flight: Flight | None = None
        self.lease: Lease | None = None
        self.late: Claim | None = None
        self.is_written = False


class Call:
    """One attempt.

    Attributes:
        api: Its API.
        call_id: LiteLLM's id of the call; retries and fallbacks keep it.
        controls: What it asks of the cache.
        own_key: The caller's own ``cache_key``, or None.
        inputs: All of its inputs, where each has an entry: LiteLLM brings them one by one.
        record: What is told of it: in headers, and to the other parts.
        identified: What it asks for, or why it is not cached; None: not found out yet.
        held: What the policy says of it, once it was asked.
        proceed: What may be done for it, once that is known.
        asks: Its entries.
        leads: How many flights it leads now.
        served: How many of its entries the cache has had.
        is_reported: Whether it was told what became of it.
        is_cut_off: Its stream has just stopped, although LiteLLM takes it for complete.
    """

    __slots__ = (
        "_began_s",
        "_position",
        "_task",
        "api",
        "asks",
        "call_id",
        "controls",
        "held",
        "identified",
        "inputs",
        "is_cut_off",
        "is_reported",
        "leads",
        "own_key",
        "proceed",
        "record",
        "served",
    )

    def __init__(
        self,
        api: Api,
        call_id: str,
        controls: BodyDirectives,
        own_key: object,
        record: CallOutcome,
        *,
        position: Position,
        began_s: float,
    ) -> None:
        self.api = api
        self.call_id = call_id
        self.controls = controls
        self.own_key = own_key
        self.record = record
        self.inputs: object = None
        self.identified: Identified | BypassReason | None = None
        self.held: RequestPolicy | None = None
        self.proceed: Proceed | None = None
        self.asks: dict[str, Ask] = {}
        self.leads = self.served = 0
        self.is_reported = self.is_cut_off = False
        self._position = position
        self._began_s = began_s
        # Not the task itself: it holds the arguments, they hold the key, and that holds this.
        self._task = weakref.ref(task) if (task := asyncio.current_task()) else None

    @property
    def task(self) -> "asyncio.Task[Any] | None":
        """The task that makes it, while there is one."""
        return None if self._task is None else self._task()

    def identify(self, keyer: Keyer, kwargs: Mapping[str, Any], size: int | None = None) -> None:
        """Find out what is asked for, from all arguments; once. Usable from any thread."""
        if self.identified is None:
            self.identified = BypassReason.INTERNAL_ERROR  # should the next line raise
            self.identified = keyer.identify(
                self.api, kwargs, self.controls, self.own_key, size=size, inputs=self.inputs
            )

    def ask(self, item: Any = None) -> Ask | None:
        """Return the entry that is wanted, for one of several inputs or for all; None: none is."""
        if not isinstance(self.identified, Identified):
            return None
        try:
            keys = self.identified.keys() if item is None else self.identified.keys_of(item)
        except DoubtfulJSONError:
            return None
        found = self.asks.get(keys.key)
        if found is None:
            found = self.asks[keys.key] = Ask(keys, self._position, self._began_s)
        return found


class CallKey(str):
    """A key as LiteLLM sees it: any string, empty while it is not known."""

    __slots__ = ("ask", "call")

    call: Call
    ask: Ask | None

    def __new__(cls, key: str, call: Call, ask: Ask | None = None) -> Self:
        """Return ``key`` on behalf of ``call``."""
        made = super().__new__(cls, key)
        made.call, made.ask = call, ask
        return made

    def mark_cut_off(self) -> None:
        """The stream of the call has just stopped."""
        self.call.is_cut_off = self.call.record.is_cut_off = True

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)  # elsewhere it means nothing


begun_call: ContextVar[Call | None] = ContextVar("routecache_litellm_call", default=None)
"""The call whose hook ran last in this context: LiteLLM drops the key before it asks for it."""


def call_of(kwargs: Mapping[str, Any]) -> Call | None:
    """Return the call that these arguments belong to; None: the cache has no part in it."""
    key = kwargs.get("cache_key")
    if isinstance(key, CallKey):
        return key.call
    call = begun_call.get()
    return call if call is not None and call.call_id == kwargs.get("litellm_call_id") else None
