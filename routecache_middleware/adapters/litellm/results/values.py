"""Arguments of a LiteLLM call as plain JSON values, so that equal requests have equal keys."""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from routecache_middleware.core.canonical import DoubtfulJSONError, normalise

__all__ = ["plain", "size_of"]


def plain(value: Any) -> Any:
    """Return ``value`` in canonical form; a new object, which nobody changes.

    Pydantic objects are taken for what they dump, and classes, as in ``response_format``, for their
    name and JSON schema.

    Raises:
        DoubtfulJSONError: It has a part that is none of these and no JSON.
    """
    try:
        return normalise(value)
    except DoubtfulJSONError:
        pass
    try:
        return normalise(_converted(value))
    except RecursionError:
        pass
    raise DoubtfulJSONError("the value is nested too deeply")


def _converted(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _converted(_dumped(value))
    if isinstance(value, type) and issubclass(value, BaseModel):
        return _described(value)
    if isinstance(value, Mapping):
        return {name: _converted(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_converted(item) for item in value]
    return value


def _dumped(value: BaseModel) -> Any:
    with suppress(Exception):  # a serialiser of the caller's; its text may quote a prompt
        return value.model_dump(exclude_none=True)
    raise DoubtfulJSONError(f"a {type(value).__name__} cannot be dumped")


@lru_cache(maxsize=256)
def _described(kind: type[BaseModel]) -> Any:
    with suppress(Exception):  # pydantic's own kinds of error, and those of its plugins
        name = f"{kind.__module__}.{kind.__qualname__}"
        return {"class": name, "schema": kind.model_json_schema()}
    raise DoubtfulJSONError(f"{kind.__name__} has no JSON schema")


def size_of(value: Any, limit: int) -> int:
    """Return about how many bytes ``value`` has as JSON; more than ``limit`` is not counted out."""
    if isinstance(value, str | bytes):
        return len(value)
    total, pending = 0, [value]
    while pending and total <= limit:
        item = pending.pop()
        kind = type(item)
        if kind is str:
            total += len(item) + 2
        elif kind is dict:
            total += 8 * len(item)
            pending += item
            pending += item.values()
        elif kind is list:
            total += len(item)
            pending += item
        else:
            total += _size_of_rare(item, pending)
    return total


def _size_of_rare(item: Any, pending: list[Any]) -> int:
    if isinstance(item, str | bytes):
        return len(item)
    if isinstance(item, BaseModel):
        item = vars(item)
    if isinstance(item, Mapping):
        pending += item
        pending += item.values()
    elif isinstance(item, tuple | list):
        pending += item
    return 8
