"""Making a response of an answer."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from routecache_middleware.admin.values import Answer

if TYPE_CHECKING:
    from starlette.responses import Response

__all__ = ["reply"]

_UNAUTHORISED = 401


def reply(answer: Answer) -> "Response":
    """Return the response."""
    from starlette.responses import Response, StreamingResponse  # noqa: PLC0415 - not before the app is made

    body = answer.body
    if isinstance(body, AsyncIterator):
        fields = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(body, answer.status, fields, answer.content_type)
    content = body.encode() if isinstance(body, str) else msgspec.json.encode(body)
    headers = {"cache-control": "no-store"}
    if answer.status == _UNAUTHORISED:
        headers["www-authenticate"] = 'Bearer realm="routecache"'
    if answer.retry_after_s:
        headers["retry-after"] = str(answer.retry_after_s)
    headers["content-type"] = answer.content_type
    return Response(content, answer.status, headers)
