"""OpenAI chat as LiteLLM's proxy takes it: with fields that make it do more than answer.

Only requests whose every field is known to concern the answer alone take the fast lane. A field
that a later release of LiteLLM understands is unknown here, and its requests go the usual way.
"""

from collections.abc import Mapping

from msgspec.structs import asdict

from routecache_middleware.core.dialect import Field, ParsedRequest, Role, names
from routecache_middleware.core.models import BypassReason
from routecache_middleware.dialects.openai_chat import OpenAIChat

__all__ = ["LaneChat", "LaneRequest"]

_ANSWER_FIELDS = frozenset(
    {
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "min_p",
        "model",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "safety_identifier",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
    }
)


class LaneRequest(ParsedRequest, frozen=True):
    """A request that may take the fast lane.

    Attributes:
        user: The end user that it names, or empty.
    """

    user: str = ""


class LaneChat(OpenAIChat):
    """The dialect; see :class:`~routecache_middleware.core.dialect.Dialect`."""

    __slots__ = ()

    name = "litellm.chat"
    path_suffixes: tuple[str, ...] = ("/chat/completions",)
    # Users have budgets and limits of their own, so what one was given is no other's.
    fields: Mapping[str, Field] = {**OpenAIChat.fields, "user": Field(Role.KEY)}
    ignored_fields = names(fields, Role.IGNORED)

    def parse(self, payload: Mapping[str, object]) -> ParsedRequest | None:
        """Read a request; None when it does not have this API's form."""
        parsed = super().parse(payload)
        if parsed is None:
            return None
        fields = {**asdict(parsed), "bypass": parsed.bypass or _objection(payload)}
        user = payload.get("user")
        return LaneRequest(**fields, user=user if isinstance(user, str) else "")


def _objection(payload: Mapping[str, object]) -> BypassReason | None:
    user, model = payload.get("user"), payload.get("model")
    is_plain = (
        _ANSWER_FIELDS.issuperset(payload)
        and isinstance(user, str | None)
        and isinstance(model, str)
        and "," not in model  # several models at once
    )
    return None if is_plain else BypassReason.DISABLED
