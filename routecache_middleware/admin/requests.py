"""The JSON schemas of what the administration app takes; the views check it themselves."""

from typing import Any, Final

from routecache_middleware.core.keys import Layer

__all__ = ["EXPLAIN", "INVALIDATE", "WARM", "Schema"]

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_OPTIONAL: Final[Schema] = {"type": ["string", "null"]}
_NAME: Final[Schema] = {"type": "string", "minLength": 1}
_CONDITIONS: Final[Schema] = {
    "dry_run": {"type": "boolean", "default": True, "description": "Only say what would be."},
    "older_than": {
        "type": ["number", "null"],
        "description": "Spare what was finished at or after this Unix time.",
    },
    "router_version": {
        "type": ["string", "null"],
        "description": "Only decisions that this version made.",
    },
}


def _target(required: list[str], more: Schema) -> Schema:
    return {
        "type": "object",
        "required": required,
        "properties": {**more, **_CONDITIONS},
        "additionalProperties": False,
    }


INVALIDATE: Final[Schema] = {
    "oneOf": [
        _target(["all"], {"all": {"const": True}}),
        _target(["model"], {"model": _NAME, "tenant": _NAME}),
        _target(["tenant"], {"tenant": _NAME}),
        _target(["tag"], {"tag": _NAME}),
        _target(["layer"], {"layer": {"type": "string", "enum": [str(layer) for layer in Layer]}}),
        _target(["query"], {"query": _NAME, "model": _NAME, "tenant": _NAME}),
    ],
    "description": (
        "What to invalidate: everything, a model (of one tenant), a tenant, a tag, a layer, or the "
        "decision or, with a model, the answer of one query. An entry of the latest list is named "
        'by its id: `{"entry": "<id>"}`.'
    ),
}

WARM: Final[Schema] = {
    "type": "object",
    "required": ["models"],
    "properties": {
        "models": {"type": "array", "items": _NAME, "minItems": 1, "maxItems": 1000},
    },
    "additionalProperties": False,
}

_REQUEST: Final[Schema] = {
    "anyOf": [{"type": "object"}, {"type": "string"}],
    "description": "A request's body: an object, or its JSON as text.",
}

EXPLAIN: Final[Schema] = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "pattern": "^/", "default": "/v1/chat/completions"},
        "body": _REQUEST,
        "headers": {"type": "object", "additionalProperties": _TEXT},
        "method": {**_OPTIONAL, "default": "POST"},
        "query_string": _OPTIONAL,
        "tenant": {**_OPTIONAL, "description": "Whose, instead of whom the headers name."},
        "neighbour": {
            "anyOf": [{"type": "object"}, {"type": "string"}, {"type": "null"}],
            "description": "Another request, to be compared with.",
        },
    },
    "additionalProperties": False,
}
