"""Settings, policy and URL from where a deployment keeps them.

    argument  >  environment  >  TOML file  >  profile  >  default

The environment: ``ROUTECACHE_URL``, ``ROUTECACHE_PROFILE``, ``ROUTECACHE_CONFIG`` (path of the TOML
file), ``ROUTECACHE_<SETTING>`` and ``ROUTECACHE_POLICY_<SETTING>``, such as
``ROUTECACHE_RESULT_TTL_S=30``. Sets are lists separated by commas, None is ``none``, and an empty
variable counts as absent, because that is what ``${UNSET}`` becomes in a compose file.

The file: tables ``[routecache]`` (settings, ``url`` and ``profile``) and ``[routecache.policy]``.

A name that is no setting is an error wherever it stands, and so is a wrong value: an option that
is silently ignored is worse than a gateway that does not start.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Final, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from routecache_middleware.core.choices import Word
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.settings import PROFILES, Settings
from routecache_middleware.errors import ConfigurationError

__all__ = [
    "DEFAULT_URL",
    "check_name",
    "configured_url",
    "load_policy",
    "load_settings",
    "load_table",
]

DEFAULT_URL: Final = "memory://"

_PREFIX: Final = "ROUTECACHE_"
_TABLE: Final = "routecache"
# Beside the settings, in the file and in the environment; others read tables of their own.
_WORDS: Final = frozenset({"profile", "url"})
_OTHER_TABLES: Final = frozenset({"admin", "litellm", "policy"})
# What Kubernetes sets in every container near a service whose name begins with "routecache".
_SERVICE_LINK: Final = re.compile(
    r"ROUTECACHE_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_EXPECTED: Final[dict[object, str]] = {
    bool: "true or false",
    bytes: "text",
    float: "a number",
    float | None: "a number, or none",
    frozenset[str]: "a list, in the environment separated by commas",
    frozenset[str] | None: "a list, in the environment separated by commas, or none",
    int: "a whole number",
    tuple[bytes, ...]: "a list of texts, in the environment separated by commas",
    Literal["auto"] | bool: '"auto", true or false',
    str: "text",
}

_Record = TypeVar("_Record")


def load_settings(
    *,
    profile: str | None = None,
    toml_path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    table: Mapping[str, object] | None = None,
    **overrides: object,
) -> Settings:
    """Settings of this deployment.

    Args:
        profile: Name of a TTL profile.
        toml_path: The TOML file; None: the one that ``ROUTECACHE_CONFIG`` names, if any.
        environ: The environment; None: that of the process.
        table: What a host's own configuration file says: it wins over the TOML file.
        overrides: Settings that win over everything else.

    Raises:
        ConfigurationError: A value is wrong, a name is no setting, or the file cannot be read. The
            text says where it was found; secrets are not shown.
    """
    sources = _Sources(environ, toml_path, table)
    chosen = _Found("profile", profile, "argument profile") if profile else sources.word("profile")
    ttls = {} if chosen is None else _profile(chosen)
    return _load(Settings, sources.settings(), overrides, ttls)


def load_policy(
    *,
    toml_path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    table: Mapping[str, object] | None = None,
    **overrides: object,
) -> CachePolicy:
    """Policy of this deployment; arguments and errors as for :func:`load_settings`."""
    return _load(CachePolicy, _Sources(environ, toml_path, table).sub("policy"), overrides, {})


def load_table(
    kind: type[_Record],
    name: str,
    *,
    toml_path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    table: Mapping[str, object] | None = None,
    **overrides: object,
) -> _Record:
    """Settings of an adapter: a dataclass of its own, in table ``[routecache.<name>]``.

    Arguments and errors as for :func:`load_settings`; in the environment
    ``ROUTECACHE_<NAME>_<SETTING>``.
    """
    return _load(kind, _Sources(environ, toml_path, table).sub(name), overrides, {})


def configured_url(
    url: str | None = None,
    *,
    toml_path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    table: Mapping[str, object] | None = None,
) -> str:
    """Coordinator URL of this deployment; :data:`DEFAULT_URL` when nobody names one.

    The URL itself is not checked: whoever opens it does that.

    Raises:
        ConfigurationError: The file cannot be read, or its ``url`` is not text.
    """
    if url is not None:
        return url
    found = _Sources(environ, toml_path, table).word("url")
    return DEFAULT_URL if found is None else str(found.value)


@dataclass(frozen=True, slots=True)
class _Found:
    """A raw value, and the words that say where it was found."""

    name: str
    value: object
    where: str

    def wrong(self, remedy: str) -> ConfigurationError:
        # A URL may hold a password.
        value = (
            "<hidden>" if self.name in {"secret", "previous_secrets", "url"} else repr(self.value)
        )
        return ConfigurationError(
            f"{self.where}: setting {self.name} is {value}; it has to be {remedy}"
        )


class _Sources:
    """File, host's table and environment, each read once; the later of them win."""

    def __init__(
        self,
        environ: Mapping[str, str] | None,
        toml_path: str | Path | None,
        table: Mapping[str, object] | None,
    ) -> None:
        given = os.environ if environ is None else environ
        self._environ = {
            name: value
            for name, value in given.items()
            if name.startswith(_PREFIX) and value and not _SERVICE_LINK.fullmatch(name)
        }
        path = toml_path or self._environ.get(f"{_PREFIX}CONFIG")
        # Each by itself: merged, the host's table for a policy would hide all of the file's.
        self._tables: list[tuple[str, Mapping[str, object]]] = []
        if path:
            self._tables.append((str(path), _read_table(Path(path))))
        if table:
            self._tables.append(("the host's configuration", table))

    def settings(self) -> Iterator[_Found]:
        """Every setting named anywhere; later ones win."""
        for path, table in self._tables:
            for name, value in table.items():
                if name not in _WORDS | _OTHER_TABLES:
                    yield _Found(name, value, f"{name} in [{_TABLE}] of {path}")
        others = tuple(f"{_PREFIX}{table.upper()}_" for table in _OTHER_TABLES)
        for variable, value in self._environ.items():
            name = variable.removeprefix(_PREFIX).lower()
            if name not in _WORDS | {"config"} and not variable.startswith(others):
                yield _Found(name, value, f"environment variable {variable}")

    def sub(self, wanted: str) -> Iterator[_Found]:
        """Every setting of another table named anywhere; later ones win."""
        for path, table in self._tables:
            where = f"[{_TABLE}.{wanted}] of {path}"
            for name, value in _as_table(table.get(wanted, {}), where).items():
                yield _Found(name, value, f"{name} in {where}")
        prefix = f"{_PREFIX}{wanted.upper()}_"
        for variable, value in self._environ.items():
            if variable.startswith(prefix):
                name = variable.removeprefix(prefix).lower()
                yield _Found(name, value, f"environment variable {variable}")

    def word(self, name: str) -> _Found | None:
        """The profile or the URL, if somebody names one."""
        variable = f"{_PREFIX}{name.upper()}"
        if variable in self._environ:
            return _Found(name, self._environ[variable], f"environment variable {variable}")
        for path, table in reversed(self._tables):
            if name in table:
                found = _Found(name, table[name], f"{name} in [{_TABLE}] of {path}")
                if not isinstance(found.value, str):
                    raise found.wrong(_EXPECTED[str])
                return found
        return None


def _load(
    kind: type[_Record],
    found: Iterator[_Found],
    overrides: Mapping[str, object],
    profile: Mapping[str, object],
) -> _Record:
    hints = get_type_hints(kind)
    values = dict(profile)
    for one in found:
        check_name((kind,), one.name, one.where)
        values[one.name] = _checked(kind, one, hints[one.name])
    for name in overrides:
        check_name((kind,), name, f"argument {name}")
    return kind(**{**values, **overrides})


def _checked(kind: type[_Record], found: _Found, hint: object) -> object:
    """The value, typed, after the record's own rules have been asked about it alone."""
    value = _converted(found, hint)
    try:
        kind(**{found.name: value})
    except ConfigurationError as error:
        raise ConfigurationError(f"{found.where}: {error}") from None
    return value


def _converted(found: _Found, hint: object) -> object:
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
    if hint == tuple[bytes, ...]:
        return _secrets(found)
    try:
        return msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError:  # not chained: its text may quote a secret
        raise found.wrong(_EXPECTED[hint]) from None


def _secrets(found: _Found) -> tuple[bytes, ...]:
    value = found.value
    texts = [part for part in value.split(",") if part] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise found.wrong(_EXPECTED[tuple[bytes, ...]])
    return tuple(text.encode("utf-8", "surrogateescape") for text in texts)


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


def _profile(found: _Found) -> Mapping[str, object]:
    try:
        return PROFILES[str(found.value)]
    except KeyError:
        raise found.wrong("one of " + ", ".join(PROFILES)) from None


def _read_table(path: Path) -> Mapping[str, object]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"configuration file {path} cannot be read: {error.strerror}; "
            f"name an existing TOML file in toml_path or {_PREFIX}CONFIG, or none"
        ) from error
    except ValueError as error:  # not chained: decoding errors carry the text, secrets included
        place = error if isinstance(error, tomllib.TOMLDecodeError) else "it is not UTF-8"
        raise ConfigurationError(f"configuration file {path} is not TOML: {place}") from None
    if _TABLE not in document:
        raise ConfigurationError(f"configuration file {path} has no table [{_TABLE}]; add one")
    return _as_table(document[_TABLE], f"{_TABLE} in {path}")


def _as_table(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where} is not a table; write it in square brackets")
    return value
