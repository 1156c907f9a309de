"""Text completions: ``litellm.text_completion``, OpenAI's ``/v1/completions``.

LiteLLM cannot replay one as a stream: it takes the stored answer for a chat completion and fails
the call (1.106.2). So streams are neither looked up nor kept.
"""

from collections.abc import Mapping

from routecache_middleware.adapters.litellm.results.reading import decoded, form_of, objects
from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.core.models import BypassReason, DiscardReason

__all__ = ["judge", "parse"]


def parse(payload: Mapping[str, object]) -> ParsedRequest | None:
    """Read a request."""
    prompt, count, temperature = (payload.get(name) for name in ("prompt", "n", "temperature"))
    count = 1 if count is None else count
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        return None
    if isinstance(temperature, bool) or not isinstance(temperature, int | float | None):
        return None
    if not isinstance(prompt, str | list) or not prompt:
        return None
    mode, shape = form_of(payload)
    return ParsedRequest(
        model=str(payload.get("model", "")),
        mode=mode,
        shape=shape,
        choices=count * _prompts(prompt),
        temperature=temperature,
        is_deterministic=temperature == 0 or payload.get("seed") is not None,
        bypass=BypassReason.DISABLED if shape != "json" else None,
    )


def judge(body: bytes, request: ParsedRequest) -> Judgement:
    """Judge an answer."""
    answer = decoded(body)
    choices = objects(answer.get("choices"))
    reasons = tuple(str(choice.get("finish_reason") or "") for choice in choices)
    discard = None
    if len(choices) != request.choices or not all(reasons):
        discard = DiscardReason.INCOMPLETE
    elif not all(choice.get("text") for choice in choices):
        discard = DiscardReason.EMPTY
    return Judgement(
        discard=discard,
        model=str(answer.get("model") or ""),
        has_usage=bool(answer.get("usage")),
        finish_reasons=reasons,
    )


def _prompts(prompt: str | list[object]) -> int:
    """How many prompts there are; one may be a list of tokens."""
    if isinstance(prompt, str) or isinstance(prompt[0], int):
        return 1
    return len(prompt)
