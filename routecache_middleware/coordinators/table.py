"""Which coordinators there are: scheme to factory.

Factories are named, not imported, so that a backend's driver is loaded only when it is used. A new
backend is one file in this folder and one row here.

A third party's coordinator needs no row. Its distribution names the factory as an entry point::

    [project.entry-points."routecache.coordinators"]
    mystore = "mypackage.coordinator:create"

and ``mystore://...`` is a coordinator URL wherever that distribution is installed. A scheme that is
built in cannot be taken over.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from routecache_middleware.coordinators.url import CoordinatorUrl
from routecache_middleware.core.ports import Clock, Coordinator
from routecache_middleware.core.settings import Settings
from routecache_middleware.errors import ConfigurationError

__all__ = ["ENTRY_POINT_GROUP", "SCHEMES", "create"]

Factory = Callable[[CoordinatorUrl, Settings, Clock], Coordinator]

SCHEMES: dict[str, str] = {
    "memory": "routecache_middleware.coordinators.memory:create",
    "lmdb": "routecache_middleware.coordinators.lmdb.factory:create",
    "redis": "routecache_middleware.coordinators.redis.factory:create",
    "rediss": "routecache_middleware.coordinators.redis.factory:create",
    "valkey": "routecache_middleware.coordinators.redis.factory:create",
    "valkeys": "routecache_middleware.coordinators.redis.factory:create",
    "redis+sentinel": "routecache_middleware.coordinators.redis.factory:create",
    "rediss+sentinel": "routecache_middleware.coordinators.redis.factory:create",
    "valkey+sentinel": "routecache_middleware.coordinators.redis.factory:create",
    "valkeys+sentinel": "routecache_middleware.coordinators.redis.factory:create",
    "redis+cluster": "routecache_middleware.coordinators.redis.factory:create",
    "rediss+cluster": "routecache_middleware.coordinators.redis.factory:create",
    "valkey+cluster": "routecache_middleware.coordinators.redis.factory:create",
    "valkeys+cluster": "routecache_middleware.coordinators.redis.factory:create",
    "ring": "routecache_middleware.coordinators.ring.factory:create",
    "rings": "routecache_middleware.coordinators.ring.factory:create",
}
"""Scheme to ``module:factory``; a factory is called with the URL, the settings and the clock."""


ENTRY_POINT_GROUP = "routecache.coordinators"
"""Where other distributions register theirs: the name is the scheme, the value as above."""


def create(url: str, settings: Settings, clock: Clock) -> Coordinator:
    """Build the coordinator that ``url`` names; opens nothing.

    Raises:
        ConfigurationError: There is no such scheme or option, the URL is malformed, or what a
            third party registered under the scheme cannot be loaded.
    """
    parsed = CoordinatorUrl.parse(url)
    target = SCHEMES.get(parsed.scheme)
    if target is None:
        return _installed(parsed)(parsed, settings, clock)
    module, _, name = target.partition(":")
    factory: Factory = getattr(import_module(module), name)
    return factory(parsed, settings, clock)


def _installed(url: CoordinatorUrl) -> Factory:
    """Load the factory of a scheme that is not built in; only then is anything scanned."""
    installed = entry_points(group=ENTRY_POINT_GROUP)
    found = [point for point in installed if point.name.lower() == url.scheme]
    if not found:
        known = [*SCHEMES, *sorted({point.name.lower() for point in installed} - SCHEMES.keys())]
        remedy = "one of " + ", ".join(f"{scheme}://" for scheme in known)
        raise url.error("has an unknown scheme", remedy)
    point, *others = found
    for other in others:  # which of them comes first depends on the order of sys.path
        raise _broken(point, f"is claimed by {_owner(other)} as well")
    try:
        factory = point.load()
    except Exception as error:
        # Its text is a third party's and may hold anything; its class says what kind of fault.
        raise _broken(point, f"cannot be loaded ({type(error).__name__})") from error
    if not callable(factory):
        raise _broken(point, "is not callable")
    checked: Factory = factory
    return checked


def _broken(point: EntryPoint, problem: str) -> ConfigurationError:
    owner = _owner(point)
    return ConfigurationError(
        f"the coordinator {point.name}:// of {owner}, entry point {point.value!r} in the group "
        f"{ENTRY_POINT_GROUP!r}, {problem}; install a version of {owner} that works, or remove it"
    )


def _owner(point: EntryPoint) -> str:
    return "an unknown distribution" if point.dist is None else point.dist.name
