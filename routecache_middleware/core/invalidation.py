"""Invalidation: one ordered log, one number per entry.

Each process folds the log into a table: scope to the last position at which that scope was
invalidated. A lookup captures the position that the table has reached, *before* the upstream is
asked. What is stored later carries that captured position and the names of its scopes.

    An entry is current if and only if no row of one of its scopes is later than its captured
    position (and the row's condition applies to the entry).

So an answer in flight while its model is invalidated is dead on arrival, scopes learned late are
safe, and an invalidation is one append whatever it covers.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from routecache_middleware.core.keys import CacheKey, Layer, escape
from routecache_middleware.core.models import START, Entry, Position, Scope

__all__ = [
    "ALL",
    "InvalidationRow",
    "InvalidationTable",
    "LoggedRow",
    "key_scope",
    "layer_scope",
    "model_scope",
    "tag_scope",
    "tenant_model_scope",
    "tenant_scope",
]

ALL = Scope("all")

MAX_CONDITIONS_PER_SCOPE = 8


def layer_scope(layer: Layer) -> Scope:
    """Everything in a layer."""
    return Scope(f"layer:{layer.value}")


def tenant_scope(tenant: str) -> Scope:
    """Everything of a tenant."""
    return Scope(f"tenant:{escape(tenant)}")


def model_scope(model_id: str) -> Scope:
    """Everything made by, about or routed to a model."""
    return Scope(f"model:{escape(model_id)}")


def tenant_model_scope(tenant: str, model_id: str) -> Scope:
    """One tenant's share of what a model made."""
    return Scope(f"tenant-model:{escape(tenant)}:{escape(model_id)}")


def tag_scope(tag: str) -> Scope:
    """Everything stored with a tag."""
    return Scope(f"tag:{escape(tag)}")


def key_scope(key: CacheKey) -> Scope:
    """Exactly one entry."""
    return Scope(f"key:{key}")


@dataclass(frozen=True, slots=True)
class InvalidationRow:
    """What is invalidated, and optionally only what meets a condition.

    Attributes:
        scope: What is covered.
        older_than_s: Only entries created before this Unix time, or None.
        router_version: Only decisions made by this router version, or None.
    """

    scope: Scope
    older_than_s: float | None = None
    router_version: str | None = None

    @property
    def is_conditional(self) -> bool:
        """Whether the row spares some entries of its scope."""
        return self.older_than_s is not None or self.router_version is not None

    def applies_to(self, entry: Entry) -> bool:
        """Whether ``entry`` meets the condition."""
        if self.older_than_s is not None and entry.created_s >= self.older_than_s:
            return False
        return self.router_version is None or entry.router_version == self.router_version


@dataclass(frozen=True, slots=True)
class LoggedRow:
    """A row and where it stands in the log."""

    position: Position
    row: InvalidationRow


class InvalidationTable:
    """The log folded: scope to last position.

    When it outgrows ``max_rows`` the rows of single keys are folded into their layer's, and if that
    is not enough, all rows into one that covers everything: colder than asked, never staler.
    """

    __slots__ = ("_conditional", "_latest", "_max_rows", "position")

    def __init__(self, *, max_rows: int = 65_536) -> None:
        self.position = Position(0)
        # Unconditional rows: the last position per scope is all that matters.
        self._latest: dict[Scope, Position] = {}
        # Conditional rows do not supersede each other, so they are kept, a few per scope.
        self._conditional: dict[Scope, tuple[LoggedRow, ...]] = {}
        self._max_rows = max_rows

    def __len__(self) -> int:
        return len(self._latest) + sum(map(len, self._conditional.values()))

    def fold(self, rows: Iterable[LoggedRow]) -> None:
        """Take in rows of the log; a row taken in twice changes nothing."""
        for logged in rows:
            if logged.row.is_conditional:
                self._fold_conditional(logged)
            else:
                self._raise(logged.row.scope, logged.position)
            self.position = max(self.position, logged.position)
        if len(self) > self._max_rows:
            self._fold_keys_into_layers()
        if len(self) > self._max_rows:
            self._fold_all()

    def advance(self, position: Position) -> None:
        """The log is known to hold nothing new up to ``position``."""
        self.position = max(self.position, position)

    def rewind(self, position: Position) -> None:
        """The log lost rows: void everything captured before ``position``, and start over there.

        Entries captured at exactly ``position`` stay current: their maker had seen the new log.
        """
        self.position = position
        self._conditional.clear()
        self._latest = {ALL: position}

    def is_current(self, key: CacheKey, entry: Entry) -> bool:
        """Whether nothing that covers ``entry`` was invalidated after its captured position."""
        if self.position <= entry.position:  # nothing at all happened since: the common case
            return True
        implied = (ALL, layer_scope(entry.layer), key_scope(key))
        return not any(self._is_hit(scope, entry) for scope in (*implied, *entry.scopes))

    def is_current_since(self, key: CacheKey, scopes: Iterable[Scope], position: Position) -> bool:
        """Whether nothing covering ``key`` or ``scopes`` was invalidated after ``position``.

        For what has no entry yet, such as a flight; a conditional row counts as if it applied.
        """
        if self.position <= position:
            return True
        layer = Layer(key.partition(":")[0])
        implied = (ALL, layer_scope(layer), key_scope(key))
        return not any(
            self._latest.get(scope, 0) > position
            or any(logged.position > position for logged in self._conditional.get(scope, ()))
            for scope in (*implied, *scopes)
        )

    def latest(self, key: CacheKey, scopes: Iterable[Scope]) -> Position:
        """Return where ``key`` or one of ``scopes`` was last invalidated; ``START`` for never.

        What was captured earlier than that is not current. A conditional row counts as if it
        applied.
        """
        implied = (ALL, layer_scope(Layer(key.partition(":")[0])), key_scope(key))
        latest = START
        for scope in (*implied, *scopes):
            latest = max(latest, self._latest.get(scope, START))
            for logged in self._conditional.get(scope, ()):
                latest = max(latest, logged.position)
        return latest

    def _is_hit(self, scope: Scope, entry: Entry) -> bool:
        if self._latest.get(scope, 0) > entry.position:
            return True
        conditional = self._conditional.get(scope)
        return conditional is not None and any(
            logged.position > entry.position and logged.row.applies_to(entry)
            for logged in conditional
        )

    def _raise(self, scope: Scope, position: Position) -> None:
        self._latest[scope] = max(self._latest.get(scope, Position(0)), position)

    def _fold_conditional(self, logged: LoggedRow) -> None:
        scope = logged.row.scope
        rows = self._conditional.get(scope, ())
        if logged in rows or self._latest.get(scope, 0) >= logged.position:
            return  # known, or covered: also when it was dropped below and is now read again
        if len(rows) == MAX_CONDITIONS_PER_SCOPE:
            # Dropping the oldest condition makes its row unconditional: colder, never staler.
            self._raise(scope, rows[0].position)
            rows = rows[1:]
        self._conditional[scope] = (*rows, logged)

    def _fold_keys_into_layers(self) -> None:
        for scope in [scope for scope in self._latest if scope.startswith("key:")]:
            # Not by way of Layer: another version's process may know layers that this one does not.
            layer = Scope(f"layer:{scope.split(':', 2)[1]}")
            self._raise(layer, self._latest.pop(scope))

    def _fold_all(self) -> None:
        self._conditional.clear()
        self._latest = {ALL: self.position}
