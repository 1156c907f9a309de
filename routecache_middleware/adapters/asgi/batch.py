"""Requests for several things at once, such as embeddings: each of them is an entry of its own.

Such a request is looked up item by item. If all are known, one answer is put together. If none is,
it is forwarded as it came, and its answer is taken apart to be stored. If some are, the app is
asked for the others only: see :mod:`routecache_middleware.adapters.asgi.rest`. The answer to the
whole request is not stored besides.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.head import RequestHead
from routecache_middleware.adapters.asgi.items import Items
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.serving import as_hit
from routecache_middleware.adapters.asgi.types import Message, Scope
from routecache_middleware.core.batch import Batched, shared_out
from routecache_middleware.core.keys import CacheKey, result_key
from routecache_middleware.core.models import DiscardReason, Entry, MissReason, Outcome
from routecache_middleware.core.plan import Proceed, Serve
from routecache_middleware.engine.identify import Several
from routecache_middleware.engine.many import lookup_many, put_many

__all__ = ["PART", "aside", "look_up_items", "may_be_changed", "store_items"]

PART = "part"
"""Shape of an entry that was taken out of an answer to several: no upstream has sent it so."""

_IDEMPOTENCY = b"idempotency-key"
_MANY = 128  # taking so many short answers apart, or putting them together, takes a millisecond

T = TypeVar("T")


async def aside(parts: Parts, size_bytes: int, items: int, work: Callable[[], T]) -> T:
    """Do ``work`` on so many bytes of so many items: in a thread if they are many."""
    if size_bytes > parts.engine.settings.hash_in_thread_bytes or items > _MANY:
        return await asyncio.to_thread(work)
    return work()


async def look_up_items(
    parts: Parts, case: Case, head: RequestHead, found: Several, plan: Proceed
) -> list[Message] | None:
    """Return the answer to a request all of whose items are known, or find out what is."""
    engine = parts.engine
    # A stale item is asked for anew, with the others that are missing.
    directives = dataclasses.replace(case.directives, max_stale_s=0.0)
    keys = _keys(found.items, case.model, case.tenant)
    each = list(dict.fromkeys(keys))
    looked = await lookup_many(
        engine,
        each,
        asked=directives,
        model=case.model,
        verb=case.dialect.verb,
        former=_former_keys(case, head, found, each, keys),
        tenant=case.tenant,
    )
    case.lookup = looked.lookup
    known = {
        key: serve
        for key, serve in zip(each, looked.plans, strict=True)
        if isinstance(serve, Serve)
    }
    items = case.items = Items(keys, known, looked.under)
    is_whole = len(known) == len(each)
    case.miss = _reason(looked.lookup.plan, items, is_whole=is_whole)
    if not plan.may_serve:  # shadow mode
        engine.recorder.shadow_hits += is_whole
    elif known and not plan.may_convert:
        case.miss = MissReason.CONVERSION  # what was put together is nothing that anybody has sent
    elif is_whole:
        return await _serve(parts, case, items, found)
    elif known and may_be_changed(case.scope, head):
        items.wanted = items.unknown
        if directives.max_age_s is not None or directives.min_fresh_s:
            # Others may have found older parts, and their answer does not say so.
            case.proceed = replace(plan, may_share=False)
    return None


async def store_items(parts: Parts, case: Case, found: Several, whole: Entry) -> None:
    """Store the answer to each item; ``whole`` is the entry that the whole answer would be."""
    engine, items = parts.engine, case.items
    if engine.coordinator.is_shared and _has_failed(case):
        engine.recorder.result.write_errors += 1
        return
    fresh = None if items is None else items.fresh
    if fresh is None:
        fresh = await _taken_apart(parts, case, found, whole.body)
    if fresh is None:
        engine.recorder.discarded(DiscardReason.INCOMPLETE, case.key)
        return
    # Asked for alone, an item was answered as it always is.
    shape = found.parsed.shape if len(fresh) == 1 else PART
    headers = tuple(pair for pair in whole.headers if pair[0] != b"age")
    tokens = _tokens_of(found, whole, items)
    whole = replace(whole, shape=shape, headers=headers)
    entries = await aside(parts, 0, len(fresh), lambda: _entries(case, found, whole, fresh, tokens))
    if items is not None:
        items.fresh = {}  # the request may go on for long after its answer
    await put_many(engine, entries, verb=case.dialect.verb)
    engine.recorder.stored(case.key)


def _entries(
    case: Case, found: Several, whole: Entry, fresh: Mapping[int, bytes], tokens: Sequence[int]
) -> list[tuple[CacheKey, Entry]]:
    model, tenant = whole.model_id, case.tenant
    return [
        (
            result_key(found.items[place], model, tenant),
            replace(whole, body=body, input_tokens=tokens[place], output_tokens=0),
        )
        for place, body in fresh.items()
    ]


def _tokens_of(found: Several, whole: Entry, items: Items | None) -> list[int]:
    """Return how many of the tokens of a whole answer each item has cost."""
    if items is not None and items.wanted:  # the answer counts parts that were there before
        return [0] * len(found.items)
    total = whole.input_tokens + whole.output_tokens
    return shared_out(total, found.parsed.sizes or (1,) * len(found.items))


async def _taken_apart(
    parts: Parts, case: Case, found: Several, body: bytes
) -> dict[int, bytes] | None:
    dialect = case.dialect
    assert isinstance(dialect, Batched)  # noqa: S101 - else it would not be a request for several
    count = len(found.items)
    apart = await aside(parts, len(body), count, lambda: dialect.take_apart(body, found.parsed))
    if apart is None:
        return None
    firsts = {found.items[place]: place for place in reversed(range(len(found.items)))}
    return {place: apart[place] for place in firsts.values()}


async def _serve(parts: Parts, case: Case, items: Items, found: Several) -> list[Message] | None:
    dialect, bodies = case.dialect, items.in_order()
    assert isinstance(dialect, Batched)  # noqa: S101 - as above
    size = sum(map(len, bodies))
    body = await aside(parts, size, len(bodies), lambda: dialect.put_together(bodies, found.parsed))
    if not all(parts.engine.is_current(key, entry) for key, entry in items.held()):
        case.miss = MissReason.INVALIDATED  # while this was done, as far as is known here
        return None
    if body is None:  # they do not go together: ask for all of them anew
        case.miss = MissReason.CONVERSION
        return None
    return as_hit(parts, case, items.as_one(), body, found.parsed.mode)


def _keys(hashes: Sequence[str], model: str, tenant: str) -> list[CacheKey]:
    return [result_key(query_hash, model, tenant) for query_hash in hashes]


def _former_keys(
    case: Case,
    head: RequestHead,
    found: Several,
    each: Sequence[CacheKey],
    keys: Sequence[CacheKey],
) -> list[list[CacheKey]]:
    """Return what the keys were under each of the former secrets."""
    is_shared = case.tenant != head.tenant
    former = []
    for number, hashes in enumerate(found.former_items):
        tenant = case.tenant if is_shared else head.former_tenants[number]
        now_then = dict(zip(keys, hashes, strict=True))
        former.append(_keys([now_then[key] for key in each], case.model, tenant))
    return former


def _reason(plan: object, items: Items, *, is_whole: bool) -> MissReason | None:
    if items.known and not is_whole:
        return MissReason.PARTIAL
    return getattr(plan, "reason", MissReason.REQUEST)


def may_be_changed(scope: Scope, head: RequestHead) -> bool:
    """Whether another body may be sent to the app than the client has sent.

    Not when a header vouches for the body, nor when one names it: an upstream that knows an
    ``Idempotency-Key`` takes another body under it for a mistake.
    """
    names = (pair[0] for pair in scope["headers"])
    return not head.is_signed and _IDEMPOTENCY not in names


def _has_failed(case: Case) -> bool:
    return case.lookup is not None and case.lookup.outcome is Outcome.ERROR
