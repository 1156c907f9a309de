"""Streams that just stop: LiteLLM ends them with an invented ``stop`` and takes them for complete.

Seen in 1.106.2, when an upstream closes a chat stream properly, but without a finish reason. Only
LiteLLM's wrapper of the stream knows whether there was one, in the moment in which it invents one.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["StreamEnds"]

_NAME = "finish_reason_handler"


class StreamEnds:
    """Marks the keys of such streams, through a method of LiteLLM's wrapper; reversible.

    A key that can be marked has a method ``mark_cut_off``.
    """

    def __init__(self) -> None:
        self._original: Callable[[Any], Any] | None = None
        self._mine: Callable[[Any], Any] | None = None

    def install(self) -> None:
        """Watch every stream of the process."""
        from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper

        if self._original is None:
            self._original = getattr(CustomStreamWrapper, _NAME)
            self._mine = _watching(self._original)
            setattr(CustomStreamWrapper, _NAME, self._mine)

    def uninstall(self) -> None:
        """Stop watching; idempotent."""
        from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper

        if self._original is not None and vars(CustomStreamWrapper).get(_NAME) is self._mine:
            setattr(CustomStreamWrapper, _NAME, self._original)
        self._original = None


def _watching(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def finish_reason_handler(wrapper: Any) -> Any:
        received = getattr(wrapper, "received_finish_reason", None)
        if received is None and getattr(wrapper, "intermittent_finish_reason", None) is None:
            _mark(wrapper)
        return original(wrapper)

    return finish_reason_handler


def _mark(wrapper: Any) -> None:
    handler = getattr(getattr(wrapper, "logging_obj", None), "llm_caching_handler", None)
    arguments = getattr(handler, "request_kwargs", None)
    own = arguments.get("cache_key") if isinstance(arguments, dict) else None
    for key in (getattr(handler, "preset_cache_key", None), own):
        mark = getattr(key, "mark_cut_off", None)
        if mark is not None:
            mark()
