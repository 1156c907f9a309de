"""What the client is told when an upstream cannot be asked, or its answer not passed on."""

from typing import Any, Final

from routecache_middleware.gateway.answers import Refusal
from routecache_middleware.gateway.catalogue import Target

__all__ = ["UNREACHABLE", "refused"]

UNREACHABLE: Final = "upstream_unreachable"
"""Code of a failure after which another model may be asked."""

# What the driver raises, the first that fits, and what the client is then told.
_FAILURES: Final = (
    (
        ("PoolTimeout",),
        Refusal(
            503,
            "overloaded_error",
            "gateway_overloaded",
            "all connections of the gateway are in use; try again later",
            ((b"retry-after", b"1"),),
        ),
    ),
    (  # nothing was sent, so another one may be asked
        ("ConnectTimeout",),
        Refusal(
            504,
            "timeout_error",
            UNREACHABLE,
            "{host} could not be reached within the gateway's time limits",
        ),
    ),
    (
        ("TimeoutException",),
        Refusal(
            504,
            "timeout_error",
            "upstream_timeout",
            "{host} did not answer within the gateway's time limits",
        ),
    ),
    (
        ("InvalidURL", "LocalProtocolError"),
        Refusal(
            400,
            "invalid_request_error",
            "invalid_request",
            "the request has a path or a header field that cannot be passed on",
        ),
    ),
    (
        ("HTTPError",),
        Refusal(
            502,
            "api_error",
            UNREACHABLE,
            "{host} could not be reached, broke off, or makes no sense: {kind}",
        ),
    ),
)


def refused(httpx: Any, error: Exception, target: Target) -> Refusal:
    """Return the refusal for what the driver has raised.

    Args:
        httpx: The module.
        error: An ``HTTPError`` or ``InvalidURL`` of it; its text may quote anything.
        target: Whom it is about.
    """
    refusal = next(
        refusal
        for names, refusal in _FAILURES
        if isinstance(error, tuple(getattr(httpx, name) for name in names))
    )
    words = refusal.message.format(host=target.host, kind=type(error).__name__)
    return refusal._replace(message=words)
