"""Turning what a file or the environment says into the type of a setting."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from types import NoneType
from typing import Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from routecache_middleware.core.choices import Word
from routecache_middleware.core.override import Override
from routecache_middleware.errors import ConfigurationError

__all__ = ["EXPECTED", "Found", "check_name", "checked"]

_Record = TypeVar("_Record")

# Secrets, and where somebody may have put one by mistake.
_HIDDEN: Final = frozenset(
    {
        *("previous_secrets", "read_token", "secret", "token", "url"),
        *("api_key_env", "base_url", "client_keys_env", "models", "upstream"),
    }
)

EXPECTED: Final[dict[object, str]] = {
    bool: "true or false",
    bytes: "text",
    float: "a number",
    float | None: "a number, or none",
    frozenset[str]: "a list, in the environment separated by commas",
    frozenset[str] | None: "a list, in the environment separated by commas, or none",
    int: "a whole number",
    int | None: "a whole number, or none",
    tuple[str, ...]: "a list of texts",
    tuple[bytes, ...]: "a list of texts, in the environment separated by commas",
    Literal["auto"] | bool: '"auto", true or false',
    Literal["auto"] | bool | None: '"auto", true or false',
    bool | None: "true or false",
    str: "text",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A raw value, and the words that say where it was found."""

    name: str
    value: object
    where: str

    def wrong(self, remedy: str) -> ConfigurationError:
        """Return the error to raise: where it stands, its value, and what it has to be."""
        # A URL may hold a password.
        value = "<hidden>" if self.name in _HIDDEN else repr(self.value)
        return ConfigurationError(
            f"{self.where}: setting {self.name} is {value}; it has to be {remedy}"
        )


def checked(kind: type[object], found: Found, hint: object) -> object:
    """The value, typed, after the record's own rules have been asked about it alone."""
    value = _converted(found, hint)
    try:
        kind(**{found.name: value})
    except ConfigurationError as error:
        raise ConfigurationError(f"{found.where}: {error}") from None
    return value


def _converted(found: Found, hint: object) -> object:
    """The value with the type of its field.

    Text is understood as in an environment variable, in the file as well.
    """
    value = found.value
    if get_origin(hint) is Word:
        return value  # the record knows the words, and its error lists them
    if isinstance(value, str):
        if value.lower() == "none" and NoneType in get_args(hint):
            return None
        if hint is bytes:  # not msgspec, which would take it for base64
            return value.encode("utf-8", "surrogateescape")  # as os.environ decoded it
        if hint in (frozenset[str], frozenset[str] | None):
            return frozenset(word for part in value.split(",") if (word := part.strip()))
    own = _OF_THEIR_OWN.get(hint) or _of_records(hint)
    if own is not None:
        return own(found)
    if hint not in EXPECTED:
        raise found.wrong("given in code: no file can hold it")
    try:
        return msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError:  # not chained: its text may quote a secret
        raise found.wrong(EXPECTED[hint]) from None


def _secrets(found: Found) -> tuple[bytes, ...]:
    value = found.value
    texts = [part for part in value.split(",") if part] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise found.wrong(EXPECTED[tuple[bytes, ...]])
    return tuple(text.encode("utf-8", "surrogateescape") for text in texts)


def _overrides(found: Found) -> tuple[Override, ...]:
    return _records(found, Override, "a list of tables: [[routecache.policy.overrides]]")


def _records(found: Found, kind: type[_Record], remedy: str) -> tuple[_Record, ...]:
    tables = found.value
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise found.wrong(remedy)
    hints = get_type_hints(kind)
    made = []
    for number, table in enumerate(tables):
        values: dict[str, Any] = {}
        for name, value in table.items():
            where = f"{name} in number {number + 1} of {found.where}"
            check_name((kind,), name, where)
            one = Found(name, value, where)
            values[name] = checked(kind, one, hints[name])
        made.append(kind(**values))
    return tuple(made)


def _of_records(hint: object) -> Callable[[Found], object] | None:
    """Return what reads ``tuple[Record, ...]``; None for any other type."""
    kind, *rest = get_args(hint) or (None,)
    if rest != [...] or not (isinstance(kind, type) and is_dataclass(kind)):
        return None
    return lambda found: _records(found, kind, f"a list of tables: [[...{found.name}]]")


def check_name(kinds: Iterable[type], name: str, where: str) -> None:
    """Raise unless one of several records has a setting of that name.

    Raises:
        ConfigurationError: None has; the text names the nearest one.
    """
    # The value stays out of the text: it may be a secret under a name that has a typo in it.
    names = [field.name for kind in kinds for field in fields(kind)]
    if name in names:
        return
    close = get_close_matches(name, names, n=1)
    remedy = f"did you mean {close[0]}?" if close else "the settings are " + ", ".join(names)
    raise ConfigurationError(f"{where}: there is no setting named {name!r}; {remedy}")


_OF_THEIR_OWN: Final[dict[object, Callable[[Found], object]]] = {
    tuple[bytes, ...]: _secrets,
    tuple[Override, ...]: _overrides,
}
