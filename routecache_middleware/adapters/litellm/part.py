"""Part: one thing that the cache does inside LiteLLM; hooks hand each event to those who want it.

A part overrides the events that it needs; the others cost nothing. Whatever one raises is caught,
counted and logged once by :mod:`.hooks`: our hooks never fail a request.
"""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Deployment", "Kwargs", "Part"]

Kwargs = dict[str, Any]
"""The keyword arguments of one LiteLLM call: prompts and credentials, never to be logged."""

Deployment = dict[str, Any]
"""A deployment as LiteLLM's Router keeps it: ``model_name``, ``litellm_params``, ``model_info``."""


class Part:
    """Does nothing; base of the parts."""

    def install(self) -> None:
        """Put it in place: patches, registrations. Undone by :meth:`uninstall`."""

    def uninstall(self) -> None:
        """Take it out again; idempotent."""

    async def aclose(self) -> None:
        """Finish what is under way, in the event loop that served requests."""

    async def before_request(self, principal: Any, data: Kwargs, call_type: str) -> None:
        """Proxy only: after authentication, before routing. ``principal``: ``UserAPIKeyAuth``."""

    async def before_call(self, kwargs: Kwargs, call_type: str) -> None:
        """Async calls: before LiteLLM's cache is asked, per attempt. ``kwargs`` may be changed."""

    def calling(self, kwargs: Kwargs) -> None:
        """Every call: the provider is about to be called, per attempt, in any thread; no hits.

        ``kwargs``: LiteLLM's record of the call, which the log events are given as well.
        """

    def answered(self, kwargs: Kwargs) -> None:
        """Async calls: the provider has answered, per attempt; neither hits nor streams."""

    def after_failure(self, kwargs: Kwargs, error: BaseException) -> None:
        """Async calls: the provider failed, per attempt."""

    def filter_deployments(
        self, group: str, healthy: Sequence[Deployment], request_kwargs: Kwargs
    ) -> Sequence[Deployment]:
        """Router: narrow down a group's healthy deployments. ``messages`` are in the kwargs."""
        return healthy

    def headers(self, data: Kwargs, response: object) -> Mapping[str, str]:
        """Proxy only: further response headers."""
        return {}

    async def succeeded(self, kwargs: Kwargs, response: object, duration_s: float) -> None:
        """After a call, hits included (``kwargs["cache_hit"]``), outside the request."""

    async def failed(self, kwargs: Kwargs, duration_s: float) -> None:
        """After a failed call, outside the request."""

    def succeeded_now(self, kwargs: Kwargs, duration_s: float) -> None:
        """After a call that is not async, hits included, in a thread of LiteLLM's."""

    def failed_now(self, kwargs: Kwargs) -> None:
        """After a failed call that is not async, in the caller's thread, before it learns of it."""

    def models_changed(self) -> None:
        """Router: what some names stand for has changed; in any thread."""
