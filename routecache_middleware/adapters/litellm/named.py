"""A policy's ``decide`` by its name, as LiteLLM's ``config.yaml`` names callbacks."""

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.errors import ConfigurationError

__all__ = ["VARIABLE", "named_decide"]

VARIABLE = "ROUTECACHE_POLICY_DECIDE"
"""Wins over the proxy's file, as all variables do."""
_FILE = "decide in callback_settings.routecache"
_REMEDY = (
    "name a plain function as package.module:function; the module stands beside config.yaml, or is "
    "installed"
)
# No URL: LiteLLM's loader would fetch the code from a bucket.
_NAME = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*)[.:](?P<function>[^\W\d]\w*)")


def named_decide(
    policy: Mapping[str, object], environ: Mapping[str, str]
) -> Callable[..., Any] | None:
    """Return the function that the environment or the proxy's file names; None: neither does.

    Its module is run, from beside ``config.yaml`` if there is such a file.

    Args:
        policy: What the file says of the policy.
        environ: The environment.

    Raises:
        ConfigurationError: It is not a name, it cannot be loaded, or it is no plain function.
    """
    found: object = environ.get(VARIABLE)
    where = f"environment variable {VARIABLE}" if found else _FILE
    found = found or policy.get("decide")
    if found is None or (isinstance(found, str) and found.lower() == "none"):
        return None
    matched = _NAME.fullmatch(found) if isinstance(found, str) else None
    if matched is None:
        raise ConfigurationError(f"{where}: setting decide is {found!r}; {_REMEDY}")
    function = _loaded(matched["module"], matched["function"], where)
    try:
        return CachePolicy(decide=function).decide
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _loaded(module: str, function: str, where: str) -> Any:
    from litellm.proxy.types_utils.utils import get_instance_fn

    # Not imported: outside its proxy LiteLLM need not have what that wants.
    server: Any = sys.modules.get("litellm.proxy.proxy_server")
    path = getattr(server, "user_config_file_path", None)
    try:
        return get_instance_fn(f"{module}.{function}", path)
    except Exception as error:
        # What a module says that fails while it runs may quote its secrets: only of what kind.
        told = (
            str(error.__cause__ or error) if isinstance(error, ImportError | AttributeError) else ""
        )
        kind = type(error).__name__ + (f": {told}" if told else "")
        raise ConfigurationError(
            f"{where}: {module}:{function} cannot be loaded ({kind}); {_REMEDY}"
        ) from error
