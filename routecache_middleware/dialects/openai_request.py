"""What OpenAI's older APIs have in common: how a request is read, what an error looks like."""

from collections.abc import Mapping

import msgspec

from routecache_middleware.core.dialect import ParsedRequest
from routecache_middleware.core.models import BypassReason, ResponseMode

__all__ = ["error_body", "objects", "read_request"]


def read_request(
    payload: Mapping[str, object], *, prompts: int = 1, bypass: BypassReason | None = None
) -> ParsedRequest | None:
    """Read what decides of a request's form and sampling; None when that makes no sense.

    Args:
        payload: The decoded body.
        prompts: How many prompts it carries; each gets ``n`` answers.
        bypass: Why the request can never be answered from a cache, or None.
    """
    model = payload.get("model")
    shape = _shape(payload.get("stream"), payload.get("stream_options"))
    if not isinstance(model, str) or shape is None:
        return None
    choices = payload.get("n")
    choices = 1 if choices is None else choices
    if isinstance(choices, bool) or not isinstance(choices, int) or choices < 1:
        return None
    temperature = payload.get("temperature")
    if isinstance(temperature, bool) or not isinstance(temperature, int | float | None):
        return None
    return ParsedRequest(
        model=model,
        mode=ResponseMode.JSON if shape == "json" else ResponseMode.STREAM,
        shape=shape,
        choices=choices * prompts,
        temperature=temperature,
        is_deterministic=temperature == 0 or payload.get("seed") is not None,
        bypass=bypass,
    )


def objects(value: object) -> list[dict[str, object]] | None:
    """Return a list of objects as such; None when it is anything else."""
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return value
    return None


def error_body(message: str, *, kind: str, code: str) -> bytes:
    """Return an error in OpenAI's JSON shape."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    return msgspec.json.encode({"error": error})


def _shape(stream: object, options: object) -> str | None:
    """Return the token of the wire form that is asked for; None when it makes no sense."""
    if not (stream is None or isinstance(stream, bool)):
        return None
    if not (options is None or isinstance(options, dict)):
        return None
    if not stream:
        return "json"
    asked = {name for name, value in (options or {}).items() if value not in (None, False)}
    asked.discard("include_obfuscation")  # padding against traffic analysis, dropped on conversion
    if not asked:
        return "stream"
    # Options of single upstreams, such as vLLM's continuous_usage_stats, make shapes of their own.
    return "+".join(["stream", *sorted("usage" if n == "include_usage" else n for n in asked)])
