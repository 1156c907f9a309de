"""The fleet from outside: what its clients and its operator ask of the gateways."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Self

import httpx

from examples.fleet.report import Answer
from examples.quickstart_report import server_timing_ms

CALL_TIMEOUT_S = 60.0
SETTLE_S = 0.3  # an answer is stored after it was sent


class Fleet:
    """Its gateways, counted from 1.

    Args:
        urls: Where they are.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        # Any key will do: to the cache, it is who is asking, and nobody else sees these answers.
        headers = {"authorization": "Bearer fleet-tour"}
        limits = httpx.Limits(max_connections=None)
        self._gateways = [
            httpx.AsyncClient(
                base_url=url,
                headers=headers,
                timeout=CALL_TIMEOUT_S,
                limits=limits,
                trust_env=False,
            )
            for url in urls
        ]

    @property
    def numbers(self) -> range:
        """The numbers of the gateways."""
        return range(1, len(self._gateways) + 1)

    async def ask(self, gateway: int, prompt: str, *, only_if_cached: bool = False) -> Answer:
        """Ask a gateway; whatever goes wrong is an answer with another status."""
        headers = {"cache-control": "only-if-cached"} if only_if_cached else {}
        body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
        began_s = time.perf_counter()
        try:
            got = await self._gateways[gateway - 1].post(
                "/v1/chat/completions", json=body, headers=headers
            )
        except httpx.HTTPError as error:
            took_ms = (time.perf_counter() - began_s) * 1000
            return Answer(
                status=0, outcome=type(error).__name__, gateway_ms=None, client_ms=took_ms
            )
        text = got.json()["choices"][0]["message"]["content"] if got.is_success else got.text
        return Answer(
            status=got.status_code,
            outcome=got.headers.get("x-routecache", f"status {got.status_code}"),
            gateway_ms=server_timing_ms(got.headers.get("server-timing", "")),
            client_ms=(time.perf_counter() - began_s) * 1000,
            text=text,
        )

    async def model_calls(self) -> int:
        """How many requests have reached the model, from all gateways; waits for them to settle."""
        await asyncio.sleep(SETTLE_S)
        found = [await self._get(number, "/upstream-calls") for number in self.numbers]
        return sum(one["upstream_calls"] for one in found)

    async def invalidate(self, gateway: int, model: str) -> None:
        """Let a gateway invalidate a model."""
        (await self._gateways[gateway - 1].post(f"/invalidate/{model}")).raise_for_status()

    async def cluster_stats(self, gateway: int) -> dict[str, Any]:
        """``RouteCache.cluster_stats()`` of a gateway."""
        return await self._get(gateway, "/cluster")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for gateway in self._gateways:
            await gateway.aclose()

    async def _get(self, gateway: int, path: str) -> dict[str, Any]:
        got = await self._gateways[gateway - 1].get(path)
        got.raise_for_status()
        found: dict[str, Any] = got.json()
        return found
