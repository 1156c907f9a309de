"""One request on its way to an upstream, and the answer on its way back.

What can go wrong, and what the client then gets:

* the upstream cannot be reached, or says nonsense: 502; it takes too long to begin: 504;
* all connections are in use: 503; nobody serves the model: 404;
* the upstream answers with an error: that, as it is;
* it breaks off in the middle, or falls silent: so does our answer. :class:`UpstreamBrokenError` is
  raised, so that nobody takes it for whole.

A model's fallbacks are asked when it cannot be reached, breaks off before its answer begins, or
says 429 or 5xx. No upstream is asked twice for the same.
"""

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from routecache_middleware.adapters.asgi.types import Receive, Scope, Send
from routecache_middleware.gateway.answers import Refusal, refusal_messages
from routecache_middleware.gateway.body import ClientLeftError, Incoming
from routecache_middleware.gateway.catalogue import Catalogue, Target, joined
from routecache_middleware.gateway.driver import Driver
from routecache_middleware.gateway.failures import UNREACHABLE, refused
from routecache_middleware.gateway.headers import (
    Fields,
    is_anthropic,
    request_fields,
    response_fields,
    without_credentials,
)
from routecache_middleware.gateway.question import (
    Content,
    Question,
    content_for,
    question_of,
    state_of,
)

if TYPE_CHECKING:
    import httpx

__all__ = ["Call", "UpstreamBrokenError"]

_logger = logging.getLogger("routecache")

_TOO_MANY = 429
_SERVER_ERROR = 500
_STATUSES = range(200, 600)
_WITH_BODY = frozenset({"PATCH", "POST", "PUT"})


class UpstreamBrokenError(Exception):
    """An answer broke off after its head was passed on."""


class Call:
    """Answers one request with what an upstream says."""

    def __init__(
        self,
        catalogue: Catalogue,
        driver: Driver,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        via: bytes,
        passes_credentials: bool,
    ) -> None:
        self._catalogue = catalogue
        self._driver = driver
        self._scope = scope
        self._send = send
        self._via = via
        self._passes_credentials = passes_credentials
        self._incoming = Incoming(receive)
        self._host = ""

    async def client_gone(self) -> None:
        """Return when the client has gone away, after its request was taken."""
        await self._incoming.taken.wait()
        await self._incoming.until_gone()

    async def run(self) -> None:
        """Answer.

        Raises:
            UpstreamBrokenError: The answer broke off.
        """
        try:
            question = await question_of(self._catalogue, self._scope, self._incoming)
            answer = question if isinstance(question, Refusal) else await self._ask(question)
        except ClientLeftError:
            return
        self._incoming.taken.set()  # an answer may come before the end of what it answers
        if isinstance(answer, Refusal):
            for message in refusal_messages(self._scope, answer):
                await self._send(message)
        else:
            await self._relay(answer)

    async def _ask(self, question: Question) -> "httpx.Response | Refusal":
        """Ask one upstream after the other, until one has something to say."""
        answer: httpx.Response | Refusal | None = None
        asked = ""
        for target in question.chain:
            content = await content_for(question, target, self._scope["path"])
            if isinstance(content, Refusal):
                answer = answer or content
                continue
            if answer is not None:
                await self._give_up(answer, asked, target)
            asked = self._host = target.host
            answer = await self._try(target, content)
            self._name_server(target, question)
            if not _has_failed(answer):
                break
        assert answer is not None  # noqa: S101 - a chain has a first member
        return answer

    async def _give_up(
        self, answer: "httpx.Response | Refusal", asked: str, following: Target
    ) -> None:
        """Put an answer aside for that of another model."""
        if isinstance(answer, Refusal):
            why = answer.code
        else:
            why = f"status {answer.status_code}"
            await answer.aclose()
        failed = asked or "an upstream"
        _logger.warning("%s failed (%s); asking %s instead", failed, why, following.host)

    async def _try(self, target: Target, content: Content) -> "httpx.Response | Refusal":
        httpx: Any = self._driver.httpx
        scope = self._scope
        try:
            answer = await self._driver.send(
                scope["method"], target, *self._addressed(target, content), content or None
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return refused(httpx, error, target)
        if answer.status_code in _STATUSES:
            return answer
        await answer.aclose()  # no server of ours could pass it on
        return refused(httpx, httpx.RemoteProtocolError("an odd status"), target)

    def _addressed(self, target: Target, content: Content) -> tuple[bytes, Fields]:
        """Return path and query at the upstream, and the header."""
        scope = self._scope
        headers, query = scope["headers"], scope.get("query_string", b"")
        of_anthropic = is_anthropic(scope["path"], headers)
        fields = request_fields(headers, via=self._via)
        fields += _framing(scope, content)
        fields.append((b"host", target.host.encode("ascii")))
        if target.api_key or not self._passes_credentials:
            fields, query = without_credentials(fields, query)
        if target.api_key:
            fields.append(_credential(target.api_key, of_anthropic=of_anthropic))
        raw_path = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
        path = joined(
            urlsplit(target.base_url).path, raw_path.decode("latin-1"), is_anthropic=of_anthropic
        ).encode("latin-1")
        return (path + b"?" + query if query else path), fields

    def _name_server(self, target: Target, question: Question) -> None:
        """Tell the cache above who answers, if that is not who was asked."""
        state = state_of(self._scope)
        if state is not None and question.model and target.model != question.model:
            state.served_by(target.model)

    async def _relay(self, answer: "httpx.Response") -> None:
        """Pass an answer on, each piece as it comes."""
        httpx: Any = self._driver.httpx
        try:
            headers = response_fields(answer.headers.raw)
            await self._send(
                {
                    "type": "http.response.start",
                    "status": answer.status_code,
                    "headers": headers,
                }
            )
            async for piece in answer.aiter_raw():
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        except httpx.HTTPError as error:
            kind = type(error).__name__
            raise UpstreamBrokenError(f"an answer of {self._host} broke off: {kind}") from error
        finally:
            await answer.aclose()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _framing(scope: Scope, content: Content) -> Fields:
    """Return what says where the body ends: the client's own word only where there is no other."""
    if isinstance(content, bytes):
        has_body = bool(content) or scope["method"] in _WITH_BODY
        return [(b"content-length", b"%d" % len(content))] if has_body else []
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    if len(lengths) == 1 and lengths[0].isdigit():
        return [(b"content-length", lengths[0])]
    return [(b"transfer-encoding", b"chunked")]


def _has_failed(answer: "httpx.Response | Refusal") -> bool:
    """Whether another model may do better."""
    if isinstance(answer, Refusal):
        return answer.code == UNREACHABLE
    return answer.status_code == _TOO_MANY or answer.status_code >= _SERVER_ERROR


def _credential(key: str, *, of_anthropic: bool) -> tuple[bytes, bytes]:
    if of_anthropic:
        return b"x-api-key", key.encode("ascii")
    return b"authorization", b"Bearer " + key.encode("ascii")
