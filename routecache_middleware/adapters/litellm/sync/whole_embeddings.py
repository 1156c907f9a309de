"""Embeddings asked for without async: LiteLLM keeps the whole answer then, not each input's."""

from msgspec.structs import replace

from routecache_middleware.adapters.litellm.results.apis import Api, api_of
from routecache_middleware.adapters.litellm.results.reading import decoded, objects
from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.core.models import DiscardReason

__all__ = ["sync_api_of"]


def sync_api_of(call_type: str) -> Api | None:
    """Return the API of a call type; None when its answers are not cached."""
    api = api_of(call_type)
    if api is None or not api.is_per_input:
        return api
    # A name of its own: under the key of an input LiteLLM would find what it cannot read.
    return replace(api, name=f"whole {api.name}", judge=_judge, is_per_input=False)


def _judge(body: bytes, request: ParsedRequest) -> Judgement:
    answer = decoded(body)
    data = objects(answer.get("data"))
    discard = None if all(item.get("embedding") for item in data) else DiscardReason.EMPTY
    if len(data) != request.choices:
        discard = DiscardReason.INCOMPLETE if data else DiscardReason.EMPTY
    return Judgement(
        discard=discard,
        model=str(answer.get("model") or ""),
        has_usage=isinstance(answer.get("usage"), dict),
    )
