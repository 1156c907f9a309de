"""The scope that the app sees, where it differs from the server's."""

from operator import is_

from routecache_middleware.adapters.asgi.state import RouteCacheState
from routecache_middleware.adapters.asgi.types import Headers, Scope

__all__ = ["ChildScope", "attach_state", "detach_state", "state_above"]

# Ways of sending a body past `send`: what goes that way could be neither recorded nor shared.
_UNRECORDABLE = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
_ALTERED = frozenset({"headers", "extensions"})


def attach_state(scope: Scope, state: RouteCacheState) -> None:
    """Put our state where the app finds it, and where middleware above sees what the app adds."""
    shared = scope.get("state")
    if shared is None:
        shared = scope["state"] = {}
    state.outer = state_above(scope)
    shared["routecache"] = state


def detach_state(scope: Scope, state: RouteCacheState) -> None:
    """Undo :func:`attach_state`, so that another state can take its place below the same cache."""
    shared = scope["state"]
    if state.outer is None:
        shared.pop("routecache", None)
    else:
        shared["routecache"] = state.outer


def state_above(scope: Scope) -> RouteCacheState | None:
    """Return the state of a cache above that is waiting for the app's answer, or None."""
    shared = scope.get("state")
    found = shared.get("routecache") if shared else None
    return found if isinstance(found, RouteCacheState) and not found.is_over else None


class ChildScope:
    """A copy of a scope for the app, without what would keep its answer from being reused.

    What the app and its framework write into their scope (the matched route, path parameters) is
    given back, because middleware above us reads it from the original.
    """

    __slots__ = ("_given", "_parent", "scope")

    def __init__(self, parent: Scope, *, body: bytes | None, is_storable: bool) -> None:
        """Copy ``parent``.

        Args:
            parent: The server's scope.
            body: The body that the app will get when it is not the client's, for its length.
            is_storable: The answer may be recorded, so it must come unencoded and through ``send``.
        """
        self._parent = parent
        self.scope: Scope = dict(parent)
        headers: Headers = list(parent["headers"])
        if is_storable:
            headers = [pair for pair in headers if pair[0] != b"accept-encoding"]
            extensions = parent.get("extensions")
            if extensions and not _UNRECORDABLE.isdisjoint(extensions):
                self.scope["extensions"] = {
                    name: value for name, value in extensions.items() if name not in _UNRECORDABLE
                }
        if body is not None:
            length = b"%d" % len(body)
            headers = [
                (name, length if name == b"content-length" else value) for name, value in headers
            ]
        self.scope["headers"] = headers
        self._given = dict(self.scope)

    def give_back(self) -> None:
        """Write what the app added to its scope into the original."""
        now, given = self.scope, self._given
        if len(now) == len(given) and all(map(is_, now.values(), given.values())):
            return  # nothing; twice for every miss, so it has to be cheap
        for name, value in now.items():
            if name not in _ALTERED and given.get(name, given) is not value:
                self._parent[name] = value
        self._given = dict(now)
