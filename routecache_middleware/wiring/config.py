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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar, get_type_hints

from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.settings import PROFILES, Settings
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.conversion import EXPECTED, Found, check_name, checked

__all__ = [
    "DEFAULT_URL",
    "check_name",
    "configured_url",
    "found_in",
    "load_policy",
    "load_settings",
    "load_table",
]

DEFAULT_URL: Final = "memory://"

_PREFIX: Final = "ROUTECACHE_"
_TABLE: Final = "routecache"
# Beside the settings, in the file and in the environment; others read tables of their own.
_WORDS: Final = frozenset({"profile", "url"})
_OTHER_TABLES: Final = frozenset({"admin", "gateway", "litellm", "policy", "prices"})
# What Kubernetes sets in every container near a service whose name begins with "routecache".
_SERVICE_LINK: Final = re.compile(
    r"ROUTECACHE_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_Record = TypeVar("_Record")


def load_settings(
    *,
    profile: str | None = None,
    toml_path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    table: Mapping[str, object] | None = None,
    table_name: str = "",
    **overrides: object,
) -> Settings:
    """Settings of this deployment.

    Args:
        profile: Name of a TTL profile.
        toml_path: The TOML file; None: the one that ``ROUTECACHE_CONFIG`` names, if any.
        environ: The environment; None: that of the process.
        table: What a host's own configuration file says: it wins over the TOML file.
        table_name: What errors call that, such as ``callback_settings.routecache``.
        overrides: Settings that win over everything else.

    Raises:
        ConfigurationError: A value is wrong, a name is no setting, or the file cannot be read. The
            text says where it was found; secrets are not shown.
    """
    sources = _Sources(environ, toml_path, table, table_name)
    chosen = Found("profile", profile, "argument profile") if profile else sources.word("profile")
    ttls = {} if chosen is None else _profile(chosen)
    return _load(Settings, sources.settings(), overrides, ttls)


def load_policy(
    *,
    toml_path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    table: Mapping[str, object] | None = None,
    table_name: str = "",
    **overrides: object,
) -> CachePolicy:
    """Policy of this deployment; arguments and errors as for :func:`load_settings`."""
    return _load(
        CachePolicy, _Sources(environ, toml_path, table, table_name).sub("policy"), overrides, {}
    )


def load_table(
    kind: type[_Record],
    name: str,
    *,
    toml_path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    table: Mapping[str, object] | None = None,
    table_name: str = "",
    **overrides: object,
) -> _Record:
    """Settings of an adapter: a dataclass of its own, in table ``[routecache.<name>]``.

    Arguments and errors as for :func:`load_settings`; in the environment
    ``ROUTECACHE_<NAME>_<SETTING>``.
    """
    return _load(kind, _Sources(environ, toml_path, table, table_name).sub(name), overrides, {})


def found_in(
    name: str,
    *,
    toml_path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    table: Mapping[str, object] | None = None,
    table_name: str = "",
) -> Iterator[Found]:
    """Everything that ``[routecache.<name>]`` says, for tables whose names are free; later wins."""
    return _Sources(environ, toml_path, table, table_name).sub(name)


def configured_url(
    url: str | None = None,
    *,
    toml_path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    table: Mapping[str, object] | None = None,
    table_name: str = "",
) -> str:
    """Coordinator URL of this deployment; :data:`DEFAULT_URL` when nobody names one.

    The URL itself is not checked: whoever opens it does that.

    Raises:
        ConfigurationError: The file cannot be read, or its ``url`` is not text.
    """
    if url is not None:
        return url
    found = _Sources(environ, toml_path, table, table_name).word("url")
    return DEFAULT_URL if found is None else str(found.value)


@dataclass(frozen=True, slots=True)
class _Table:
    """What a file says.

    Attributes:
        values: Settings, words and tables of others, by name.
        path: Which file.
        name: What its users call it, where tables inside of it may also be written without one.
    """

    values: Mapping[str, object]
    path: str
    name: str = ""

    def place(self, inside: str = "") -> str:
        """Return the words that say where something stands."""
        return self.name or f"[{_TABLE}{inside}] of {self.path}"


class _Sources:
    """File, host's table and environment, each read once; the later of them win."""

    def __init__(
        self,
        environ: Mapping[str, str] | None,
        toml_path: str | Path | None,
        table: Mapping[str, object] | None,
        table_name: str,
    ) -> None:
        given = os.environ if environ is None else environ
        self._environ = {
            name: value
            for name, value in given.items()
            if name.startswith(_PREFIX) and value and not _SERVICE_LINK.fullmatch(name)
        }
        path = toml_path or self._environ.get(f"{_PREFIX}CONFIG")
        # Each by itself: merged, the host's table for a policy would hide all of the file's.
        self._tables: list[_Table] = []
        if path:
            self._tables.append(_Table(_read_table(Path(path)), str(path)))
        if table:
            self._tables.append(_Table(table, "the host's configuration", table_name))

    def settings(self) -> Iterator[Found]:
        """Every setting named anywhere; later ones win."""
        for table in self._tables:
            for name, value in table.values.items():
                if name not in _WORDS | _OTHER_TABLES:
                    yield Found(name, value, f"{name} in {table.place()}")
        others = tuple(f"{_PREFIX}{table.upper()}_" for table in _OTHER_TABLES)
        for variable, value in self._environ.items():
            name = variable.removeprefix(_PREFIX).lower()
            if name not in _WORDS | {"config"} and not variable.startswith(others):
                yield Found(name, value, f"environment variable {variable}")

    def sub(self, wanted: str) -> Iterator[Found]:
        """Every setting of another table named anywhere; later ones win."""
        for table in self._tables:
            where = table.place(f".{wanted}")
            for name, value in _as_table(table.values.get(wanted, {}), where).items():
                yield Found(name, value, f"{name} in {where}")
        prefix = f"{_PREFIX}{wanted.upper()}_"
        for variable, value in self._environ.items():
            if variable.startswith(prefix):
                name = variable.removeprefix(prefix).lower()
                yield Found(name, value, f"environment variable {variable}")

    def word(self, name: str) -> Found | None:
        """The profile or the URL, if somebody names one."""
        variable = f"{_PREFIX}{name.upper()}"
        if variable in self._environ:
            return Found(name, self._environ[variable], f"environment variable {variable}")
        for table in reversed(self._tables):
            if name in table.values:
                found = Found(name, table.values[name], f"{name} in {table.place()}")
                if not isinstance(found.value, str):
                    raise found.wrong(EXPECTED[str])
                return found
        return None


def _load(
    kind: type[_Record],
    found: Iterator[Found],
    overrides: Mapping[str, object],
    profile: Mapping[str, object],
) -> _Record:
    hints = get_type_hints(kind)
    values = dict(profile)
    for one in found:
        check_name((kind,), one.name, one.where)
        values[one.name] = checked(kind, one, hints[one.name])
    for name in overrides:
        check_name((kind,), name, f"argument {name}")
    return kind(**{**values, **overrides})


def _profile(found: Found) -> Mapping[str, object]:
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
