"""Embeddings: each input is kept for itself, in the form that LiteLLM reads back.

That form is LiteLLM's own, and its inputs are more than the dialect knows: objects, too, as in
multimodal embeddings. So both are read here. And the dialect turns one entry into any encoding,
which LiteLLM does not: ``encoding_format`` counts.

LiteLLM looks each input of a list up by itself, and asks for the rest of them. That would be wrong
where a vector may depend on the other inputs, so such lists are not cached at all.
"""

from collections.abc import Mapping

from routecache_middleware.adapters.litellm.results.fields import OWNED, Counts, counts
from routecache_middleware.adapters.litellm.results.reading import decoded, is_remote
from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.core.models import BypassReason, DiscardReason, ResponseMode
from routecache_middleware.dialects.openai_embeddings import OpenAIEmbeddings, each_alone

__all__ = ["DIALECT", "judge", "may_be_apart", "parse"]

DIALECT = OpenAIEmbeddings()
_ALWAYS = Counts.ALWAYS


def parse(payload: Mapping[str, object]) -> ParsedRequest | None:
    """Read a request."""
    given = payload.get("input")
    if not isinstance(given, str | list):
        return None
    return ParsedRequest(
        model=str(payload.get("model", "")),
        mode=ResponseMode.JSON,
        shape="json",
        choices=_count(given),
        temperature=0,  # the same text has one embedding
        is_deterministic=True,
        bypass=BypassReason.REMOTE_MEDIA if is_remote(given) else None,
    )


def _count(inputs: str | list[object]) -> int:
    """Return how many vectors there should be: one for a text, and one for a text as tokens."""
    if isinstance(inputs, str) or all(isinstance(item, int) for item in inputs):
        return 1
    return len(inputs)


def may_be_apart(inputs: object, fields: Mapping[str, object]) -> bool:
    """Whether each of the inputs of a call may be kept for itself, as LiteLLM does.

    Args:
        inputs: All of them.
        fields: The arguments that count. Those of LiteLLM itself say nothing of the vectors, nor
            does where the call goes, and with which headers.
    """
    is_list = isinstance(inputs, list) and len(inputs) > 1
    return not is_list or each_alone(
        name for name in fields if counts(name) is _ALWAYS and name not in OWNED
    )


def judge(body: bytes, _: ParsedRequest) -> Judgement:
    """Judge what LiteLLM keeps of one embedding."""
    record = decoded(body)
    return Judgement(
        discard=None if record.get("embedding") else DiscardReason.EMPTY,
        model=str(record.get("model") or ""),
        has_usage=record.get("prompt_tokens") is not None,
    )
