"""Methods of LiteLLM's classes, wrapped and put back."""

from collections.abc import Callable
from typing import Any

__all__ = ["Patches"]


class Patches:
    """What was wrapped."""

    __slots__ = ("_done",)

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any, Any]] = []

    def wrap(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Put ``make(method)`` in place of a method of a class.

        Raises:
            AttributeError: The class itself has no such method.
        """
        original = vars(owner).get(name)
        if original is None:
            raise AttributeError(f"{owner.__name__} has no {name}")
        wrapped = make(original)
        setattr(owner, name, wrapped)
        self._done.append((owner, name, original, wrapped))

    def undo(self) -> None:
        """Put all back, except where somebody else has wrapped ours meanwhile; idempotent."""
        while self._done:
            owner, name, original, wrapped = self._done.pop()
            if vars(owner).get(name) is wrapped:
                setattr(owner, name, original)
