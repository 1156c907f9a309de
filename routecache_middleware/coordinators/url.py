"""Coordinator URLs: scheme, location and options, and errors that never show a password."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import parse_qsl

from routecache_middleware.errors import ConfigurationError

__all__ = ["CoordinatorUrl", "mask_url"]

# Everything up to the last "@": a password may hold any character, an "@" or a "/" included.
_USER_INFO = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL)
_HIDING = r"[^=&]*(?:pass|pwd|secret|token|auth|credential)[^=&]*|(?:[^=&]*[_-])?(?:api)?key"
_SECRET_OPTION = re.compile(rf"(?i)([?&](?:{_HIDING})=)[^&]*")


def mask_url(url: str) -> str:
    """Return ``url`` fit for an error text or a log: without user, password and secret options."""
    return _SECRET_OPTION.sub(r"\1***", _USER_INFO.sub(r"\1***@", url))


@dataclass(frozen=True, slots=True)
class CoordinatorUrl:
    """A URL taken apart.

    Attributes:
        text: The whole URL; it may hold a password.
        scheme: What comes before ``://``, lower case.
        location: What stands between ``://`` and ``?``; its meaning is up to the backend.
        options: What comes after the ``?``, unescaped.
    """

    text: str = field(repr=False)
    scheme: str
    location: str = field(repr=False)
    options: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        return mask_url(self.text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a URL apart.

        Raises:
            ConfigurationError: It is no URL, or an option has no value or is given twice.
        """
        scheme, separator, rest = text.partition("://")
        location, _, query = rest.partition("?")
        url = cls(text, scheme.lower(), location, {})
        if not (scheme and separator):
            raise url.error("is not a URL", "<scheme>://..., such as memory://")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError:
            raise url.error("has malformed options", "?name=value&name=value") from None
        options = dict(pairs)
        if len(options) < len(pairs):
            raise url.error("gives an option twice", "each option once")
        return cls(text, url.scheme, location, options)

    def error(self, problem: str, remedy: str) -> ConfigurationError:
        """Return the error to raise: what is wrong with the URL, and what it has to be."""
        return ConfigurationError(
            f"coordinator URL {mask_url(self.text)!r} {problem}; it has to be {remedy}"
        )

    def check_options(self, *known: str) -> None:
        """Raise a ConfigurationError when there are other options than ``known``."""
        unknown = sorted(set(self.options) - set(known))
        if unknown:
            # Without its options: under a name with a typo in it there may be a password. And
            # masked before that: what follows a "?" in a password is no option.
            plain = replace(self, text=mask_url(self.text).partition("?")[0])
            remedy = "one of " + ", ".join(known) if known else "without options"
            if "@" in self.text.partition("?")[2]:
                raise plain.error(
                    "has unknown options, or a '?' in its password",
                    f"{remedy}; in a password '?' is written as %3F",
                )
            raise plain.error(f"has no option {unknown[0]!r}", remedy)

    def whole_number(self, name: str, default: int) -> int:
        """Return an option's value as a number of 0 or more, or ``default``."""
        value = self.options.get(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdecimal()):
            raise self.error(f"has {name}={value!r}", f"a whole number for {name}, 0 or more")
        return int(value)

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """Return an option's value, which has to be one of ``choices``, or ``default``."""
        value = self.options.get(name, default)
        if value not in choices:
            raise self.error(f"has {name}={value!r}", f"one of {', '.join(choices)} for {name}")
        return value
