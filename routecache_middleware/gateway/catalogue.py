"""Which upstream serves a model, and what is asked when it fails. Pure: decided at start."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from routecache_middleware.errors import ConfigurationError
from routecache_middleware.gateway.router import RuleRouter
from routecache_middleware.gateway.settings import GatewaySettings, ModelSettings

__all__ = ["Catalogue", "Target", "joined"]

_VERSION = "/v1"
_ANTHROPIC = "/v1/messages"


class Target(NamedTuple):
    """Where a request goes.

    Attributes:
        model: What clients call the model that is asked; empty: whatever the request says.
        base_url: Where, without a slash at the end.
        host: Host and port of it, for messages and log lines.
        api_key: The key to ask with; empty: none of our own.
        rename: What the upstream calls the model; empty: the same.
    """

    model: str
    base_url: str
    host: str
    api_key: str
    rename: str

    def __repr__(self) -> str:
        return f"Target({self.model!r}, {self.host!r})"  # never the key


class Catalogue:
    """All models of a gateway.

    Attributes:
        has_own_keys: Some upstream is asked with a key of ours.
        is_single: There is one upstream, and it gets every request as it came.
        aliases: Names that the router is asked about.
        router: The router.
        listed: Names that clients can ask for, as far as they are known, in order.
    """

    def __init__(self, settings: GatewaySettings, environ: Mapping[str, str]) -> None:
        """Look up everything that the settings name.

        Args:
            settings: The gateway's.
            environ: Where the keys are.

        Raises:
            ConfigurationError: They contradict each other, or name what is not there.
        """
        self._environ = environ
        self._settings = settings
        self._default = self._upstream(settings)
        self._rows = [self._row(model) for model in settings.models]
        self._fallbacks = {model.name: model.fallbacks for model in settings.models}
        names = [model.name for model in settings.models]
        self.router = RuleRouter(settings.routes)
        self.aliases = tuple(dict.fromkeys(route.alias for route in settings.routes))
        twice = {name for name in names if names.count(name) > 1} | (set(names) & set(self.aliases))
        if twice:
            raise ConfigurationError(
                f"the gateway has two meanings for the model {min(twice)!r}; keep one of them"
            )
        if self._default is None and not self._rows:
            raise ConfigurationError(
                "the gateway has no upstream; name one with --upstream URL, or as upstream in "
                "[routecache.gateway], or a model in [[routecache.gateway.models]]"
            )
        self.is_single = not self._rows and not self.aliases
        self.listed = (*self.aliases, *(name for name in names if "*" not in name))
        self.find = lru_cache(maxsize=1024)(self._find)
        self._check_names()
        targets = [target for _, target in self._rows]
        self.has_own_keys = any(t.api_key for t in (*targets, self._default) if t is not None)

    @property
    def default(self) -> Target | None:
        """Where requests go that no table names; None: nowhere."""
        return self._default

    @property
    def hosts(self) -> tuple[str, ...]:
        """Hosts of all upstreams, in order."""
        targets = [self._default, *(target for _, target in self._rows)]
        return tuple(dict.fromkeys(target.host for target in targets if target is not None))

    def knows(self, model: str) -> bool:
        """Whether there is an upstream for it."""
        return self.find(model) is not None

    def chain(self, model: str, alternatives: tuple[str, ...] = ()) -> tuple[Target, ...]:
        """Return whom to ask for a model: its own upstream first, then its fallbacks.

        Args:
            model: As the client, or the router, has named it.
            alternatives: Further models, asked after the model's own fallbacks.
        """
        first = self.find(model)
        if first is None:
            return ()
        chain = {model: first}
        for name in (*self._own_fallbacks(model), *alternatives):
            target = self.find(name)
            if target is not None:
                chain.setdefault(name, target)
        return tuple(chain.values())

    def _own_fallbacks(self, model: str) -> tuple[str, ...]:
        name = next((n for n in self._fallbacks if _fits(n, model)), None)
        return () if name is None else self._fallbacks[name]

    def _find(self, model: str) -> Target | None:
        if model in self.aliases:
            return None
        for name, target in self._rows:
            if _fits(name, model):
                return target._replace(model=model)
        if self._default is None:
            return None
        return self._default._replace(model=model)

    def _check_names(self) -> None:
        for model in self._settings.models:
            for name in model.fallbacks:
                if "*" in name or name == model.name or not self.knows(name):
                    raise ConfigurationError(
                        f"fallbacks of the model {model.name!r} is {list(model.fallbacks)!r}; "
                        f"there is no other model {name!r}; add it to [[routecache.gateway.models]]"
                    )
        for route in self._settings.routes:
            if "*" in route.model or not self.knows(route.model):
                raise ConfigurationError(
                    f"a route of {route.alias!r} chooses the model {route.model!r}, which is not "
                    "there; add it to [[routecache.gateway.models]], or name an upstream for it"
                )

    def _upstream(self, settings: GatewaySettings) -> Target | None:
        if not settings.upstream:
            if settings.api_key_env:
                raise ConfigurationError(
                    f"api_key_env is {settings.api_key_env!r} without an upstream that the key is "
                    "for; name the upstream, or move api_key_env to the models"
                )
            return None
        key = self._key(settings.api_key_env)
        return _target(settings.upstream, key)

    def _row(self, model: ModelSettings) -> tuple[str, Target]:
        key = self._key(model.api_key_env)
        if model.base_url:
            target = _target(model.base_url, key)
        elif self._default is not None:
            target = self._default._replace(api_key=key or self._default.api_key)
        else:
            raise ConfigurationError(
                f"the model {model.name!r} has no base_url, and there is no upstream that stands "
                "in for it; add one of them"
            )
        return model.name, target._replace(model=model.name, rename=model.rename)

    def _key(self, variable: str) -> str:
        if not variable:
            return ""
        key = self._environ.get(variable, "").strip()
        if not key:
            raise ConfigurationError(
                f"environment variable {variable}, named by api_key_env, is not set; "
                "set it to the key"
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ConfigurationError(
                f"environment variable {variable}, named by api_key_env, holds <hidden>; a key is "
                "printable ASCII without spaces"
            )
        return key


def joined(base_path: str, path: str, *, is_anthropic: bool = False) -> str:
    """Return the path at the upstream of a request to ``path``, both still escaped.

    A base URL means what it means to the API's own library. Without a path it stands for the server
    and ``path`` is kept. OpenAI's has the version at its end, or no version at all, so that what
    follows ``/v1`` is appended; Anthropic's does not, so that ``path`` is appended as it is.
    A version that both have is there once.

    Args:
        base_path: Path of the base URL, without a slash at the end.
        path: Path of the request.
        is_anthropic: The request is one of Anthropic's.
    """
    if not base_path:
        return path
    first, _, rest = path.removeprefix("/").partition("/")
    if base_path.rpartition("/")[2] == first and rest:
        return f"{base_path}/{rest}"
    if not is_anthropic and path.startswith(f"{_VERSION}/") and not path.startswith(_ANTHROPIC):
        return base_path + path.removeprefix(_VERSION)
    return base_path + path


def _target(base_url: str, key: str) -> Target:
    url = base_url.rstrip("/")
    return Target("", url, urlsplit(url).netloc, key, "")


@lru_cache(maxsize=1024)
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, name.split("*"))), re.DOTALL)


def _fits(name: str, model: str) -> bool:
    return name == model or ("*" in name and _pattern(name).fullmatch(model) is not None)
