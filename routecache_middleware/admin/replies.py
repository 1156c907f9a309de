"""Making a response of an answer."""

import msgspec
from starlette.responses import Response

from routecache_middleware.admin.values import Answer

__all__ = ["reply"]

_UNAUTHORISED = 401


def reply(answer: Answer) -> Response:
    """Return the response."""
    body = answer.body
    content = body.encode() if isinstance(body, str) else msgspec.json.encode(body)
    headers = {"cache-control": "no-store"}
    if answer.status == _UNAUTHORISED:
        headers["www-authenticate"] = 'Bearer realm="routecache"'
    if answer.retry_after_s:
        headers["retry-after"] = str(answer.retry_after_s)
    headers["content-type"] = answer.content_type
    return Response(content, answer.status, headers)
