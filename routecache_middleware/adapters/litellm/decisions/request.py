"""One request to an auto-router, and what of it counts."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from routecache_middleware.core.canonical import DoubtfulJSONError, normalise
from routecache_middleware.dialects.openai_chat import OpenAIChat

__all__ = ["Request", "conversation_payload", "metadata_of", "request_payload", "size_of"]

_PLACES = ("litellm_metadata", "metadata")
_DIALECT = OpenAIChat()

_NEVER_COUNT = (
    _DIALECT.ignored_fields
    | _DIALECT.sampling_fields
    | {
        "api_base",
        "api_key",
        "api_version",
        "base_url",
        "extra_headers",
        "headers",
        "input",  # handed to the strategy beside the others, as messages are
        "max_retries",
        "messages",
        "model",
        "organization",
        "timeout",
    }
)
"""Arguments that no strategy looks at: sampling, wire form, credentials, tracing."""


class Request(msgspec.Struct, frozen=True):
    """What a strategy is asked.

    Attributes:
        model: The router's name, aliases resolved.
        kwargs: The call's keyword arguments: also what the strategy may write to.
        messages: Chat messages, or None.
        input: Input of the other APIs, or None.
        specific_deployment: Whether the caller names a deployment.
    """

    model: str
    kwargs: dict[str, Any]
    messages: Any = None
    input: Any = None
    specific_deployment: Any = False


def metadata_of(request: Request) -> Iterator[Mapping[str, Any]]:
    """Yield the metadata of a request; where it stands depends on the endpoint."""
    for place in _PLACES:
        metadata = request.kwargs.get(place)
        if isinstance(metadata, Mapping):
            yield metadata


def request_payload(request: Request) -> object:
    """Return all that a router could look at, as canonical JSON values.

    Raises:
        DoubtfulJSONError: There is something in it that is not JSON.
    """
    counted = {name: value for name, value in request.kwargs.items() if _counts(name, value)}
    return _canonical({**counted, "messages": request.messages, "input": request.input})


def conversation_payload(request: Request) -> object:
    """Return what stays the same over the turns of a conversation; errors as above.

    None when the request has no chat messages: then there is no telling turns apart.
    """
    messages, kwargs = request.messages, request.kwargs
    if not isinstance(messages, list) or not messages:
        return None
    system = kwargs.get("system")  # Anthropic's place for it
    canonical = _canonical(
        {
            "messages": [{"role": "system", "content": system}, *messages] if system else messages,
            **{name: kwargs.get(name) for name in ("tools", "functions", "response_format")},
        }
    )
    return _DIALECT.conversation(canonical) if isinstance(canonical, dict) else None


def size_of(value: object, at_most: int) -> int:
    """Return about how many characters of text are in a value; counting stops beyond a limit."""
    size, pending = 0, [value]
    while pending and size <= at_most:
        one = pending.pop()
        if isinstance(one, str):
            size += len(one)
        elif isinstance(one, Mapping):
            pending.extend(one.values())
        elif isinstance(one, list | tuple):
            pending.extend(one)
    return size


def _counts(name: str, value: object) -> bool:
    """Whether an argument counts: all but LiteLLM's own and those of the table."""
    from litellm.litellm_core_utils.model_param_helper import ModelParamHelper
    from litellm.types.utils import is_litellm_owned_kwarg

    if value is None or name in _NEVER_COUNT or name.startswith("_"):
        return False
    return name in ModelParamHelper.get_all_llm_api_params() or not is_litellm_owned_kwarg(name)


def _canonical(payload: dict[str, Any]) -> object:
    try:
        return normalise(payload)
    except DoubtfulJSONError:  # rare: messages and formats may be given as pydantic objects
        return normalise(_plain(payload))


def _plain(value: Any) -> Any:
    """Return JSON values for pydantic's objects and classes."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, type) and hasattr(value, "model_json_schema"):
        return [value.__module__, value.__qualname__, value.model_json_schema()]
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump(exclude_none=True))
    return value
