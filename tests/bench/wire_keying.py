"""What it costs to read and key a request, and for how long that keeps the event loop from others.

A thread that is in one long call into C blocks the loop as well, so the loop itself is watched.
"""

import asyncio
import json
import time
from itertools import count
from typing import TYPE_CHECKING

from routecache_middleware import CachePolicy, Settings
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.core.fingerprint import KeyContext
from routecache_middleware.core.models import BypassReason
from routecache_middleware.dialects.table import DIALECTS, load
from routecache_middleware.engine.identify import Identifier

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["blocked_ms", "keying_us"]

_CALLS = 10
_SIZE = 20_480
_MEGABYTE = 1_048_576
_TICK_S = 0.001
_WORDS = "why does the cache answer so fast, and how do we know that it is right? "
_HEADERS = ((b"openai-organization", b"org"),)


def keying_us(rounds: int) -> dict[str, tuple[float, float]]:
    """Return microseconds per request by dialect: at first sight, and seen before.

    Of the best of ``10 * rounds`` batches: other load on the machine can only make a batch slower.
    """
    return {name: asyncio.run(_keying_us(load(name), rounds)) for name in DIALECTS}


async def _keying_us(dialect: Dialect, rounds: int) -> tuple[float, float]:
    context = _context(dialect)
    numbers = count()
    first: list[float] = []
    again: list[float] = []
    for _ in range(10 * rounds):
        bodies = [_body(dialect.name, _SIZE, next(numbers)) for _ in range(_CALLS)]
        identifier = _identifier()
        for figures in (first, again):
            bodies = [bytes(bytearray(body)) for body in bodies]  # equal, and as new as a request's
            began_s = time.perf_counter()
            for body in bodies:
                found = await identifier.identify(dialect, context, body)
                if isinstance(found, BypassReason):
                    raise TypeError(f"{dialect.name} does not take its own request: {found}")
            figures.append((time.perf_counter() - began_s) / _CALLS * 1e6)
    return min(first), min(again)


async def blocked_ms(rounds: int) -> dict[str, float]:
    """Return for how many milliseconds the loop stood still at the longest, by kind of request.

    Of the best of the rounds, each of which tells its worst moment: what other processes do to
    what should run every millisecond is seen in the figure for nothing at all.
    """
    chat = load("openai.chat")
    bodies: dict[str, Callable[[int], bytes]] = {
        "1 MB, one message": lambda number: _chat(number, 1, _MEGABYTE),
        "1 MB, 20 KB messages": lambda number: _chat(number, 51, 20_480),
        "1 MB, 8,000 messages": lambda number: _chat(number, 8_000, 90),
        "1 MB, 250,000 numbers": lambda number: _numbers(number, 250_000),
    }
    found = {"nothing is done for 50 ms": min([await _longest(None) for _ in range(rounds)])}
    for shape, body in bodies.items():
        each = []
        for number in range(rounds):
            identifier, context, raw = _identifier(), _context(chat), body(number)
            each.append(await _longest((identifier, chat, context, raw)))
        found[shape] = min(each)
    return found


async def _longest(work: tuple[Identifier, Dialect, KeyContext, bytes] | None) -> float:
    """Return the longest time beyond a tick between two of them, milliseconds."""
    ticker = _Ticker()
    await asyncio.sleep(5 * _TICK_S)
    if work is None:
        await asyncio.sleep(50 * _TICK_S)
    else:
        identifier, dialect, context, body = work
        found = await identifier.identify(dialect, context, body)
        if isinstance(found, BypassReason):
            raise TypeError(f"the request is bypassed: {found}")
    await asyncio.sleep(2 * _TICK_S)
    return ticker.stop()


class _Ticker:
    """Runs on the loop every millisecond.

    A callback, not a task: a task that sleeps is resumed an iteration after its timer, and every
    iteration waits for the interpreter lock anew, up to 5 ms while a thread computes.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._longest_s = 0.0
        self._last_s = time.perf_counter()
        self._handle = self._loop.call_later(_TICK_S, self._tick)

    def stop(self) -> float:
        """Return the longest time beyond a tick between two of them, milliseconds."""
        self._handle.cancel()
        return self._longest_s * 1e3

    def _tick(self) -> None:
        now_s = time.perf_counter()
        self._longest_s = max(self._longest_s, now_s - self._last_s - _TICK_S)
        self._last_s = now_s
        self._handle = self._loop.call_later(_TICK_S, self._tick)


def _identifier() -> Identifier:
    return Identifier(Settings(memo_bytes=1 << 26), CachePolicy())


def _context(dialect: Dialect) -> KeyContext:
    is_gemini = dialect.name == "gemini"
    model, form = ("m", "json") if is_gemini else ("", "")
    return KeyContext(dialect.name, "", "/v1/x", b"", _HEADERS, model=model, form=form)


def _text(size: int, number: int) -> str:
    return f"{number:06} {_WORDS * (size // len(_WORDS) + 1)}"[:size]


def _chat(number: int, messages: int, size: int) -> bytes:
    turns = [{"role": "user", "content": _text(size - 50, number)} for _ in range(messages)]
    return json.dumps({"model": "m", "temperature": 0.5, "messages": turns}).encode()


def _numbers(number: int, values: int) -> bytes:
    schema = {
        "type": "json_schema",
        "json_schema": {"enum": [100 + n % 899 for n in range(values)]},
    }
    payload = json.loads(_chat(number, 1, 200))
    return json.dumps(payload | {"response_format": schema}, separators=(",", ":")).encode()


def _body(dialect: str, size: int, number: int) -> bytes:
    """Return a request of about ``size`` bytes in twenty parts."""
    texts = [_text(size // 20 - 50, number) for _ in range(20)]
    messages = [{"role": "user", "content": text} for text in texts]
    members: dict[str, dict[str, object]] = {
        "openai.completions": {"prompt": texts},
        "openai.embeddings": {"input": texts},
        "openai.responses": {"input": messages, "store": False},
        "rerank": {"query": "why?", "documents": texts},
        "gemini": {
            "contents": [{"role": "user", "parts": [{"text": text}]} for text in texts],
            "generationConfig": {"temperature": 0.5},
        },
    }
    chat: dict[str, object] = {"messages": messages, "temperature": 0.5, "max_tokens": 256}
    return json.dumps({"model": "m", **members.get(dialect, chat)}).encode()
