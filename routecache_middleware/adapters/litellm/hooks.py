"""The callback that LiteLLM knows: it hands each event to the parts that want it, and never raises.

LiteLLM looks some hooks up in the class itself (``vars(type(callback))``), so all of them stand
here, on the one concrete class. A subclass that does not repeat them is never called.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from routecache_middleware.adapters.litellm.part import Deployment, Kwargs, Part

__all__ = ["RouteCacheCallback"]

_logger = logging.getLogger("routecache")


class RouteCacheCallback(CustomLogger):
    """LiteLLM's view of the cache. It has no parts, and does nothing, until they are set.

    Attributes:
        faults: How many times a part raised; each kind is logged once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.faults = 0
        self._told: set[tuple[str, str]] = set()
        self.set_parts(())

    def set_parts(self, parts: Sequence[Part]) -> None:
        """Hand events to these from now on."""
        self._before_request = _who("before_request", parts)
        self._before_call = _who("before_call", parts)
        self._calling = _who("calling", parts)
        self._answered = _who("answered", parts)
        self._after_failure = _who("after_failure", parts)
        self._filter = _who("filter_deployments", parts)
        self._headers = _who("headers", parts)
        self._succeeded = _who("succeeded", parts)
        self._failed = _who("failed", parts)
        self._succeeded_now = _who("succeeded_now", parts)
        self._failed_now = _who("failed_now", parts)

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: Kwargs, call_type: str
    ) -> None:
        """Proxy: after authentication."""
        for part in self._before_request:
            try:
                await part.before_request(user_api_key_dict, data, call_type)
            except Exception as error:  # noqa: BLE001 - a fault of ours must not fail the request
                self._fault(part, error)

    async def async_pre_call_deployment_hook(self, kwargs: Kwargs, call_type: Any) -> Kwargs | None:
        """Before each attempt; the only place that may change what LiteLLM's cache is asked."""
        if not self._before_call:
            return None
        changed = dict(kwargs)
        kind = str(getattr(call_type, "value", call_type))
        for part in self._before_call:
            try:
                await part.before_call(changed, kind)
            except Exception as error:  # noqa: BLE001 - as above
                self._fault(part, error)
        return changed

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Kwargs) -> None:
        """Before each call of a provider, async or not, in any thread."""
        for part in self._calling:
            try:
                part.calling(kwargs)
            except Exception as error:  # noqa: BLE001 - as above
                self._fault(part, error)

    async def async_post_call_success_deployment_hook(
        self, request_data: Kwargs, response: Any, call_type: Any
    ) -> None:
        """After each answer that is no stream."""
        for part in self._answered:
            try:
                part.answered(request_data)
            except Exception as error:  # noqa: BLE001 - as above
                self._fault(part, error)

    async def async_post_call_failure_deployment_hook(
        self,
        request_data: Kwargs,
        exception: BaseException,
        call_type: Any,
        fallback_depth: int | None = None,
    ) -> None:
        """After each failed attempt."""
        for part in self._after_failure:
            try:
                part.after_failure(request_data, exception)
            except Exception as error:  # noqa: BLE001 - as above
                self._fault(part, error)

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Deployment],
        messages: Any,
        request_kwargs: Kwargs | None = None,
        parent_otel_span: Any = None,
    ) -> list[Deployment]:
        """Router: before it picks a deployment."""
        left: Sequence[Deployment] = healthy_deployments
        asked = {"messages": messages, **(request_kwargs or {})}
        for part in self._filter:
            try:
                left = part.filter_deployments(model, left, asked) or left
            except Exception as error:  # noqa: BLE001 - as above
                self._fault(part, error)
        return list(left)

    async def async_post_call_response_headers_hook(
        self,
        data: Kwargs,
        user_api_key_dict: Any,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: Any = None,
    ) -> dict[str, str]:
        """Proxy: before the response begins, on failures too."""
        headers: dict[str, str] = {}
        for part in self._headers:
            try:
                headers.update(part.headers(data, response))
            except Exception as error:  # noqa: BLE001 - as above
                self._fault(part, error)
        return headers

    async def async_log_success_event(
        self, kwargs: Kwargs, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """After an async call."""
        for part in self._succeeded:
            try:
                await part.succeeded(kwargs, response_obj, _seconds(start_time, end_time))
            except Exception as error:  # noqa: BLE001 - as above
                self._fault(part, error)

    async def async_log_failure_event(
        self, kwargs: Kwargs, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """After a failed async call."""
        for part in self._failed:
            try:
                await part.failed(kwargs, _seconds(start_time, end_time))
            except Exception as error:  # noqa: BLE001 - as above
                self._fault(part, error)

    def log_success_event(
        self, kwargs: Kwargs, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """After a call that is not async, in a thread of LiteLLM's."""
        for part in self._succeeded_now:
            try:
                part.succeeded_now(kwargs, _seconds(start_time, end_time))
            except Exception as error:  # noqa: BLE001 - as above
                self._fault(part, error)

    def log_failure_event(
        self, kwargs: Kwargs, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """After a failed call that is not async, in its own thread."""
        for part in self._failed_now:
            try:
                part.failed_now(kwargs)
            except Exception as error:  # noqa: BLE001 - as above
                self._fault(part, error)

    def _fault(self, part: Part, error: Exception) -> None:
        self.faults += 1
        kind = (type(part).__name__, type(error).__name__)
        if kind not in self._told:  # the text may quote a prompt: its type has to do
            self._told.add(kind)
            _logger.warning("%s raised %s inside LiteLLM; calls go on without it", *kind)


def _who(event: str, parts: Sequence[Part]) -> tuple[Any, ...]:
    """Those of the parts that override an event."""
    return tuple(part for part in parts if getattr(type(part), event) is not getattr(Part, event))


def _seconds(start: object, end: object) -> float:
    if isinstance(start, datetime) and isinstance(end, datetime):
        return max(0.0, (end - start).total_seconds())
    if isinstance(start, int | float) and isinstance(end, int | float):
        return max(0.0, float(end - start))
    return 0.0
