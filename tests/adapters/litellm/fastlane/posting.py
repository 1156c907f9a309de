"""Requests to a proxy as plain HTTP, and whether the fast lane has answered them."""

import http.client
import json
from collections.abc import Mapping
from typing import Any

from tests.adapters.litellm.configs import MASTER_KEY
from tests.adapters.litellm.proxy import Proxy

__all__ = ["LEASE_S", "Got", "ask", "post"]

LEASE_S = 2.0
"""``auth_ttl_s`` of the tests' proxy."""


class Got:
    """A response as it came over the wire."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.count = [name.lower() for name, _ in response.getheaders()].count("x-routecache")
        self.body = response.read()

    @property
    def is_from_the_lane(self) -> bool:
        """LiteLLM names each call that it has seen."""
        return "x-litellm-call-id" not in self.headers and self.outcome == "HIT"

    @property
    def outcome(self) -> str:
        return self.headers.get("x-routecache", "")


def post(
    proxy: Proxy, path: str, body: Mapping[str, Any], *, key: str | None, method: str = "POST"
) -> Got:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    headers = {"content-type": "application/json"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    try:
        connection.request(method, path, json.dumps(body), headers)
        return Got(connection.getresponse())
    finally:
        connection.close()


def ask(proxy: Proxy, prompt: str, *, key: str | None = MASTER_KEY, **fields: Any) -> Got:
    body = {"model": "chat", "messages": [{"role": "user", "content": prompt}], **fields}
    return post(proxy, "/v1/chat/completions", body, key=key)
