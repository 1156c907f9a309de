"""The request fields of OpenAI's older APIs and what each means for the key.

Documentation is made from these tables, and a test holds requests against them. A field that no
table names counts in full: vendors add fields all the time.
"""

from collections.abc import Mapping
from typing import Final

from routecache_middleware.core.dialect import Field, Role

__all__ = ["CHAT_FIELDS", "COMPLETION_FIELDS"]

_KEY = Field(Role.KEY)
_SAMPLING = Field(Role.SAMPLING)
_SHAPE = Field(Role.IGNORED, "one entry serves both wire forms")
_WHO = Field(Role.IGNORED, "names the end user to the provider, for abuse detection")
_PROMPT_CACHE = Field(Role.IGNORED, "steers the provider's prompt cache: price and latency")

_SHARED: Mapping[str, Field] = {
    "model": Field(Role.KEY, "where the path names one too, both count and that one is served"),
    "stream": _SHAPE,
    "stream_options": _SHAPE,
    "user": _WHO,
    "frequency_penalty": _SAMPLING,
    "logit_bias": _SAMPLING,
    "logprobs": _SAMPLING,
    "min_p": _SAMPLING,
    "n": _SAMPLING,
    "presence_penalty": _SAMPLING,
    "seed": _SAMPLING,
    "stop": _SAMPLING,
    "temperature": _SAMPLING,
    "top_k": _SAMPLING,
    "top_p": _SAMPLING,
    "max_tokens": _KEY,
}

CHAT_FIELDS: Final[Mapping[str, Field]] = {
    **_SHARED,
    "audio": Field(Role.BYPASS, "always: spoken answers are large and rarely asked for twice"),
    "data_sources": Field(Role.BYPASS, "unless null: Azure searches what changes meanwhile"),
    "function_call": _KEY,
    "functions": _KEY,
    "max_completion_tokens": _KEY,
    "messages": Field(
        Role.BYPASS,
        "with media at a remote URL, or an earlier spoken answer; `prompt_cache_breakpoint` in a "
        "content part is left out of the key",
    ),
    "metadata": Field(Role.IGNORED, "labels for the provider's dashboard"),
    "modalities": Field(Role.BYPASS, "with `audio`"),
    "model": Field(
        Role.BYPASS,
        "that searches the web by itself: `*-search-preview*`, `*-search-api*`, `*:online`; where "
        "the path names one too, both count and that one is served",
    ),
    "moderation": Field(Role.KEY, "adds its result to the answer"),
    "parallel_tool_calls": _KEY,
    "plugins": Field(Role.BYPASS, "unless null: OpenRouter's search the web, among others"),
    "prediction": Field(Role.KEY, "changes the usage"),
    "prompt_cache_key": _PROMPT_CACHE,
    "prompt_cache_options": _PROMPT_CACHE,
    "prompt_cache_retention": _PROMPT_CACHE,
    "reasoning_effort": _KEY,
    "response_format": _KEY,
    "safety_identifier": _WHO,
    "search_parameters": Field(Role.BYPASS, "unless null: xAI searches the web"),
    "service_tier": Field(Role.IGNORED, "price and latency; the answer echoes the original one"),
    "store": Field(Role.BYPASS, "if true: the caller wants the provider to have it"),
    "tool_choice": _KEY,
    "tools": Field(Role.BYPASS, "with one that the server runs: neither function nor custom"),
    "top_logprobs": _SAMPLING,
    "verbosity": _KEY,
    "web_search_options": Field(Role.BYPASS, "unless null: the web changes"),
}
"""Chat completions: of openai-python 2.54, and what single vendors add."""

COMPLETION_FIELDS: Final[Mapping[str, Field]] = {
    **_SHARED,
    "best_of": _SAMPLING,
    "echo": Field(Role.KEY, "the answer repeats the prompt"),
    "prompt": _KEY,
    "suffix": _KEY,
}
"""Legacy completions: of openai-python 2.54, and what single vendors add."""
