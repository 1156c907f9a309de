"""How the gateway is set up: table ``[routecache.gateway]``, each record checked by itself.

What several of them say together is checked where they come together: in :mod:`.catalogue`.
"""

import math
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from routecache_middleware.coordinators.url import mask_url
from routecache_middleware.core.checks import check_flag, is_amount, wrong
from routecache_middleware.errors import ConfigurationError

__all__ = ["GatewaySettings", "ModelSettings", "RouteSettings"]

_ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NEEDS: Final = ("images", "tools")
_MAX_PORT: Final = 65_535
_QUERY: Final = re.compile(r"([?#]).*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Where a model is: one table ``[[routecache.gateway.models]]``.

    Attributes:
        name: What clients call it; ``*`` stands for any text. The first that fits is used.
        base_url: As a client library would be given it; empty: the gateway's ``upstream``.
        api_key_env: Environment variable with the key to ask with; empty: that of ``upstream``
            when ``base_url`` is empty, else none.
        rename: What the upstream calls it; empty: the same.
        fallbacks: Names of models to ask when it answers 429 or 5xx or cannot be reached.
    """

    name: str = "*"
    base_url: str = ""
    api_key_env: str = ""
    rename: str = ""
    fallbacks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_text(self, "name", "rename")
        if not self.name:
            raise wrong("name", self.name, "the name of a model; * stands for any text")
        if "*" in self.rename:
            raise wrong("rename", self.rename, "the name of one model, without *")
        _check_base_url("base_url", self.base_url)
        _check_variable("api_key_env", self.api_key_env)
        _freeze_names(self, "fallbacks")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """One rule of the router: a table ``[[routecache.gateway.routes]]``.

    Of the rules of an alias whose conditions a request meets, the cheapest are taken, and of these
    one by weight.

    Attributes:
        alias: The model name that clients ask for to be routed.
        model: The model that this rule chooses.
        min_chars: Only prompts of at least so many characters, all messages together.
        max_chars: Only prompts of at most so many characters; None: of any length.
        handles: What else requests may have for this model: ``images``, ``tools``.
        price: What the model costs, in a unit of one's own: the cheapest rule wins.
        weight: Share of requests, among rules of the same price.
    """

    alias: str = "auto"
    model: str = "*"
    min_chars: int = 0
    max_chars: int | None = None
    handles: tuple[str, ...] = _NEEDS
    price: float = 0.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_text(self, "alias", "model")
        for name in ("alias", "model"):
            if not getattr(self, name):
                raise wrong(name, getattr(self, name), "the name of a model")
        if "*" in self.alias:
            raise wrong("alias", self.alias, "one name, without *")
        _check_count("min_chars", self.min_chars)
        if self.max_chars is not None:
            _check_count("max_chars", self.max_chars)
        _freeze_names(self, "handles")
        if not set(self.handles) <= set(_NEEDS):
            raise wrong("handles", list(self.handles), "a list of " + ", ".join(_NEEDS))
        if not is_amount(self.price):
            raise wrong("price", self.price, "a finite number, 0 or more")
        if not (is_amount(self.weight) and self.weight > 0):
            raise wrong("weight", self.weight, "a finite number above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """How the gateway is set up: table ``[routecache.gateway]``.

    Attributes:
        upstream: Where models are that no table names; as a client library would be given it.
        api_key_env: Environment variable with the key to ask ``upstream`` with; empty: each client
            is asked for its own, which is passed on.
        host: Address to listen on.
        port: Port to listen on; 0: a free one.
        workers: How many processes ``routecache gateway`` answers with. More than one need a store
            that they can share, such as ``lmdb://``.
        client_keys_env: Environment variable with the keys that clients may use, separated by
            commas.
        client_keys_file: File with the hashes of such keys, one ``sha256:<64 hex digits>`` a line;
            ``#`` begins a comment.
        connect_timeout_s: For how long a connection to an upstream may take.
        head_timeout_s: For how long an upstream may take to begin its answer.
        idle_timeout_s: For how long an answer may pause.
        write_timeout_s: For how long an upstream may refuse to read on.
        max_connections: Connections to all upstreams together.
        keepalive_s: For how long an unused connection is kept. Shorter than the upstream's own
            limit, or requests meet connections that are just being closed.
        drain_s: For how long answers under way may go on when the gateway is stopped.
        admin: Whether the administration app and the dashboard are served too, under
            ``/routecache/``: to whom ``[routecache.admin]`` lets in, or without a token to this
            machine, if the gateway listens there only.
        use_environment_proxy: Whether ``HTTPS_PROXY`` and the like hold for it, as well as
            ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``.
        models: Where each model is.
        routes: The rules of the router.
    """

    upstream: str = ""
    api_key_env: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    client_keys_env: str = ""
    client_keys_file: str = ""
    connect_timeout_s: float = 10.0
    head_timeout_s: float = 600.0
    idle_timeout_s: float = 300.0
    write_timeout_s: float = 60.0
    max_connections: int = 1000
    keepalive_s: float = 4.0
    drain_s: float = 30.0
    admin: bool = False
    use_environment_proxy: bool = True
    models: tuple[ModelSettings, ...] = ()
    routes: tuple[RouteSettings, ...] = ()

    def __post_init__(self) -> None:
        _check_text(self, "host", "client_keys_file")
        if not self.host:
            raise wrong("host", self.host, "an address to listen on, such as 127.0.0.1")
        _check_base_url("upstream", self.upstream)
        _check_variable("api_key_env", self.api_key_env)
        _check_variable("client_keys_env", self.client_keys_env)
        _check_count("port", self.port)
        if self.port > _MAX_PORT:
            raise wrong("port", self.port, f"a number of at most {_MAX_PORT}")
        _check_count("max_connections", self.max_connections, least=1)
        _check_count("workers", self.workers, least=1)
        for name in ("connect_timeout_s", "head_timeout_s", "idle_timeout_s", "write_timeout_s"):
            value = getattr(self, name)
            if not (is_amount(value) and value > 0):
                raise wrong(name, value, "a finite number of seconds, above 0")
        for name in ("keepalive_s", "drain_s"):
            if not is_amount(getattr(self, name)):
                raise wrong(name, getattr(self, name), "a finite number of seconds, 0 or more")
        for name in ("admin", "use_environment_proxy"):
            check_flag(name, getattr(self, name))

    @property
    def drain_whole_s(self) -> int:
        """``drain_s`` in whole seconds, rounded up, as the server takes it."""
        return math.ceil(self.drain_s)


def _check_text(record: object, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if not (isinstance(value, str) and value.isprintable()):
            raise wrong(name, value, "text without control characters")


def _check_count(name: str, value: object, *, least: int = 0) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise wrong(name, value, f"a whole number, {least} or more")


def _check_variable(name: str, value: object) -> None:
    if isinstance(value, str) and (not value or _ENVIRONMENT_NAME.fullmatch(value)):
        return
    # Somebody may have put the key itself here.
    raise ConfigurationError(
        f"setting {name} is <hidden>; it has to be the name of an environment variable, "
        "not the key itself"
    )


def _check_base_url(name: str, value: object) -> None:
    if value == "":
        return
    remedy = "an http:// or https:// URL without query, such as https://api.openai.com/v1"
    if not isinstance(value, str):
        raise wrong(name, f"<{type(value).__name__}>", remedy)
    # Somebody may have put a password or a key into it.
    shown = _QUERY.sub(r"\1***", mask_url(value))
    if not (value.isascii() and value.isprintable()):
        raise wrong(name, shown, remedy)
    try:
        parts = urlsplit(value)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
    if has_host and parts.username is not None:
        raise ConfigurationError(
            f"setting {name} is <hidden>: it has a user name or password in it; "
            "put the key into an environment variable and name that in api_key_env"
        )
    is_plain = has_host and not (parts.query or parts.fragment or set(value) & set('?# "<>\\'))
    if not is_plain or parts.scheme not in ("http", "https"):
        raise wrong(name, shown, remedy)


def _freeze_names(record: object, name: str) -> None:
    value = getattr(record, name)
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise wrong(name, value, "a list of texts")
    object.__setattr__(record, name, tuple(value))
