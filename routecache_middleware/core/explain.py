"""Which parts of a request count, and which of them tell two requests apart. Values never show.

Every part has a digest, keyed as the hashes are, so two requests can be compared after the event:
what differs between a miss and the stored answer that somebody expected is named by its path.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from routecache_middleware.core.canonical import encode
from routecache_middleware.core.choices import DecisionScope
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.core.fingerprint import (
    NAMESPACE,
    Domain,
    Fingerprint,
    KeyContext,
    fingerprint,
    new_hash,
)

__all__ = ["Explanation", "difference", "explain"]

_DIGITS = 16
_HEADER = "header."
_HEADERS = "context.headers"
_NAMESPACE = "cache.namespace"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which parts of a request counted, by name only: safe to log.

    Attributes:
        fingerprint: The hashes.
        scope: With ``conversation`` the decision hash covers what the dialect takes for the
            conversation, instead of ``counted``.
        counted: Top-level fields in both hashes.
        sampling: Top-level fields in the result hash only.
        ignored: Top-level fields left out of both.
        context: What else is in both hashes: the non-empty parts of the context, headers by name,
            and ``cache.namespace`` where the body's ``cache`` object names one.
        digests: Path of a part to 16 hex digits that stand for its value: fields (``model``), the
            items of fields that are lists of objects (``messages[2]``), and what is in the context
            (``context.path``, ``header.openai-beta``, ``cache.namespace``). For
            :func:`difference`; strings only, so they may be kept as JSON. Without a secret a short
            value can be guessed from its digest.
    """

    fingerprint: Fingerprint
    scope: DecisionScope
    counted: tuple[str, ...]
    sampling: tuple[str, ...]
    ignored: tuple[str, ...]
    context: tuple[str, ...]
    digests: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


def explain(
    payload: Mapping[str, object],
    *,
    dialect: Dialect,
    context: KeyContext,
    ignored: frozenset[str] = frozenset(),
    scope: DecisionScope = DecisionScope.REQUEST,
    router_version: str = "",
    secret: bytes = b"",
) -> Explanation:
    """Return what :func:`fingerprint` makes of a request: for finding out why two requests differ.

    Arguments and errors are those of :func:`fingerprint`.
    """
    left_out = dialect.ignored_fields | ignored
    kept = {name: v for name, v in dialect.keyed(payload).items() if name not in left_out}
    parts = {name: encode(value) for name, value in _field_parts(kept)}
    named = dict(_context_parts(context))
    return Explanation(
        fingerprint=fingerprint(
            payload,
            dialect=dialect,
            context=context,
            ignored=ignored,
            scope=scope,
            router_version=router_version,
            secret=secret,
        ),
        scope=scope,
        counted=tuple(name for name in kept if name not in dialect.sampling_fields),
        sampling=tuple(name for name in kept if name in dialect.sampling_fields),
        ignored=tuple(name for name in payload if name in left_out),
        context=tuple(_context_name(name) for name in named if name != _HEADERS),
        digests={name: _digest(name, part, secret) for name, part in (named | parts).items()},
    )


def difference(one: Explanation, other: Explanation) -> tuple[str, ...]:
    """Return the paths of the parts that two requests do not have in common.

    Of a field that is a list of objects in both, the items are named instead. Nothing is named just
    when the requests have the same result hash, given the same secret (and no field whose own name
    looks like such a path).
    """
    found: list[str] = []
    groups = _grouped(one.digests), _grouped(other.digests)
    for group in sorted(groups[0].keys() | groups[1].keys()):
        held = [each.get(group, {}) for each in groups]
        unlike = [n for n in held[0] | held[1] if held[0].get(n) != held[1].get(n)]
        items = [name for name in unlike if name != group]
        are_lists = group == _HEADERS or all(len(parts) > 1 for parts in held)
        found += items if items and are_lists else unlike and [group]
    return tuple(found)


def _grouped(digests: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the parts by what they are parts of: items by their list, headers by all of them."""
    groups: dict[str, dict[str, str]] = {}
    for name, digest in digests.items():
        group = _HEADERS if name.startswith(_HEADER) else name.partition("[")[0]
        groups.setdefault(group, {})[name] = digest
    return groups


def _field_parts(fields: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in fields.items():
        yield name, value
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                yield f"{name}[{index}]", item


def _context_parts(context: KeyContext) -> Iterator[tuple[str, bytes]]:
    named = {
        "context.dialect": context.dialect.encode(),
        "context.root_path": context.root_path.encode("utf-8", "surrogatepass"),
        "context.path": context.path.encode("utf-8", "surrogatepass"),
        "context.query": context.query,
    }
    yield from ((name, part) for name, part in named.items() if part)
    sent = tuple(pair for pair in context.headers if pair[0] != NAMESPACE)
    if sent:
        yield _HEADERS, _encode(sent)
    for header in dict.fromkeys(name for name, _ in sent):
        values = [value for name, value in sent if name == header]
        yield _HEADER + header.decode("latin-1"), _encode(values)
    yield from ((_NAMESPACE, value) for name, value in context.headers if name == NAMESPACE)


def _context_name(path: str) -> str:
    return path if path == _NAMESPACE else path.partition(".")[2]


def _digest(name: str, part: bytes, secret: bytes) -> str:
    state = new_hash(Domain.PART, secret)
    state.update(_encode(name) + part)
    return state.hexdigest()[:_DIGITS]


_encode = msgspec.msgpack.Encoder().encode
