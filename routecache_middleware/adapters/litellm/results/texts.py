"""Text completions: ``litellm.text_completion``, OpenAI's ``/v1/completions``.

LiteLLM cannot replay one as a stream: it takes the stored answer for a chat completion and fails
the call (1.106.2). So streams are neither looked up nor kept.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.core.models import BypassReason, ResponseMode
from routecache_middleware.dialects.openai_completions import OpenAICompletions

__all__ = ["DIALECT", "judge", "parse"]

DIALECT = OpenAICompletions()


def parse(payload: Mapping[str, object]) -> ParsedRequest | None:
    """Read a request; LiteLLM knows none without a prompt."""
    parsed = None if payload.get("prompt") is None else DIALECT.parse(payload)
    if parsed is None or parsed.mode is ResponseMode.JSON:
        return parsed
    return replace(parsed, bypass=BypassReason.DISABLED)


def judge(body: bytes, request: ParsedRequest) -> Judgement:
    """Judge an answer."""
    return DIALECT.judge(body, ResponseMode.JSON, request)
