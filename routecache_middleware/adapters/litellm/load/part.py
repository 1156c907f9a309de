"""Load and metadata of what LiteLLM calls.

Each provider call counts under two names: the id of its deployment (``model_info.id``) and the name
of its group, which is what clients ask for (``model_name`` in the configuration; for a wildcard
such as ``openai/*`` the name that was asked for). So ``cache.get_load_metrics("gpt-4o")`` is the
load of all deployments of that group, over all processes that share the coordinator. Without a
Router it is the model's name at the provider. Answers from the cache are no load.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from cachetools import LRUCache

from routecache_middleware.adapters.litellm.least_loaded import (
    SharedLoad,
    install_strategy,
    uninstall_strategy,
)
from routecache_middleware.adapters.litellm.load.calls import OpenCalls
from routecache_middleware.adapters.litellm.load.capabilities import capabilities, common
from routecache_middleware.adapters.litellm.part import Kwargs, Part
from routecache_middleware.engine.publishing import LoadPublisher

if TYPE_CHECKING:
    from routecache_middleware.adapters.litellm.hub import Hub

__all__ = ["LoadPart", "create"]

_MAX_KNOWN = 1024  # deployments and groups
_REFRESH_SHARE = 0.8  # of their lifetime; after that metadata is written anew
_CLIENT_ERRORS = range(400, 500)
# Those of them that say something of the deployment: LiteLLM lets it cool down for them, too.
_ITS_FAULT = frozenset({401, 403, 404, 408, 429})
_UPSTREAM_NOT_CALLED = "litellm_no_upstream_llm_call"


class _Deployment(msgspec.Struct):
    """What a call has shown of its deployment.

    Attributes:
        written_s: When its metadata was written, on the monotonic clock; 0: not yet.
    """

    id: str
    group: str
    model: str
    provider: str
    configured: Mapping[str, object]
    written_s: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        named = (self.id, self.group or ("" if self.id else self.model))
        return tuple(dict.fromkeys(name for name in named if name))


class LoadPart(Part):
    """Measures every call of a provider.

    Attributes:
        calls: What is under way in this process.
        shared: What is under way in all of them, for choosing between deployments.
    """

    def __init__(self, hub: "Hub") -> None:
        """Build it for a process; nothing runs before the first call."""
        self._hub = hub
        self._engine = hub.engine
        self.calls = OpenCalls(hub.engine.load, hub.engine.clock)
        self.shared = SharedLoad(hub.engine)
        self._publisher = LoadPublisher(
            hub.engine, settle=self.calls.settle, prepare=self._write_metadata
        )
        self._seen: LRUCache[str, _Deployment] = LRUCache(_MAX_KNOWN)
        self._loop: asyncio.AbstractEventLoop | None = None

    def install(self) -> None:
        """Offer the routing strategy that goes by it."""
        install_strategy(self.shared)

    def uninstall(self) -> None:
        """Forget what is open: nothing will say any more how it ends."""
        uninstall_strategy()
        self.calls.clear()

    async def aclose(self) -> None:
        """Publish the last figures."""
        with suppress(Exception):  # the coordinator may be gone
            await self._publisher.aclose()

    async def before_call(self, kwargs: Kwargs, call_type: str) -> None:
        """An async call is about to begin: this event loop is one that lasts."""
        self._loop = asyncio.get_running_loop()

    def calling(self, kwargs: Kwargs) -> None:
        """A call begins."""
        if kwargs.get(_UPSTREAM_NOT_CALLED):
            return
        deployment = _deployment(kwargs)
        names = deployment.names
        if not names:
            return
        key = "\n".join(names)
        seen = self._seen.get(key)
        if seen is None or seen.configured != deployment.configured:
            self._seen[key] = deployment
        self.calls.begin(kwargs, names, is_stream=_is_stream(kwargs))
        self._watch()

    def answered(self, kwargs: Kwargs) -> None:
        """An answer is complete."""
        self._loop = asyncio.get_running_loop()
        record = _record(kwargs)
        if record is not None and not _is_stream(kwargs):
            self.calls.end(record)

    def after_failure(self, kwargs: Kwargs, error: BaseException) -> None:
        """An attempt has failed."""
        record = _record(kwargs)
        if record is not None:
            self.calls.end(record, is_failure=_is_its_fault(error))

    async def succeeded(self, kwargs: Kwargs, response: object, duration_s: float) -> None:
        """A stream was read to its end, or an answer was complete a while ago."""
        self._loop = asyncio.get_running_loop()
        self.calls.end(kwargs, within_s=duration_s)

    async def failed(self, kwargs: Kwargs, duration_s: float) -> None:
        """A stream broke, or a call has failed a while ago."""
        self.calls.end(kwargs, within_s=duration_s, is_failure=_is_its_fault(_error(kwargs)))

    def succeeded_now(self, kwargs: Kwargs, duration_s: float) -> None:
        """A call that is not async is over."""
        self.calls.end(kwargs, within_s=duration_s)

    def failed_now(self, kwargs: Kwargs) -> None:
        """A call that is not async has failed."""
        self.calls.end(kwargs, is_failure=_is_its_fault(_error(kwargs)))

    def models_changed(self) -> None:
        """Write metadata anew with the next call: the models were configured differently."""
        self._seen.clear()

    def _watch(self) -> None:
        """Publish in the loop of the async calls.

        LiteLLM calls some providers from threads, and makes the calls of a sync Router in a loop
        that is gone when the call is over.
        """
        loop = self._loop
        if loop is None:
            return
        with suppress(RuntimeError):  # the loop is closed, or none is running here
            if asyncio.get_running_loop() is loop:
                self._publisher.watch()
                return
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._publisher.watch)

    async def _write_metadata(self) -> None:
        now_s = self._engine.clock.monotonic_s()
        life_s = self._engine.settings.metadata_ttl_s * _REFRESH_SHARE
        if life_s <= 0:
            return
        for one in list(self._seen.values()):
            if one.written_s and now_s - one.written_s < life_s:
                continue
            one.written_s = now_s
            if one.id:
                await self._store(one.id, self._described(one))
            if one.names[-1] != one.id:
                alike = [each for each in list(self._seen.values()) if each.group == one.group]
                described = common(map(self._described, alike or [one]))
                await self._store(one.names[-1], described)

    async def _store(self, name: str, described: Mapping[str, object]) -> None:
        load = self._engine.load.metrics(name)
        in_flight, average_ms = (0, 0.0) if load is None else (load.in_flight, 0.0)
        if load is not None:
            average_ms = load.avg_response_time_ms
        await self._hub.cache.cache_model_metadata(name, described, in_flight, average_ms)

    @staticmethod
    def _described(one: _Deployment) -> dict[str, object]:
        import litellm

        return capabilities(one.model, one.provider, litellm.model_cost, one.configured)


def create(hub: "Hub") -> LoadPart | None:
    """Return the part, unless it is turned off."""
    return LoadPart(hub) if hub.options.report_load else None


def _deployment(kwargs: Kwargs) -> _Deployment:
    params = kwargs.get("litellm_params") or {}
    metadata: Any = params.get("metadata") or params.get("litellm_metadata") or {}
    info: Any = params.get("model_info") or metadata.get("model_info") or {}
    group, asked = metadata.get("deployment_model_name"), metadata.get("model_group")
    if not group or "*" in str(group):
        group = asked
    return _Deployment(
        id=str(info.get("id") or ""),
        group=str(group or ""),
        model=str(kwargs.get("model") or ""),
        provider=str(params.get("custom_llm_provider") or kwargs.get("custom_llm_provider") or ""),
        configured=dict(info),
    )


def _record(kwargs: Kwargs) -> Kwargs | None:
    """Return LiteLLM's record of a call, from the arguments of the call."""
    record = getattr(kwargs.get("litellm_logging_obj"), "model_call_details", None)
    return record if isinstance(record, dict) else None


def _is_stream(kwargs: Kwargs) -> bool:
    params = kwargs.get("optional_params")
    return bool(kwargs.get("stream") or (isinstance(params, dict) and params.get("stream")))


def _error(kwargs: Kwargs) -> object:
    return kwargs.get("exception")


def _is_its_fault(error: object) -> bool:
    """Whether an error says something of the deployment, not only of the request."""
    status = getattr(error, "status_code", None)
    return status not in _CLIENT_ERRORS or status in _ITS_FAULT
