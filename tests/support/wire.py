"""Fixtures of wire APIs, and what is done to each of them.

``tests/fixtures/<dialect>/`` has some of these folders; a file put into one is tested without
further ado:

- ``answers``: ``<name>.json`` and ``<name>.sse``, one answer in both forms; where an API has no
  streams, ``.json`` alone;
- ``recorded``: answers as a real server sent them, each form by itself;
- ``discarded``: ``<discard reason>.<name>.json`` or ``.sse``, what must not be stored;
- ``streams``: whole streams of which no JSON can be made truthfully;
- ``requests``: request bodies.
"""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from routecache_middleware.core.dialect import Dialect, ParsedRequest
from routecache_middleware.core.fingerprint import Fingerprint, KeyContext, fingerprint
from routecache_middleware.core.models import ResponseMode

__all__ = [
    "asked",
    "events_of",
    "files",
    "hashes",
    "loaded",
    "mode_of",
    "mutations",
    "names_of_pairs",
    "variants",
]

FIXTURES = Path(__file__).parents[1] / "fixtures"
_CONTEXT = KeyContext("d", "", "/", b"", ())


def files(dialect: str, folder: str) -> list[Path]:
    """Return the fixtures of a folder; none at all is an error of the test."""
    found = sorted((FIXTURES / dialect / folder).iterdir())
    assert found
    return found


def names_of_pairs(dialect: str) -> list[str]:
    """Return the names of the answers that are there in both forms, which all have to be."""
    found = files(dialect, "answers")
    names = sorted({path.stem for path in found})
    assert len(found) == 2 * len(names)
    return names


def mode_of(path: Path) -> ResponseMode:
    return ResponseMode.STREAM if path.suffix == ".sse" else ResponseMode.JSON


def asked(mode: ResponseMode) -> ParsedRequest:
    """Return a request for one wire form."""
    return ParsedRequest(model="m", mode=mode, shape=mode.value)


def loaded(body: bytes | None) -> Any:
    assert body is not None
    return json.loads(body)


def events_of(body: bytes | None) -> list[dict[str, Any]]:
    """Return the events of a stream as we write it: named, one line of data each."""
    assert body is not None
    found = []
    for frame in body.decode().removesuffix("\n\n").split("\n\n"):
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def variants(stream: bytes) -> Iterator[bytes]:
    """Yield other ways to write the same stream: line ends, comments, data over several lines."""
    lines = stream.replace(b"\r\n", b"\n")
    for end in (b"\n", b"\r\n", b"\r"):
        yield lines.replace(b"\n", end)
    yield b"\xef\xbb\xbf: hello\n\n" + lines.replace(b"\n\n", b"\n\n: still here\n\nid: 7\n")
    yield lines.replace(b'data:{"type":', b'data:{\ndata:"type":').replace(
        b'data: {"type":', b'data: {\ndata:  "type":'
    )


def hashes(dialect: Dialect, payload: dict[str, Any]) -> Fingerprint:
    return fingerprint(payload, dialect=dialect, context=_CONTEXT)


def mutations(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every payload that differs in one place, at any depth, and where that place is.

    Every scalar is changed, every member left out, every object gets one more, every list loses
    and repeats its last item.
    """
    if isinstance(value, dict):
        yield (*path, "added_by_the_test"), value | {"added_by_the_test": 1}
        for name, item in value.items():
            yield (*path, name), {n: v for n, v in value.items() if n != name}
            for where, changed in mutations(item, (*path, name)):
                yield where, value | {name: changed}
    elif isinstance(value, list):
        if value:
            yield path, value[:-1]
            yield path, [*value, deepcopy(value[-1])]
        for index, item in enumerate(value):
            for where, changed in mutations(item, (*path, index)):
                yield where, [*value[:index], changed, *value[index + 1 :]]
    else:
        yield path, f"{value} changed" if isinstance(value, str) else "was no text"
