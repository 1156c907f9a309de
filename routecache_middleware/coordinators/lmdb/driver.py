"""The LMDB binding, loaded when it is first needed."""

from importlib import import_module
from typing import Any

from routecache_middleware.errors import ConfigurationError

__all__ = ["load_driver"]


def load_driver() -> Any:
    """Return the module ``lmdb``.

    Raises:
        ConfigurationError: It is not installed; the text says how to install it.
    """
    try:
        return import_module("lmdb")
    except ImportError as error:
        raise ConfigurationError(
            "lmdb:// needs the package lmdb; "
            "install it with: pip install 'routecache-middleware[lmdb]'"
        ) from error
