"""One event in LiteLLM's logging for many hits: spend logs, Prometheus and callbacks all see it.

It looks as a hit of LiteLLM's own cache does: ``cache_hit``, cost 0, the tokens of the answers and
what they would have cost. How many hits it stands for is in ``spend_logs_metadata``.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec

from routecache_middleware.adapters.litellm.fastlane.dialect import EMBEDDINGS, LaneDialect
from routecache_middleware.adapters.litellm.fastlane.report import Tally
from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.core.models import Entry, ResponseMode

__all__ = ["HITS", "log_hits"]

HITS = "routecache_hits"


class _Listed(msgspec.Struct):
    data: list[msgspec.Raw]


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0


_decode_list = msgspec.json.Decoder(_Listed).decode


async def log_hits(tally: Tally) -> None:
    """Hand a sum of hits to all of LiteLLM's loggers."""
    import litellm
    from litellm.litellm_core_utils.litellm_logging import Logging

    who, now = tally.accepted, datetime.now(UTC)
    usage, served = _usage(tally), _headers(entry for entry, _ in tally.entries.values())
    call_id = f"routecache-{uuid4()}"
    model = served.get("x-litellm-model-name") or who.model
    log: Any = Logging(
        model=model,
        messages=[],
        stream=False,
        call_type=who.lane.call_type,
        start_time=now,
        litellm_call_id=call_id,
        function_id=call_id,
    )
    deployment = served.get("x-litellm-model-id", "")
    # Deployments with prices of their own stand there under their id.
    model_info = {**litellm.model_cost.get(deployment, {}), "id": deployment or None}
    metadata = {
        **who.metadata,
        "model_group": who.model,
        "model_info": model_info,
        "spend_logs_metadata": {HITS: tally.hits},
    }
    log.update_environment_variables(
        model=model,
        user=who.user or None,
        optional_params={},
        litellm_params={
            who.lane.call_type: True,
            "litellm_call_id": call_id,
            "metadata": metadata,
            "model_info": model_info,
            "proxy_server_request": {},
        },
        custom_llm_provider=model.partition("/")[0] if "/" in model else None,
    )
    await log.async_success_handler(
        _answer(who.lane, model, call_id, usage), now, now, cache_hit=True
    )


def _answer(lane: LaneDialect, model: str, call_id: str, usage: _Usage) -> Any:
    """An answer that stands for them all: LiteLLM reads its prices' units out of it.

    And its price it looks for under the answer's model first: so that is what the deployment
    serves, for a group may bear the name of a model that it does not serve.
    """
    import litellm

    counted = litellm.Usage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
    )
    if lane is EMBEDDINGS:
        return litellm.EmbeddingResponse(model=model, data=[], usage=counted)
    answer = litellm.ModelResponse(id=call_id, model=model, choices=[])
    answer.usage = counted
    return answer


def _usage(tally: Tally) -> _Usage:
    """Tokens of all answers whose usage is known; the others count as the mean of those."""
    usage, known = _Usage(), 0
    for entry, count in tally.entries.values():
        if entry.has_usage:
            found = _judge(tally.accepted.lane, entry)
            usage.input_tokens += found.input_tokens * count
            usage.output_tokens += found.output_tokens * count
            known += count
    if known and known < tally.hits:
        usage.input_tokens = round(usage.input_tokens * tally.hits / known)
        usage.output_tokens = round(usage.output_tokens * tally.hits / known)
    return usage


def _judge(lane: LaneDialect, entry: Entry) -> Judgement:
    count = len(_decode_list(entry.body).data) if lane is EMBEDDINGS else 1
    asked = ParsedRequest(model="", mode=ResponseMode(entry.mode), shape=entry.shape, choices=count)
    return lane.judge(entry.body, entry.mode, asked)


def _headers(entries: Iterable[Entry]) -> dict[str, str]:
    """What LiteLLM said of the first of the answers."""
    for entry in entries:
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in entry.headers}
    return {}
