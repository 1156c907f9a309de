"""Other requests beside the one explained: the nearest that is stored, or one that was named."""

from collections.abc import Sequence
from dataclasses import replace

from routecache_middleware.core.explain import Explanation, difference
from routecache_middleware.core.explanation import HASH_DIGITS, Neighbour, shown, shown_all
from routecache_middleware.core.keys import CacheKey, result_key, route_key
from routecache_middleware.core.models import BypassReason, Entry
from routecache_middleware.core.reasons import meaning
from routecache_middleware.engine.identify import Identified
from routecache_middleware.wiring.inspecting import Inspector
from routecache_middleware.wiring.neighbours import Candidate, Keyed, nearest
from routecache_middleware.wiring.understanding import Question, Setup, aside

__all__ = ["Comparison"]


class Comparison:
    """Compares one request with others, all of them as if the same tenant had sent them."""

    def __init__(
        self, setup: Setup, inspector: Inspector, question: Question, parts: Explanation
    ) -> None:
        """Prepare; ``parts``: what counts in the key of the request."""
        self._setup = setup
        self._inspector = inspector
        self._question = question
        self._parts = parts

    def chosen(self, key: CacheKey, entry: Entry | None) -> str | None:
        """Return the model that a stored decision comes to now; None when it comes to none."""
        decision = self._inspector.decision(key, entry)
        if decision is None:
            return None
        chosen = self._setup.chooser.choose(decision, self._setup.eligible)
        return None if chosen is None else chosen.selected_model

    async def nearest(self) -> Neighbour | None:
        """Return the nearest request of this tenant whose answer can be used now, or None."""
        near = await nearest(
            self._setup.identifier,
            self._question.dialect,
            self._parts,
            keys_of=self._keys_of,
            usable=self._inspector.usable,
            clock=self._setup.engine.clock,
        )
        if near is None:
            return None
        candidate, key, model, entry = near
        return self._neighbour(candidate, key, model, entry, is_given=False)

    async def given(self, body: bytes) -> Neighbour:
        """Compare with a request that was named: the same head, another body."""
        question, identifier = self._question, self._setup.identifier
        dialect, context = question.dialect, question.context
        found: Identified | BypassReason = BypassReason.BODY_TOO_LARGE
        if len(body) <= self._setup.engine.settings.max_request_bytes:
            found = await identifier.examine(dialect, context, body)
        if not isinstance(found, Identified):
            return Neighbour(is_given=True, reason=found.value, because=meaning(found))
        parts = await aside(self._setup.engine, body, identifier.explain, dialect, context, body)
        differs = difference(self._parts, parts)
        candidate = Candidate(found.fingerprint, found.parsed.model, differs)
        entry: Entry | None = None
        ((key, model),) = await self._keys_of([candidate])
        if question.tenant and question.is_accepted:
            (entry,) = await self._inspector.entries([key])
        said = self._neighbour(candidate, key, model, entry, is_given=True)
        bypass = found.parsed.bypass
        return said if bypass is None else replace(said, reason=bypass, because=meaning(bypass))

    def _neighbour(
        self, other: Candidate, key: CacheKey, model: str, entry: Entry | None, *, is_given: bool
    ) -> Neighbour:
        return Neighbour(
            is_given=is_given,
            differs=shown_all(other.differs),
            differences=len(other.differs),
            result_hash=other.fingerprint.result[: None if self._question.is_full else HASH_DIGITS],
            model=shown(model),
            answer=self._inspector.describe(key, entry),
        )

    async def _keys_of(self, others: Sequence[Candidate]) -> list[Keyed]:
        """Say where the answers to other requests of this tenant would be."""
        tenant, wants = self._question.tenant, self._setup.wants
        chosen: list[str | None] = [None] * len(others)
        if wants is not None and tenant:
            keys = [route_key(other.fingerprint.decision, tenant) for other in others]
            chosen = list(map(self.chosen, keys, await self._inspector.entries(keys)))
        models = [model or other.requested for model, other in zip(chosen, others, strict=True)]
        pairs = zip(others, models, strict=True)
        return [(result_key(one.fingerprint.result, model, tenant), model) for one, model in pairs]
