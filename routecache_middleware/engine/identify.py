"""From body bytes to what the cache has to know of a request, remembering bodies seen lately.

The memo is found by xxh3 of the body and confirmed by comparing the bytes and the context, so a
collision costs time, never correctness. It is bounded by ``memo_bytes``.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Iterator

import msgspec
import xxhash

from routecache_middleware.core.batch import Batched
from routecache_middleware.core.body_directives import (
    BODY_FIELD,
    BodyDirectives,
    read_body_directives,
)
from routecache_middleware.core.canonical import DoubtfulJSONError, decode
from routecache_middleware.core.dialect import Dialect, ParsedRequest
from routecache_middleware.core.explain import Explanation, explain
from routecache_middleware.core.fingerprint import (
    NAMESPACE,
    Fingerprint,
    KeyContext,
    fingerprint,
    result_hashes,
)
from routecache_middleware.core.models import BypassReason
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.settings import Settings

__all__ = ["Identified", "Identifier", "Several"]

_MEMO_OVERHEAD_BYTES = 512
_HASH_BYTES = 96  # a hash of 32 characters as Python holds it, and its place in a tuple
_MANY = 256  # hashing so many items takes a millisecond or two
_MOST_ITEMS = 2048  # OpenAI's own limit; so many keep the event loop for less than 5 ms at a time
_MOST_REPEATED_BYTES = (
    1_048_576  # of what the items share and each is hashed with; in a millisecond
)
_digest = xxhash.xxh3_64_intdigest


class Identified(msgspec.Struct, frozen=True):
    """A request that can be cached.

    Attributes:
        parsed: What it asks for.
        fingerprint: Its hashes.
        former: What they would be under each of the former secrets.
        asked: What the body itself asks of the cache, or None.
    """

    parsed: ParsedRequest
    fingerprint: Fingerprint
    former: tuple[Fingerprint, ...] = ()
    asked: BodyDirectives | None = None


class Several(Identified, frozen=True):
    """A request for several things at once, each of which is an entry of its own.

    Attributes:
        items: The result hash that each would have alone, in order.
        former_items: What they would be under each of the former secrets.
    """

    items: tuple[str, ...] = ()
    former_items: tuple[tuple[str, ...], ...] = ()


class Identifier:
    """Parses and hashes request bodies; one per cache, used by the event loop's thread only."""

    __slots__ = ("_bytes", "_heeds_bodies", "_memo", "_policy", "_seed", "_settings")

    def __init__(
        self, settings: Settings, policy: CachePolicy, *, heeds_bodies: bool = True
    ) -> None:
        """Remember nothing yet.

        Args:
            settings: Secrets, scopes and limits.
            policy: What else to leave out of the keys.
            heeds_bodies: Read a body's ``cache`` object. Not where the app has to see it.
        """
        self._heeds_bodies = heeds_bodies
        self._settings = settings
        self._policy = policy
        # Not a secret: it only keeps strangers from aiming at one slot of the memo.
        self._seed = secrets.randbits(63)
        # Not a plain dict: finding its first key costs a walk over all that were removed before it.
        self._memo: OrderedDict[int, tuple[bytes, KeyContext, Identified | BypassReason]] = (
            OrderedDict()
        )
        self._bytes = 0

    def recall(self, context: KeyContext, body: bytes) -> Identified | BypassReason | None:
        """Say what :meth:`identify` said of the same body lately, or None."""
        seen = self._memo.get(_digest(body, self._seed))
        if seen is not None and seen[0] == body and (seen[1] is context or seen[1] == context):
            return seen[2]
        return None

    async def identify(
        self, dialect: Dialect, context: KeyContext, body: bytes
    ) -> Identified | BypassReason:
        """Say what a body asks for, or why it is none of our business; no bytes make it raise."""
        seen = self.recall(context, body)
        if seen is not None:
            return seen
        found = await self.examine(dialect, context, body)
        self._remember(_digest(body, self._seed), body, context, found)
        return found

    async def examine(
        self, dialect: Dialect, context: KeyContext, body: bytes
    ) -> Identified | BypassReason:
        """As :meth:`identify`, without remembering anything."""
        is_long = len(body) > self._settings.hash_in_thread_bytes
        if is_long or (body.count(b",") > _MANY and isinstance(dialect, Batched)):
            return await asyncio.to_thread(self._identify, dialect, context, body)
        return self._identify(dialect, context, body)

    async def is_asked(self, body: bytes) -> bool:
        """Whether a body asks anything of the cache; no bytes make it raise."""
        if not self._heeds_bodies:
            return False
        try:
            if len(body) > self._settings.hash_in_thread_bytes:
                payload = await asyncio.to_thread(decode, body)
            else:
                payload = decode(body)
        except DoubtfulJSONError:
            return False
        return read_body_directives(payload) is not None

    def explain(self, dialect: Dialect, context: KeyContext, body: bytes) -> Explanation:
        """Say by name what counts in the hashes of a body that :meth:`identify` accepts.

        Raises:
            DoubtfulJSONError: It does not accept this one.
        """
        payload, context, _ = self._read(context, body)
        return explain(
            payload,
            dialect=dialect,
            context=context,
            ignored=self._policy.ignored_fields,
            scope=self._settings.decision_scope,
            router_version=self._settings.router_version,
            secret=self._settings.secret,
        )

    def recent(self) -> Iterator[tuple[bytes, KeyContext, Identified]]:
        """Yield the requests that are remembered, of all tenants, the one learnt last first.

        To be used up before the event loop goes on.
        """
        for body, context, found in reversed(self._memo.values()):
            if isinstance(found, Identified):
                yield body, context, found

    def _identify(
        self, dialect: Dialect, context: KeyContext, body: bytes
    ) -> Identified | BypassReason:
        said = _said(context)
        try:
            payload, context, asked = self._read(context, body)
            # Hashed is what was sent: a model in the body that the path overrules still counts.
            parsed = dialect.parse({**payload, **said} if said else payload)
            if parsed is None:
                return BypassReason.INVALID_JSON
            secrets = (self._settings.secret, *self._settings.previous_secrets)
            hashes = [
                fingerprint(
                    payload,
                    dialect=dialect,
                    context=context,
                    ignored=self._policy.ignored_fields,
                    scope=self._settings.decision_scope,
                    router_version=self._settings.router_version,
                    secret=secret,
                )
                for secret in secrets
            ]
            if 1 < parsed.choices <= _MOST_ITEMS and isinstance(dialect, Batched):
                alone = self._each(dialect, payload, context, len(body))
                if alone:
                    return Several(parsed, hashes[0], tuple(hashes[1:]), asked, *alone)
        except DoubtfulJSONError:
            return BypassReason.INVALID_JSON
        return Identified(parsed, hashes[0], tuple(hashes[1:]), asked)

    def _each(
        self, dialect: Dialect, payload: dict[str, object], context: KeyContext, size: int
    ) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]] | None:
        """Return the hashes of each item, now and under former secrets; None: it is one entry."""
        assert isinstance(dialect, Batched)  # noqa: S101 - else there would be no items
        items = dialect.split(payload)
        if len(items) == 1:
            return None
        hashes: list[tuple[str, ...]] = []
        for secret in (self._settings.secret, *self._settings.previous_secrets):
            alone = result_hashes(
                items,
                dialect=dialect,
                context=context,
                ignored=self._policy.ignored_fields,
                secret=secret,
                most_bytes=size + _MOST_REPEATED_BYTES,
            )
            if not alone:
                return None
            hashes.append(alone)
        return hashes[0], tuple(hashes[1:])

    def _read(
        self, context: KeyContext, body: bytes
    ) -> tuple[dict[str, object], KeyContext, BodyDirectives | None]:
        """Return a request without what it asks of the cache, and that."""
        payload = decode(body)
        asked = read_body_directives(payload) if self._heeds_bodies else None
        if asked is None:
            return payload, context, None
        payload = {name: value for name, value in payload.items() if name != BODY_FIELD}
        return payload, _within(context, asked.namespace), asked

    def _remember(
        self, slot: int, body: bytes, context: KeyContext, found: Identified | BypassReason
    ) -> None:
        limit = self._settings.memo_bytes
        cost = _cost(body, found)
        if cost > limit // 8:
            return
        replaced = self._memo.pop(slot, None)
        if replaced is not None:
            self._bytes -= _cost(replaced[0], replaced[2])
        while self._bytes + cost > limit:
            _, oldest = self._memo.popitem(last=False)
            self._bytes -= _cost(oldest[0], oldest[2])
        self._memo[slot] = (body, context, found)
        self._bytes += cost


def _within(context: KeyContext, namespace: str) -> KeyContext:
    """Return the context of a namespace."""
    if not namespace:
        return context
    held = (NAMESPACE, namespace.encode("utf-8", "surrogatepass"))
    return msgspec.structs.replace(context, headers=(*context.headers, held))


def _said(context: KeyContext) -> dict[str, object]:
    """Return what the path says and the body need not."""
    said = {"model": context.model, "stream": context.form}
    return {name: value for name, value in said.items() if value}


def _cost(body: bytes, found: Identified | BypassReason) -> int:
    cost = len(body) + _MEMO_OVERHEAD_BYTES
    if isinstance(found, Several):
        cost += len(found.items) * (1 + len(found.former_items)) * _HASH_BYTES
    return cost
