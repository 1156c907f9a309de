"""Routers ask for caching: without this each of their calls says ``caching=False``.

``Router`` hands its own ``cache_responses``, False by default, to every call, and LiteLLM then does
not look anything up. No hook runs before that in calls that are not async. So the attribute is
answered by a descriptor of the class while the cache is installed: Routers made before it and after
it, without touching any of them. A caller's own ``caching=False`` still wins, in LiteLLM itself.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["RouterCaching", "holder"]


def holder() -> tuple[type, str]:
    """Return the class whose instances keep the attribute, and its name there."""
    from litellm import Router

    core, name = getattr(Router, "_core_class", None), "_core_cache_responses"
    if core is not None and hasattr(core, name):  # from 1.109 on a Router is a front to it
        return core, name
    return Router, "cache_responses"


class RouterCaching:
    """Puts the descriptor in and takes it out."""

    def __init__(self, is_wanted: Callable[[], bool]) -> None:
        """Prepare.

        Args:
            is_wanted: Whether LiteLLM's cache is ours at the moment. If not, each Router's own
                value counts.
        """
        self._is_wanted = is_wanted
        self._answer: _Answer | None = None

    def install(self) -> None:
        """Answer for every Router."""
        if self._answer is None:
            kind, name = holder()
            answer = self._answer = _Answer(name, self._is_wanted, vars(kind).get(name, False))
            setattr(kind, name, answer)

    def uninstall(self) -> None:
        """Let every Router answer for itself, with the value that it was given; idempotent."""
        kind, name = holder()
        answer = self._answer
        self._answer = None
        if answer is None:
            return
        default = answer.default
        if vars(kind).get(name) is answer:
            setattr(kind, name, default)


class _Answer:
    """A data descriptor: it comes before what stands in the instance, and keeps it there."""

    def __init__(self, name: str, is_wanted: Callable[[], bool], default: Any) -> None:
        self._name = name
        self._is_wanted = is_wanted
        self.default = default

    def __get__(self, router: Any, owner: type) -> Any:
        if router is None:
            return self.default
        return self._is_wanted() or vars(router).get(self._name, self.default)

    def __set__(self, router: Any, value: Any) -> None:
        vars(router)[self._name] = value

    def __delete__(self, router: Any) -> None:
        vars(router).pop(self._name, None)
