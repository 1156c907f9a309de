"""How the partial completions of an OpenAI stream merge into one.

A stream is a list of partial completions, which merge by these rules:

- text of a message is joined (``content``, ``refusal``, ``reasoning_content`` ...), and so are the
  ``arguments`` or ``input`` of a call and the lists of log probabilities;
- choices and tool calls are merged by ``index``;
- of everything else the last value counts, and nothing empty replaces a value;
- ``obfuscation``, which is padding against traffic analysis, is dropped.
"""

from typing import TypeAlias

__all__ = ["LABELS", "Choice", "Object", "as_object", "as_objects", "index_of", "put", "without"]

Object: TypeAlias = dict[str, object]

LABELS = ("role", "type", "id", "name")
"""Members whose text is not joined: some upstreams repeat them in every chunk."""


class Choice:
    """One choice of a JSON answer, growing part by part."""

    __slots__ = ("calls", "fields", "message")

    def __init__(self) -> None:
        self.fields: Object = {}
        self.message: Object = {}
        self.calls: dict[int, Object] = {}

    def add(self, part: Object) -> None:
        """Merge one choice of a chunk.

        Raises:
            ValueError: It has not the right form, or comes in pieces that nobody can join.
        """
        for name, value in part.items():
            if name == "logprobs":
                self.fields[name] = _join_logprobs(self.fields.get(name), value)
            elif name != "delta":
                put_once(self.fields, name, value)
        for name, value in as_object(part.get("delta")).items():
            if name == "tool_calls" and value:
                for position, fragment in enumerate(as_objects(value)):
                    _merge_call(self.calls.setdefault(index_of(fragment, position), {}), fragment)
            elif name == "function_call" and value:
                self.message[name] = _join_call(self.message.get(name), as_object(value))
            else:
                _join(self.message, name, value)

    def finished(self, index: int) -> Object:
        """Return the choice as a JSON answer has it."""
        if self.calls:
            self.message["tool_calls"] = [self.calls[number] for number in sorted(self.calls)]
        return {"index": index, "message": self.message} | without(self.fields, "index")


def put_once(fields: Object, name: str, value: object) -> None:
    """As ``put``, for a member that comes whole: of a list in pieces nobody knows the whole.

    Raises:
        ValueError: A list comes a second time.
    """
    if isinstance(value, list) and fields.get(name):
        raise ValueError("a list comes in pieces")
    put(fields, name, value)


def _join(message: Object, name: str, value: object) -> None:
    """Merge one member of a delta into a message.

    Raises:
        ValueError: A list or an object comes in pieces, and nobody has said how they join.
    """
    old = message.get(name)
    if isinstance(value, str) and isinstance(old, str) and name not in LABELS:
        message[name] = old + value
        return
    if old and value and (isinstance(old, list | dict) or isinstance(value, list | dict)):
        raise ValueError("a member of a message comes in pieces")
    put(message, name, value)


def _merge_call(call: Object, fragment: Object) -> None:
    for name, value in fragment.items():
        if name in ("function", "custom") and value:
            call[name] = _join_call(call.get(name), as_object(value))
        elif name != "index":
            put(call, name, value)


def _join_call(old: object, part: Object) -> Object:
    call = as_object(old)
    for name, value in part.items():
        if name in ("arguments", "input"):
            _join(call, name, value)
        else:
            put(call, name, value)
    return call


def _join_logprobs(old: object, part: object) -> object:
    if old is None or part is None:
        return part if old is None else old
    logprobs = as_object(old)
    for name, value in as_object(part).items():
        have = logprobs.get(name)
        if isinstance(have, list) and isinstance(value, list):
            have += value
        else:
            put(logprobs, name, value)
    return logprobs


def put(target: Object, name: str, value: object) -> None:
    """Set a member; nothing empty replaces a value."""
    if name not in target or value not in (None, "", [], {}):
        target[name] = value


def without(value: Object, *names: str) -> Object:
    """Return an object without some of its members."""
    return {name: item for name, item in value.items() if name not in names}


def as_object(value: object) -> Object:
    """Return a JSON object as such, null as an empty one.

    Raises:
        ValueError: It is anything else.
    """
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise ValueError("not an object")


def as_objects(value: object) -> list[Object]:
    """Return a list of JSON objects as such, null as an empty one.

    Raises:
        ValueError: It is anything else.
    """
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return value
    raise ValueError("not a list of objects")


def index_of(value: Object, default: int) -> int:
    """Return the ``index`` of a choice or a tool call; ``default`` when there is none or null.

    Raises:
        ValueError: It is not an integer.
    """
    index = value.get("index")
    if index is None:
        return default
    if isinstance(index, int):
        return index
    raise ValueError("an index is not an integer")
