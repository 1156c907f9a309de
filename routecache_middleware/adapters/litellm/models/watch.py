"""Sees what happens to the models of every Router of the process.

Whatever changes them goes through the methods below, whoever calls: the user, the proxy's
``/model/new``, ``/model/update`` and ``/model/delete``, its synchronisation with the database every
few seconds, a configuration that is read again. ``model_group_alias`` may also be assigned; an
alias that is changed in place is noticed with the next change of any other kind.
"""

import functools
import logging
import weakref
from collections.abc import Callable
from typing import Any

from routecache_middleware.adapters.litellm.decisions.patches import Patches
from routecache_middleware.adapters.litellm.models.definitions import (
    Definitions,
    changed_names,
    describe,
)
from routecache_middleware.adapters.litellm.router_core import (
    aliases_of,
    core_class,
    core_of,
    groups_of,
    models_of,
)

__all__ = ["METHODS", "RouterWatch"]

METHODS = (
    ("add_deployment",),
    ("delete_deployment", "_core_delete_deployment"),
    ("set_model_list",),
    ("update_settings", "_core_update_settings"),
    ("upsert_deployment", "_core_upsert_deployment"),
)
"""What changes models, by the names that it has or had."""

_APPLY = "apply"  # since 1.109: several changes at once, assigned settings among them
_ATTRIBUTE = "model_group_alias"
_SAY_NONE = frozenset(name for names in METHODS for name in names if "deployment" in name)

_logger = logging.getLogger("routecache")


class RouterWatch:
    """Tells which names of a Router no longer stand for what they stood for."""

    def __init__(self, changed: Callable[[frozenset[str]], None]) -> None:
        """Prepare; ``changed`` is told, in whatever thread the change was made."""
        self._changed = changed
        self._known: weakref.WeakKeyDictionary[Any, Definitions] = weakref.WeakKeyDictionary()
        self._busy: weakref.WeakSet[Any] = weakref.WeakSet()
        self._patches = Patches()
        self._has_warned = False
        self._owner: Any = None
        self._set: Any = None

    def install(self, router: Any = None) -> None:
        """Wrap the methods of the class; ``router`` is one that exists already."""
        owner = self._owner = core_class()
        for names in METHODS:
            name = next((name for name in names if name in vars(owner)), names[0])
            try:
                self._patches.wrap(owner, name, self._wrapped)
            except AttributeError as error:
                _logger.warning("changes of this release's Router are not all seen: %s", error)
        if _APPLY in vars(owner):
            self._patches.wrap(owner, _APPLY, self._wrapped)
        elif "__setattr__" not in vars(owner):
            self._set = self._assigning
            owner.__setattr__ = self._set
        if router is not None:
            self._before(core_of(router))

    def uninstall(self) -> None:
        """Take it all out again; idempotent."""
        self._patches.undo()
        if self._set is not None and vars(self._owner).get("__setattr__") is self._set:
            del self._owner.__setattr__
        self._set = None

    def _wrapped(self, original: Any) -> Any:
        name = original.__name__

        @functools.wraps(original)
        def watched(router: Any, *args: Any, **kwargs: Any) -> Any:
            if router in self._busy:  # one of them calls another
                return original(router, *args, **kwargs)
            self._before(router)
            self._busy.add(router)
            returned, is_done = None, False
            try:
                returned, is_done = original(router, *args, **kwargs), True
                return returned
            finally:
                self._busy.discard(router)
                if not (is_done and _is_idle(name, returned, args, kwargs)):
                    self._after(router)

        return watched

    @property
    def _assigning(self) -> Any:
        def assign(router: Any, name: str, value: Any) -> None:
            if name != _ATTRIBUTE or router in self._busy or not hasattr(router, "model_list"):
                object.__setattr__(router, name, value)
                return
            self._before(router)
            object.__setattr__(router, name, value)
            self._after(router)

        return assign

    def _before(self, router: Any) -> None:
        """Look at a Router that was made before the watch began."""
        try:
            if router not in self._known and models_of(router):
                self._look(router)
        except Exception as error:  # noqa: BLE001 - LiteLLM's own work has to go on
            self._warn(error)

    def _after(self, router: Any) -> None:
        try:
            before = self._known.get(router)
            after = self._look(router)
            names = frozenset() if before is None else changed_names(before, after)
            if names:
                self._changed(names)
        except Exception as error:  # noqa: BLE001 - as above
            self._warn(error)

    def _look(self, router: Any) -> Definitions:
        found = self._known[router] = describe(
            models_of(router),
            aliases_of(router),
            groups_of(router),
            self._known.get(router, Definitions()),
        )
        return found

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:  # its text may quote a definition
            self._has_warned = True
            kind = type(error).__name__
            _logger.warning("a change of LiteLLM's models could not be followed: %s", kind)


def _is_idle(name: str, returned: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a method says that it has changed nothing: nearly always, where databases are."""
    if name in _SAY_NONE:
        return returned is None
    if name != _APPLY:
        return False
    changes = args[0] if args else kwargs.get("changes")
    done = [*getattr(returned, "upserted", (True,)), *getattr(returned, "deleted", ())]
    return not any(done) and not (
        getattr(changes, "assign", None) or getattr(changes, "settings", None)
    )
