"""OpenAI chat completions: from JSON to stream, from stream to JSON, from stream to stream.

Nothing is invented and nothing is lost: ids, times, fingerprints, usage, log probabilities and
fields nobody has heard of yet survive, so that ``aggregate(replay(x)) == x`` for every complete
JSON answer. What cannot be made from what is there (usage that a stream never carried, vendor
lists that come in fragments) is None.
"""

from collections.abc import Iterator

from routecache_middleware.dialects.openai_chunks import add_up, reshape, spread
from routecache_middleware.dialects.openai_merge import (
    LABELS,
    Choice,
    Object,
    as_object,
    as_objects,
    index_of,
    without,
)

__all__ = ["aggregate", "replay", "reshape"]

_LAST_IN_MESSAGE = {"content": 1, "refusal": 2, "function_call": 3}  # reasoning comes before them


def aggregate(body: bytes) -> bytes | None:
    """Return the JSON answer that a stream adds up to.

    None when it carries no usage, which a live JSON answer always has, or cannot be added up.
    """
    return add_up(body, kind="chat.completion", choice=Choice)


def replay(body: bytes, *, with_usage: bool = False) -> bytes | None:
    """Return a stream that adds up to a JSON answer.

    Per choice a chunk with the role, one with each part of the message, and one with the finish
    reason; then the usage if asked for. All log probabilities of a choice are in one chunk.

    None when usage is asked for and not there, or the body has not the right form.
    """
    return spread(body, kind="chat.completion.chunk", take_apart=_take_apart, with_usage=with_usage)


def _take_apart(choice: Object) -> Iterator[Object]:
    """Yield what the chunks have of one choice of a JSON answer."""
    logprobs = {name: choice[name] for name in ("logprobs",) if name in choice}
    common: Object = {"index": index_of(choice, 0)} | dict.fromkeys(logprobs)
    for delta in _deltas(as_object(choice.get("message"))):
        part = common | {"delta": delta, "finish_reason": None}
        if delta.get("content"):  # all log probabilities go with the text, or else with the end
            part |= logprobs
            logprobs = {}
        yield part
    yield common | {"delta": {}} | without(choice, "index", "message", "logprobs") | logprobs


def _deltas(message: Object) -> Iterator[Object]:
    """Yield an opening with the role and all short members, then each text, then each call."""
    alone = {name: value for name, value in message.items() if _stands_alone(name, value)}
    opening = without(message, *alone)
    if "content" in alone:
        opening["content"] = ""  # as OpenAI does it
    yield opening
    calls = as_objects(alone.pop("tool_calls", None))
    for name in sorted(alone, key=lambda name: _LAST_IN_MESSAGE.get(name, 0)):
        yield {name: alone[name]}
    for index, call in enumerate(calls):
        yield {"tool_calls": [{"index": index} | call]}


def _stands_alone(name: str, value: object) -> bool:
    is_text = isinstance(value, str) and name not in LABELS
    return bool(value) and (is_text or name in ("tool_calls", "function_call"))
