"""Responses: ``litellm.responses``, OpenAI's ``/v1/responses``."""

from collections.abc import Mapping

from msgspec.structs import replace

from routecache_middleware.adapters.litellm.results.reading import decoded, is_remote, objects
from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.core.models import BypassReason, DiscardReason, ResponseMode
from routecache_middleware.dialects.responses import OpenAIResponses

__all__ = ["DIALECT", "judge", "parse"]

DIALECT = OpenAIResponses()
# A deployment may bring tools of its own that the request does not show.
_ALLOWED = (None, BypassReason.STORE)
"""Why a request is not answered from a cache, where policy may still allow it."""
_OWN = frozenset({"message", "reasoning", "function_call", "custom_tool_call"})


def parse(payload: Mapping[str, object]) -> ParsedRequest | None:
    """Read a request.

    As elsewhere, one that does not say ``store: false`` is not cached unless policy allows it. That
    LiteLLM's proxy encrypts each id for whom it is sent to, and takes it from nobody else, does not
    change that: it would encrypt the id of the first answer for everybody who gets a hit, so that
    all of them could delete what each believes to be their own.
    """
    parsed = DIALECT.parse(payload)
    if parsed is None or parsed.bypass not in _ALLOWED or not is_remote(payload.get("input")):
        return parsed
    return replace(parsed, bypass=BypassReason.REMOTE_MEDIA)


def judge(body: bytes, request: ParsedRequest) -> Judgement:
    """Judge an answer: complete, and nothing in it that the provider's own tools have found."""
    judgement = DIALECT.judge(body, ResponseMode.JSON, request)
    if judgement.discard is not None:
        return judgement
    answer = decoded(body)
    if str(answer.get("id")).startswith("chatcmpl"):
        # A chat model has answered. LiteLLM takes that for a chat when it reads it back, and fails.
        return replace(judgement, discard=DiscardReason.INCOMPLETE)
    if not _OWN.issuperset(item.get("type") for item in objects(answer.get("output"))):
        return replace(judgement, discard=DiscardReason.VETOED)
    return judgement
