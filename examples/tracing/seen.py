"""What Phoenix should have been told of the questions, and what it shows of it. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.table import Table

from examples.tracing.phoenix import Span
from examples.tracing.questions import HERD

SERVER = "POST /v1/chat/completions"
EXPECTED = {
    f"{SERVER} miss": 3,
    f"{SERVER} hit": 1,
    f"{SERVER} coalesced": HERD - 1,
    f"{SERVER} stale": 1,
    f"{SERVER} bypass": 1,
    "cache.get result miss": 2 + HERD,
    "cache.get result hit": 1,
    "cache.get result stale": 1,
    "cache.wait result coalesced": HERD - 1,
    "cache.put result": 4,
    "cache.refresh result": 1,
    "chat": 5,  # of three misses, the refresh, and the request that the cache let pass
}
"""Spans by name and ``routecache.outcome``."""

_TOKENS = ("gen_ai.usage.", "llm.token_count.", "llm.cost.")


def counted(spans: Iterable[Span]) -> Counter[str]:
    """Count spans by what they are."""
    return Counter(_named(span) for span in spans)


def unexpected(spans: Sequence[Span]) -> list[str]:
    """Return a sentence for everything that Phoenix should know and does not."""
    found = counted(spans)
    problems = [
        f"{found[name]} spans {name!r}, not {wanted}"
        for name, wanted in EXPECTED.items()
        if found[name] != wanted
    ]
    return [*problems, *_unlinked(spans), *_billed(spans)]


def linked(span: Span, spans: Iterable[Span]) -> Span | None:
    """Return the span that this one says it is linked to."""
    wanted = span.attributes.get("routecache.link.span_id")
    return next((one for one in spans if one.span_id == wanted), None)


def example(name: str, spans: Iterable[Span]) -> tuple[Span, Span] | None:
    """Return a span of that name and outcome, and the one that it is linked to."""
    spans = list(spans)
    pairs = ((one, linked(one, spans)) for one in spans if _named(one) == name)
    return next(((one, other) for one, other in pairs if other is not None), None)


def _unlinked(spans: Sequence[Span]) -> list[str]:
    """Look where links lead: from a hit, a follower and a refresh to another request's trace."""
    leads_to = {
        "cache.get result hit": ("origin", "cache.get result miss"),
        "cache.get result stale": ("origin", "cache.get result miss"),
        "cache.wait result coalesced": ("leader", "cache.get result miss"),
        "cache.refresh result": ("trigger", f"{SERVER} stale"),
    }
    problems = []
    for span in spans:
        kind, target = leads_to.get(_named(span), ("", ""))
        other = linked(span, spans)
        said = span.attributes.get("routecache.link.type", "")
        if said != kind or (kind and (other is None or _named(other) != target)):
            where = "nowhere" if other is None else _named(other)
            problems.append(f"{_named(span)!r} has a link {said!r} to {where!r}")
    return problems


def _billed(spans: Sequence[Span]) -> list[str]:
    """Nothing but a call of the model may have a cost, or tokens that somebody puts a price on."""
    others = [span for span in spans if _named(span) != "chat"]
    return [
        *(f"{_named(span)!r} costs {span.cost_usd}" for span in others if span.cost_usd),
        *(
            f"{_named(span)!r} has {name}"
            for span in others
            for name in span.attributes
            if name.startswith(_TOKENS)
        ),
    ]


def seen_table(spans: Sequence[Span]) -> Table:
    """Return the table of what Phoenix has: of each name its kind there, number and cost."""
    table = Table("span, outcome", "kind", "spans", "tokens", "USD", title="In Phoenix")
    for name, count in sorted(counted(spans).items()):
        of_it = [span for span in spans if _named(span) == name]
        tokens = sum(span.attributes.get("llm.token_count.total", 0) for span in of_it)
        cost_usd = sum(span.cost_usd or 0 for span in of_it)
        cost = f"{cost_usd:.3g}" if cost_usd else "-"
        table.add_row(name, of_it[0].kind, str(count), str(tokens or "-"), cost)
    return table


def _named(span: Span) -> str:
    name = "chat" if span.name.startswith("chat ") else span.name
    return f"{name} {span.attributes.get('routecache.outcome', '')}".rstrip()
