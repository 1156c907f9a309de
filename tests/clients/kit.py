"""The client libraries, set up for one API key, to ask through the cache or past it."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
import httpx2
from anthropic import Anthropic, AsyncAnthropic
from openai import AsyncOpenAI, OpenAI

from tests.clients.scripted import Call, Script, Scripted
from tests.clients.serving import Exchange, Gateway

__all__ = ["TLS", "Kit"]

TLS = ssl.create_default_context()  # made once: it costs more than a request


class Kit:
    """Who asks, and where.

    Attributes:
        gateway: The gateway.
        key: The API key.
        retries: How often a library may try again by itself.
        timeout_s: How long it waits.
    """

    def __init__(self, gateway: Gateway, key: str, upstream: Scripted | None = None) -> None:
        self.gateway = gateway
        self.key = key
        self.retries = 0
        self.timeout_s = 30.0
        self._upstream = upstream
        self._url = gateway.url

    @property
    def url(self) -> str:
        """Where it asks, without a slash at the end."""
        return self._url

    def direct(self) -> "Kit":
        """Return one that asks the upstream itself, as if there were no cache."""
        kit = Kit(self.gateway, self.key, self._upstream)
        kit.retries, kit.timeout_s = self.retries, self.timeout_s
        kit._url = self.gateway.upstream_url
        return kit

    def script(self, script: Script) -> None:
        """Say what the upstream answers."""
        assert self._upstream is not None
        self._upstream.scripts[self.key] = script

    @property
    def calls(self) -> list[Call]:
        """What has reached the scripted upstream."""
        assert self._upstream is not None
        return self._upstream.calls.get(self.key, [])

    @property
    def exchanges(self) -> list[Exchange]:
        """What has passed the gateway."""
        return self.gateway.seen(self.key)

    @property
    def outcomes(self) -> list[str]:
        """What came of it, in order."""
        return [exchange.outcome for exchange in self.exchanges]

    @contextmanager
    def openai(self) -> Iterator[OpenAI]:
        """OpenAI's own client."""
        with OpenAI(
            api_key=self.key,
            base_url=f"{self.url}/v1",
            max_retries=self.retries,
            timeout=self.timeout_s,
            http_client=httpx.Client(verify=TLS, trust_env=False),
        ) as client:
            yield client

    @asynccontextmanager
    async def async_openai(self) -> AsyncIterator[AsyncOpenAI]:
        """OpenAI's own client, async."""
        async with AsyncOpenAI(
            api_key=self.key,
            base_url=f"{self.url}/v1",
            max_retries=self.retries,
            timeout=self.timeout_s,
            http_client=httpx.AsyncClient(verify=TLS, trust_env=False),
        ) as client:
            yield client

    @contextmanager
    def anthropic(self) -> Iterator[Anthropic]:
        """Anthropic's own client."""
        with Anthropic(
            api_key=self.key,
            base_url=self.url,
            max_retries=self.retries,
            timeout=self.timeout_s,
            http_client=httpx2.Client(verify=TLS, trust_env=False),
        ) as client:
            yield client

    @asynccontextmanager
    async def async_anthropic(self) -> AsyncIterator[AsyncAnthropic]:
        """Anthropic's own client, async."""
        async with AsyncAnthropic(
            api_key=self.key,
            base_url=self.url,
            max_retries=self.retries,
            timeout=self.timeout_s,
            http_client=httpx2.AsyncClient(verify=TLS, trust_env=False),
        ) as client:
            yield client
