"""AdminSettings: who may use the administration app, and where it listens."""

import ipaddress
from dataclasses import dataclass, field

from routecache_middleware.core.checks import (
    check_flag,
    check_lower_case,
    freeze_set,
    is_amount,
    wrong,
)

__all__ = ["AdminSettings", "is_loopback"]

_MIN_TOKEN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """Who may use the administration app, and where it listens.

    Attributes:
        token: Who has it may see and change everything; at least 16 characters. Without one the app
            starts only where nobody but this machine can reach it.
        read_token: Who has it may see everything and change nothing: for dashboards and scrapers.
        host: Address that ``routecache admin`` listens on.
        port: Port that it listens on.
        requests_per_s: How many requests a second one caller may make, on average.
        origins: Web origins (``https://ops.example.com``) under which browsers know the app, where
            a proxy in front of it changes ``Host``.
        keep_history: Whether processes that share a coordinator keep the dashboard's history there,
            where it outlives them.
    """

    token: str = field(default="", repr=False)
    read_token: str = field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = 8090
    requests_per_s: float = 50.0
    origins: frozenset[str] = frozenset()
    keep_history: bool = True

    def __post_init__(self) -> None:
        for name in ("token", "read_token"):
            _check_token(name, getattr(self, name))
        if self.token and self.token == self.read_token:
            raise wrong("read_token", "<the token>", "another one than token, which may do more")
        if not isinstance(self.host, str) or not self.host:
            raise wrong("host", self.host, "an address to listen on")
        is_port = isinstance(self.port, int) and not isinstance(self.port, bool)
        if not is_port or not 0 <= self.port <= 65_535:  # noqa: PLR2004 - what a port can be
            raise wrong("port", self.port, "0 to 65535")
        if not is_amount(self.requests_per_s) or not self.requests_per_s:
            raise wrong("requests_per_s", self.requests_per_s, "a finite number, more than 0")
        freeze_set(self, "origins")
        check_lower_case(self, "origins")
        check_flag("keep_history", self.keep_history)

    @property
    def is_local(self) -> bool:
        """Whether it listens where only this machine can reach it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, can only be reached from this machine."""
    host = host.strip("[]").lower()
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_token(name: str, token: object) -> None:
    if not isinstance(token, str):  # its value never stands in an error
        raise wrong(name, f"<{type(token).__name__}>", "text")
    is_sendable = token.isascii() and token.isprintable() and " " not in token
    if token and (len(token) < _MIN_TOKEN or not is_sendable):
        raise wrong(
            name,
            f"<{len(token)} characters>",
            f"at least {_MIN_TOKEN} ASCII characters, without spaces",
        )
