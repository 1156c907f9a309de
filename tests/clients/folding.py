"""What a stream says once it is no matter how its text was cut, for APIs without a helper for it.

Chunks are plain data here, as ``model_dump(exclude_unset=True)`` returns them.
"""

import json
from typing import Any

__all__ = ["fold_anthropic", "fold_openai", "fold_responses"]


def fold_openai(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the sum of chat or legacy chunks: texts joined, lists added, the rest as last said."""
    whole: dict[str, Any] = {}
    for chunk in chunks:
        choices = whole.setdefault("choices", {})
        for choice in chunk["choices"]:
            _add(choices.setdefault(choice["index"], {}), choice)
        rest = {n: v for n, v in chunk.items() if n not in ("choices", "obfuscation")}
        whole |= {n: v for n, v in rest.items() if v is not None or n not in whole}
    return whole


def _add(whole: dict[str, Any], part: dict[str, Any]) -> None:
    for name, value in part.items():
        known = whole.get(name)
        if known is None:
            whole[name] = {} if isinstance(value, dict) else value
            if isinstance(value, dict):
                _add(whole[name], value)
            elif isinstance(value, list) and _is_indexed(value):
                whole[name] = {}
                _add_calls(whole[name], value)
        elif isinstance(value, dict):
            _add(known, value)
        elif isinstance(value, list) and _is_indexed(value):
            _add_calls(known, value)
        elif isinstance(value, str | list) and name not in ("id", "type", "role", "name"):
            whole[name] = known + value
        elif value is not None:
            whole[name] = value


def _is_indexed(value: list[Any]) -> bool:
    return bool(value) and isinstance(value[0], dict) and "index" in value[0]


def _add_calls(whole: dict[int, Any], calls: list[dict[str, Any]]) -> None:
    for call in calls:
        _add(whole.setdefault(call["index"], {}), call)


def fold_anthropic(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return events without pings, the deltas of each block as one: by kind, joined in order.

    A JSON answer does not say where in its text a citation came, how the JSON of a tool's input was
    spaced, nor how many tokens were out when the message began; and whether the usage at the end
    repeats that of the beginning is up to the server's age.
    """
    folded: list[dict[str, Any]] = []
    usage: dict[str, Any] = {}
    for event in events:
        match event["type"]:
            case "ping":
                continue
            case "message_start":
                usage |= event["message"]["usage"]
                folded.append({**event, "message": {**event["message"], "usage": None}})
            case "content_block_start":
                folded.append({**event, "deltas": {}})
            case "content_block_delta":
                kind, *_ = [value for name, value in event["delta"].items() if name != "type"]
                folded[-1]["deltas"].setdefault(event["delta"]["type"], []).append(kind)
            case "message_delta":
                usage |= {name: n for name, n in event["usage"].items() if n is not None}
                folded.append({**event, "usage": dict(usage)})
            case _:
                folded.append(event)
    return [_joined(event) if "deltas" in event else event for event in folded]


def _joined(block: dict[str, Any]) -> dict[str, Any]:
    deltas = block["deltas"]
    whole = {
        kind: "".join(parts) if isinstance(parts[0], str) else parts
        for kind, parts in deltas.items()
    }
    if whole.get("input_json_delta"):
        whole["input_json_delta"] = json.loads(whole["input_json_delta"])
    return {**block, "deltas": {kind: value for kind, value in whole.items() if value != ""}}


def fold_responses(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events that say what is finished, without where in the stream they stood."""
    return [
        {name: value for name, value in event.items() if name != "sequence_number"}
        for event in events
        if event["type"].endswith((".done", ".completed"))
    ]
