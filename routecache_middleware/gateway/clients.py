"""Who may use the gateway: the clients' keys.

They are kept as hashes, hashed once more under a key of this process alone, and looked up by that:
how long the look-up takes says nothing of a key that is nearly right.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from routecache_middleware.errors import ConfigurationError
from routecache_middleware.gateway.settings import GatewaySettings

__all__ = ["ClientKeys", "load_client_keys"]

_HASHED: Final = re.compile(r"sha256:([0-9a-fA-F]{64})")
_MIN_KEY_CHARS: Final = 16
_BEARER: Final = b"bearer "
_HEADERS: Final = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")


class ClientKeys:
    """The keys that clients may use."""

    __slots__ = ("_blind", "_known")

    def __init__(self, hashes: Iterable[bytes]) -> None:
        """Take the keys' SHA-256 digests."""
        self._blind = secrets.token_bytes(32)
        self._known = {self._blinded(digest): digest for digest in hashes}

    def __len__(self) -> int:
        return len(self._known)

    def accept(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request's header has one of the keys.

        Of several fields with a credential the first kind counts, and a field that is there twice
        counts for nothing: nobody can say which of them others would read.
        """
        pairs = list(headers)
        for name in _HEADERS:
            values = [value for field, value in pairs if field == name]
            if values:
                return len(values) == 1 and self._is_known(values[0])
        return False

    def _is_known(self, value: bytes) -> bool:
        key = value[len(_BEARER) :] if value[: len(_BEARER)].lower() == _BEARER else value
        digest = hashlib.sha256(key.strip()).digest()
        found = self._known.get(self._blinded(digest), b"")
        return hmac.compare_digest(found, digest)

    def _blinded(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._blind, digest_size=32).digest()


def load_client_keys(settings: GatewaySettings, environ: Mapping[str, str]) -> ClientKeys | None:
    """Return the keys that clients may use; None when the gateway is not told any.

    Raises:
        ConfigurationError: They cannot be read, or one makes no sense; none is shown.
    """
    hashes: list[bytes] = []
    if settings.client_keys_env:
        hashes += _from_environment(settings.client_keys_env, environ)
    if settings.client_keys_file:
        hashes += _from_file(Path(settings.client_keys_file))
    if not (settings.client_keys_env or settings.client_keys_file):
        return None
    if not hashes:  # better closed than open
        raise ConfigurationError(
            f"the gateway is to have client keys, but these hold none: {_named(settings)}; add one "
            f"of {_MIN_KEY_CHARS} characters or more, or remove the setting"
        )
    return ClientKeys(hashes)


def _named(settings: GatewaySettings) -> str:
    places = []
    if settings.client_keys_env:
        places.append(f"the environment variable {settings.client_keys_env} (client_keys_env)")
    if settings.client_keys_file:
        places.append(f"{settings.client_keys_file} (client_keys_file)")
    return " and ".join(places)


def _from_environment(variable: str, environ: Mapping[str, str]) -> list[bytes]:
    keys = [key.strip() for key in environ.get(variable, "").split(",") if key.strip()]
    for key in keys:
        if len(key) < _MIN_KEY_CHARS:
            raise ConfigurationError(
                f"a key in the environment variable {variable} (client_keys_env) has "
                f"{len(key)} characters; it has to have at least {_MIN_KEY_CHARS}: they can be "
                "guessed otherwise"
            )
    return [hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest() for key in keys]


def _from_file(path: Path) -> list[bytes]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise ConfigurationError(
            f"client_keys_file {path} cannot be read: {error.strerror}; name a file with one "
            "sha256:<64 hex digits> a line"
        ) from error
    except ValueError:
        raise ConfigurationError(f"client_keys_file {path} is not UTF-8 text") from None
    hashes = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = _HASHED.fullmatch(text)
        if found is None:  # somebody may have put a key itself here
            raise ConfigurationError(
                f"client_keys_file {path}, line {number} is <hidden>; it has to be "
                "sha256:<64 hex digits>, as printed by: printf %s KEY | sha256sum"
            )
        hashes.append(bytes.fromhex(found[1]))
    return hashes
