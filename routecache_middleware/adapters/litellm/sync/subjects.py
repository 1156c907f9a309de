"""What LiteLLM's arguments say of a call that is not async.

Some functions call another one in turn, under the same id and with the same logging object: text
completions, and Responses that a provider has to answer as chats. Each kind of call is told by the
argument that holds its prompt. What the inner one answers is part of an answer and kept with it;
but where both are streams LiteLLM stores the inner one alone, so that is what is kept.
"""

from routecache_middleware.adapters.litellm.part import Kwargs
from routecache_middleware.adapters.litellm.sync.key import SyncKey

__all__ = ["call_type_of", "has_our_key", "is_inner_stream", "is_whole", "subject_of"]

_CHAT = "completion"
_MESSAGES = "messages"
_SUBJECTS = {
    _CHAT: _MESSAGES,
    "text_completion": "prompt",
    "embedding": "input",
    "responses": "input",
}
_PROMPT_FIRST = frozenset({"text_completion", "responses"})
_LOGGING = "litellm_logging_obj"


def call_type_of(kwargs: Kwargs) -> str:
    """Return LiteLLM's name of the call."""
    # What LiteLLM hands over after a stream has no logging object any more.
    outer = str(getattr(kwargs.get(_LOGGING), "call_type", _CHAT))
    return _CHAT if _is_inner_stream(outer, kwargs) else outer


def subject_of(kwargs: Kwargs) -> str:
    """Return the argument that holds the prompt of such a call; empty for an unknown one."""
    return _SUBJECTS.get(call_type_of(kwargs), "")


def is_whole(kwargs: Kwargs) -> bool:
    """Whether LiteLLM will bring the answer to this very call, if it brings any."""
    if call_type_of(kwargs) == "text_completion" and kwargs.get("stream") is True:
        return False
    return subject_of(kwargs) in kwargs and not _is_misread(kwargs)


def is_inner_stream(kwargs: Kwargs) -> bool:
    """Whether this is a stream that another function reads for its own."""
    return _is_inner_stream(getattr(kwargs.get(_LOGGING), "call_type", _CHAT), kwargs)


def has_our_key(kwargs: Kwargs) -> bool:
    """Whether LiteLLM has asked for the key already, as it does before a stream."""
    return isinstance(kwargs.get("cache_key"), SyncKey)


def _is_inner_stream(outer: str, kwargs: Kwargs) -> bool:
    return outer in _PROMPT_FIRST and kwargs.get("stream") is True and _MESSAGES in kwargs


def _is_misread(kwargs: Kwargs) -> bool:
    """Whether LiteLLM takes the prompt for the model, and would fail on a hit.

    That is so when a function whose first parameter is no model is called with it by position.
    What was given by position stands behind what LiteLLM itself has added.
    """
    if call_type_of(kwargs) not in _PROMPT_FIRST or _LOGGING not in kwargs:
        return False
    names = list(kwargs)
    return names.index(subject_of(kwargs)) > names.index(_LOGGING)
