"""A stand-in for the proxy's app: it authenticates, calls our callback as LiteLLM does, answers.

The real proxy takes seconds to start and shows nothing of its inside; the rules are tested here,
and that LiteLLM keeps to them in ``test_proxy.py``.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from litellm.proxy._types import UserAPIKeyAuth

from routecache_middleware import CachePolicy, RouteCache, Settings
from routecache_middleware.adapters.asgi.types import Message, Receive, Scope, Send
from routecache_middleware.adapters.litellm.fastlane.dialect import CHAT, LaneDialect
from routecache_middleware.adapters.litellm.fastlane.part import FastLanePart
from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.adapters.litellm.options import for_cache
from routecache_middleware.adapters.litellm.results.apis import api_of
from routecache_middleware.adapters.litellm.results.calls import Call, CallKey
from routecache_middleware.adapters.litellm.results.controls import read_controls
from routecache_middleware.core.models import Outcome
from routecache_middleware.core.ports import Coordinator
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.litellm.fastlane.asking import PATHS, PLAIN, answer
from tests.support.apps import json_answer
from tests.support.asgi import Pair, Response, fetch
from tests.support.chat import ask

__all__ = ["Gateway", "Lane"]

JSON: tuple[Pair, ...] = ((b"content-type", b"application/json"),)


class Gateway:
    """The app below.

    Attributes:
        keys: Key to the fields of its ``UserAPIKeyAuth``.
        asked: Bodies of the requests that were let in.
        headers: Further response headers.
        answer: What it answers; None: a completion, numbered.
        on_accepted: Called with LiteLLM's data of a request that was let in.
        call_type: What it calls every request; None: what LiteLLM would.
        gate: Requests that were let in wait for it.
        renames: What LiteLLM calls a model, by what clients call it.
        skips_hooks: It does not call the callbacks, as for a path that LiteLLM passes through.
    """

    def __init__(self, callback: Any) -> None:
        self._callback = callback
        self.keys: dict[str, dict[str, Any]] = {"alice": {}, "bob": {}}
        self.asked: list[dict[str, Any]] = []
        self.headers: list[Pair] = []
        self.answer: Iterable[Message] | None = None
        self.on_accepted: Callable[[dict[str, Any]], None] = lambda _: None
        self.gate = asyncio.Event()
        self.gate.set()
        self.renames: dict[str, str] = {}
        self.skips_hooks = False
        self.status = 200
        self.call_type: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        message = await receive()
        key = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        if key not in self.keys:
            await self._send(send, json_answer(b"{}", status=401))
            return
        body = msgspec.json.decode(message["body"])
        self.asked.append(body)
        number = len(self.asked)
        lane = next((one for one, path in PATHS.items() if path == scope["path"]), CHAT)
        model = self.renames.get(body["model"], body["model"])
        notes = {lane.metadata: {"user_api_key": key}}
        data = {**body, "model": model, "litellm_call_id": f"call-{number}", **notes}
        if not self.skips_hooks:
            principal = UserAPIKeyAuth(api_key=key, **self.keys[key])
            call_type = self.call_type or lane.call_type
            await self._callback.async_pre_call_hook(principal, None, data, call_type)
        self.on_accepted(data)
        await self.gate.wait()
        await self._send(send, self.answer or self._numbered(lane, number))

    def _numbered(self, lane: LaneDialect, number: int) -> list[Message]:
        body = msgspec.json.encode(answer(lane, f"answer {number}"))
        return json_answer(body, status=self.status, headers=[*JSON, *self.headers])

    async def _send(self, send: Send, messages: Iterable[Message]) -> None:
        for message in messages:
            await send(message)


class Lane:
    """A fast lane before a gateway.

    Attributes:
        hub: What the process has of the cache.
        part: The part under test.
        clock: Its time.
        gateway: The app below.
        app: The lane.
    """

    def __init__(
        self,
        *,
        clock: FakeClock | None = None,
        coordinator: Coordinator | None = None,
        policy: CachePolicy | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or FakeClock()
        self.cache = RouteCache(
            url=None if coordinator else "memory://",
            coordinator=coordinator,
            settings=Settings(**settings),
            policy=policy or CachePolicy(),
            clock=self.clock,
        )
        if coordinator is not None:
            self.cache.engine._fetch_now = None  # it stands for one that is far away
        self.hub = Hub(for_cache(self.cache, fast_lane=True), cache=self.cache, is_proxy=True)
        self.part = FastLanePart(self.hub)
        self.hub.callback.set_parts((self.part,))
        self.gateway = Gateway(self.hub.callback)
        self.app = self.part.around(self.gateway)

    async def ask(
        self,
        prompt: str = "hello",
        *,
        key: str = "alice",
        headers: Iterable[Pair] = (),
        **more: Any,
    ) -> Response:
        """Ask something as somebody. ``more``: fields of the body; ``scope``: of the scope."""
        scope = more.pop("scope", {})
        authorization = (b"authorization", f"Bearer {key}".encode())
        body = ask(prompt, **more)
        return await fetch(self.app, body, headers=[authorization, *headers], **scope)

    async def ask_in(
        self, lane: LaneDialect, *, key: str = "alice", headers: Iterable[Pair] = (), **more: Any
    ) -> Response:
        """Ask something in any of the APIs."""
        scope = {"path": PATHS[lane], **more.pop("scope", {})}
        authorization = (b"authorization", f"Bearer {key}".encode())
        body = msgspec.json.encode({**PLAIN[lane], **more})
        return await fetch(self.app, body, headers=[authorization, *headers], **scope)

    def knows_of_calls(self, **fields: Any) -> None:
        """Let our cache inside LiteLLM say of each call what became of it: nothing was stored."""

        def write(data: dict[str, Any]) -> None:
            found = self.hub.outcomes.of(data["litellm_call_id"])
            for name, value in {"outcome": Outcome.MISS, **fields}.items():
                setattr(found, name, value)

        self.gateway.on_accepted = write

    def misses_calls(self, *, is_cut_off: bool) -> None:
        """Let our cache inside LiteLLM miss each call; ``is_cut_off``: LiteLLM invents its end."""
        api = api_of("acompletion")
        assert api is not None

        def cut_off(data: dict[str, Any]) -> None:
            record = self.hub.outcomes.of(data["litellm_call_id"])
            record.outcome = Outcome.MISS
            position = self.cache.engine.table.position
            call = Call(api, "", read_controls(None), None, record, position=position, began_s=0.0)
            if is_cut_off:
                CallKey("", call).mark_cut_off()

        self.gateway.on_accepted = cut_off

    async def aclose(self) -> None:
        """End it."""
        assert self.hub.callback.faults == 0, "the part raised"
        await self.part.aclose()
        await self.cache.aclose()
