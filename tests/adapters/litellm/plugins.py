"""What a test proxy loads besides the cache: a log of what LiteLLM logs, and a guardrail.

Both write JSON lines to the file that ``TEST_EVENTS_FILE`` names.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

from tests.adapters.litellm.configs import FORBIDDEN

__all__ = ["Guard", "Logger", "guard", "logger"]

_PR_SET_PDEATHSIG = 1


def _write(event: str, **fields: object) -> None:
    line = json.dumps({"event": event, "pid": os.getpid(), **fields}, default=str) + "\n"
    # One write of an append-mode file: lines of several workers do not mix.
    with Path(os.environ["TEST_EVENTS_FILE"]).open("ab", buffering=0) as file:
        file.write(line.encode())


class Logger(CustomLogger):
    """Writes the standard logging payload of each call."""

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        _write("success", **(kwargs.get("standard_logging_object") or {}))

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        _write("failure", **(kwargs.get("standard_logging_object") or {}))


class Guard(CustomLogger):
    """Refuses prompts that say the forbidden words, and sees every request and answer."""

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> None:
        _write("guard-before", call_id=data.get("litellm_call_id"))
        if FORBIDDEN in json.dumps(data.get("messages"), default=str):
            raise HTTPException(400, "forbidden words")

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: Any, response: Any
    ) -> Any:
        _write("guard-after", call_id=data.get("litellm_call_id"))
        return response

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncIterator[Any]:
        _write("guard-stream", call_id=request_data.get("litellm_call_id"))
        async for chunk in response:
            yield chunk


def _tie_to_parent() -> None:
    """End a worker with the process that started it: uvicorn's outlive a killed supervisor."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


_tie_to_parent()
logger = Logger()
guard = Guard()
