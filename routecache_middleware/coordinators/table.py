"""Which coordinators there are: scheme to factory.

Factories are named, not imported, so that a backend's driver is loaded only when it is used. A new
backend is one file in this folder and one row here.
"""

from collections.abc import Callable
from importlib import import_module

from routecache_middleware.coordinators.url import CoordinatorUrl
from routecache_middleware.core.ports import Clock, Coordinator
from routecache_middleware.core.settings import Settings

__all__ = ["SCHEMES", "create"]

Factory = Callable[[CoordinatorUrl, Settings, Clock], Coordinator]

SCHEMES: dict[str, str] = {
    "memory": "routecache_middleware.coordinators.memory:create",
}
"""Scheme to ``module:factory``; a factory is called with the URL, the settings and the clock."""


def create(url: str, settings: Settings, clock: Clock) -> Coordinator:
    """Build the coordinator that ``url`` names; opens nothing.

    Raises:
        ConfigurationError: There is no such scheme or option, or the URL is malformed.
    """
    parsed = CoordinatorUrl.parse(url)
    target = SCHEMES.get(parsed.scheme)
    if target is None:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise parsed.error("has an unknown scheme", f"one of {known}")
    module, _, name = target.partition(":")
    factory: Factory = getattr(import_module(module), name)
    return factory(parsed, settings, clock)
