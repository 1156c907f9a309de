"""The server's log lines without query strings, in which some APIs take their key."""

import logging
from copy import deepcopy
from typing import Any, Final

from routecache_middleware.gateway.driver import needed

__all__ = ["WithoutQuery", "log_config"]

_FILTER: Final = "without_query"


class WithoutQuery(logging.Filter):
    """Cuts what follows a question mark out of a record's arguments; lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record, for all handlers."""
        if isinstance(record.args, tuple):
            record.args = tuple(_cut(one) for one in record.args)
        return True


def log_config() -> dict[str, Any]:
    """Return uvicorn's own configuration of logs, with that filter on its loggers.

    Raises:
        ConfigurationError: uvicorn is not installed.
    """
    config: dict[str, Any] = deepcopy(needed("uvicorn.config").LOGGING_CONFIG)
    config["filters"] = {_FILTER: {"()": f"{__name__}.{WithoutQuery.__name__}"}}
    for name in ("uvicorn.access", "uvicorn.error"):  # which tells of web sockets
        config["loggers"][name]["filters"] = [_FILTER]
    return config


def _cut(value: object) -> object:
    if not isinstance(value, str) or "?" not in value:
        return value
    return value.partition("?")[0] + "?..."
