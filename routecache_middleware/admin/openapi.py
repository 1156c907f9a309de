"""The OpenAPI document of the administration app, made of the table of its endpoints."""

from functools import cache
from typing import Any, Final

import msgspec

from routecache_middleware import __version__
from routecache_middleware.admin.routes import ROUTES, Row
from routecache_middleware.admin.views import EVENTS
from routecache_middleware.telemetry.exposition import OPENMETRICS_TYPE, TEXT_TYPE

__all__ = ["document"]

_MEANINGS: Final = {
    400: "It makes no sense; the message says what does.",
    401: "No token, or not a valid one.",
    403: "This token may not do that, or the request comes from a page of somebody else.",
    404: "There is no such entry.",
    409: "It cannot be done as things are set up here; the message says why.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too many requests; `Retry-After` says when to ask again.",
    503: "The coordinator cannot be asked, or not everything was recorded.",
}
_EVERYWHERE: Final = (400, 401, 403, 429)
_OF_A_BODY: Final = (413, 415)
_LINKS: Final[dict[str, Any]] = {
    "/entries": {
        "links": {
            "first": {
                "operationId": "entry",
                "parameters": {"entry": "$response.body#/entries/0/id"},
            }
        }
    }
}
_PLAIN: Final = (bytes, dict, str)
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message"],
            "properties": {"message": {"type": "string"}},
        }
    },
}


@cache
def document() -> dict[str, Any]:
    """Return the document, as a JSON value."""
    types = list(dict.fromkeys(row.answers for row in ROUTES if row.answers not in _PLAIN))
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {}
    for row in ROUTES:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "routecache admin",
            "version": __version__,
            "description": "Statistics, explanations and invalidation of an LLM cache.",
        },
        "servers": [{"url": "."}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {**schemas, "Error": _ERROR},
        },
    }


def _operation(row: Row) -> dict[str, Any]:
    summary, _, more = (row.view.__doc__ or "").partition("\n")
    parameters: list[dict[str, Any]] = [
        {
            "name": one.name,
            "in": "query",
            "description": one.meaning,
            "schema": one.schema(),
        }
        for one in row.query
    ]
    if "{entry}" in row.path:
        parameters.append(
            {
                "name": "entry",
                "in": "path",
                "required": True,
                "description": "The id of an entry that was listed.",
                "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
            }
        )
    fails = {*_EVERYWHERE, *row.fails, *(_OF_A_BODY if row.body is not None else ())}
    operation: dict[str, Any] = {
        "operationId": row.view.__name__,
        "summary": summary,
        "description": " ".join(more.split()),
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": _content(row), **_LINKS.get(row.path, {})},
            **{str(status): _failure(status) for status in sorted(fails)},
        },
    }
    if row.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": row.body}},
        }
    return operation


def _content(row: Row) -> dict[str, Any]:
    if row.answers is str:
        return {kind: {"schema": {"type": "string"}} for kind in (TEXT_TYPE, OPENMETRICS_TYPE)}
    if row.answers is bytes:
        return {EVENTS: {}}  # each event is a Frame; OpenAPI 3.1 has no words for that
    if row.answers is dict:
        return {"application/json": {"schema": {"type": "object"}}}
    reference = {"$ref": f"#/components/schemas/{row.answers.__name__}"}
    return {"application/json": {"schema": reference}}


def _failure(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {
        "description": _MEANINGS[status],
        "content": {"application/json": {"schema": schema}},
    }
