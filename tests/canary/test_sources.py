"""What the package's own log calls and errors interpolate, read off its source.

Planting canaries shows what was reached; this shows what could be. Each expression in a log call
has been looked at by somebody, and stands here; so has each in an error whose name sounds as if a
request, a credential or an error of somebody else's were in it. A new one fails the test until
somebody has made sure that it says nothing secret.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import routecache_middleware

ROOT = Path(routecache_middleware.__file__).parent

_LEVELS: Final = {"debug", "info", "warning", "error", "exception", "critical", "log", "warn"}
_LOGGERS: Final = re.compile(r"(self\.)?_?log(ger)?|logging|warnings")
_ALWAYS: Final = re.compile(r"type\(.+\)\.__name__|len\(.+\)")
_RISKY: Final = re.compile(
    r"\b(args|body|content|credentials?|data|environ|error|headers?|key|kwargs|messages?|password|"
    r"payload|prompt|query|request|scope|secret|tenant|text|token|url|value)\b"
)

LOGGED: Final = {
    # Our own errors, which say nothing secret.
    *(("adapters/asgi/middleware.py", "error"), ("adapters/asgi/parts.py", "error")),
    *(("adapters/litellm/decisions/part.py", "error"), ("adapters/litellm/proxy.py", "error")),
    *(("adapters/litellm/least_loaded.py", "error"), ("adapters/litellm/models/watch.py", "error")),
    *(("coordinators/guarded.py", "error"), ("coordinators/outage.py", "error")),
    *(("coordinators/outage.py", "_reason(error)"), ("engine/engine.py", "error_name(error)")),
    *(("gateway/door.py", "error"), ("wiring/prices.py", "error"), ("gateway/worker.py", "error")),
    # An error's class, and where it was raised.
    *(("adapters/asgi/parts.py", "fault(error)"), ("engine/background.py", "why")),
    *(("adapters/litellm/hooks.py", "*kind"), ("adapters/litellm/results/cache.py", "kind")),
    *(("adapters/litellm/models/watch.py", "kind"), ("adapters/litellm/decisions/part.py", "name")),
    # Words of ours, names of parts, of coordinators, and of settings.
    *(("adapters/asgi/parts.py", "what"), ("adapters/asgi/parts.py", "so")),
    *(("adapters/litellm/hub.py", "name"), ("adapters/litellm/least_loaded.py", "STRATEGY")),
    *(("adapters/litellm/proxy.py", "close[0]"), ("adapters/litellm/proxy.py", "_NAME")),
    ("adapters/litellm/results/place.py", "_WIN if self._rival is Rival.WIN else _STAND_BACK"),
    *(("adapters/litellm/results/place.py", "_HOW_TO"), ("engine/engine.py", "name")),
    ("adapters/litellm/sync/part.py", "hub.engine.coordinator.name"),
    *(("adapters/litellm/fastlane/part.py", "found"), ("admin/app.py", "self._row.path")),
    *(("admin/audit.py", "action"), ("admin/audit.py", "outcome")),
    *(("coordinators/guarded.py", "self.name"), ("coordinators/outage.py", "self._name")),
    *(("coordinators/memory.py", "workers"), ("gateway/call.py", "why")),
    # How a process ended, and its number.
    *(("gateway/supervisor.py", "why"), ("gateway/supervisor.py", "one.pid")),
    ("gateway/worker.py", "os.getpid()"),
    # A field's name; names of LiteLLM's models; which token it was; an address; an upstream's host.
    ("adapters/litellm/fastlane/part.py", "field or 'the request'"),
    ("adapters/litellm/models/part.py", "shown"),
    *(("admin/audit.py", "who or 'somebody'"), ("admin/audit.py", "client")),
    *(("gateway/call.py", "failed"), ("gateway/call.py", "following.host")),
}
"""File and expression."""

RAISED: Final = {
    # Our own errors about settings, whose secrets are masked.
    *(("adapters/litellm/named.py", "error"), ("wiring/conversion.py", "error")),
    # What the operating system says, and a package that is not there.
    *(("admin/server.py", "error.strerror"), ("gateway/clients.py", "error.strerror")),
    *(("gateway/server.py", "error.strerror"), ("wiring/config.py", "error.strerror")),
    ("cli/reaching.py", "error.name"),
    # Where a file of model names cannot be parsed.
    ("cli/warm.py", "error"),
    # Masked; options of a URL that are no secrets; a layer's name.
    *(("cli/checking.py", "address(url)"), ("coordinators/ring/factory.py", "text")),
    *(("coordinators/url.py", "value"), ("core/keys.py", "layer.value")),
}


def _files() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(ROOT.rglob("*.py")):
        yield file.relative_to(ROOT).as_posix(), ast.parse(file.read_text("utf-8"))


def logged(tree: ast.Module) -> Iterator[str]:
    """Yield the expressions in log calls, their messages included where they are no constants."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = ast.unparse(node.func.value)
        if node.func.attr not in _LEVELS or not _LOGGERS.fullmatch(owner):
            continue
        if node.func.attr == "exception":
            yield "exception()"
        for one in [*node.args, *(keyword.value for keyword in node.keywords)]:
            told = ast.unparse(one)
            if not (isinstance(one, ast.Constant) or _ALWAYS.fullmatch(told)):
                yield told


def raised(tree: ast.Module) -> Iterator[str]:
    """Yield what sounds secret of the expressions in the texts of errors that are raised."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
            continue
        for part in ast.walk(node.exc):
            if isinstance(part, ast.FormattedValue):
                told = ast.unparse(part.value)
                if _RISKY.search(told) and not _ALWAYS.fullmatch(told):
                    yield told


def test_log_calls() -> None:
    found = {(name, told) for name, tree in _files() for told in logged(tree)}
    assert found - LOGGED == set(), "may any of these hold a prompt, an answer or a credential?"
    assert LOGGED - found == set(), "these are gone; take them out of the list"


def test_texts_of_errors() -> None:
    found = {(name, told) for name, tree in _files() for told in raised(tree)}
    assert found - RAISED == set(), "may any of these hold a prompt, an answer or a credential?"
    assert RAISED - found == set(), "these are gone; take them out of the list"


def test_nothing_prints_tracebacks() -> None:
    """An error's text may quote anything, and collectors of logs show its frames' variables."""
    words = re.compile(r"exc_info|stack_info|print_exc|format_exc|excepthook|print_exception")
    found = [file for file in ROOT.rglob("*.py") if words.search(file.read_text("utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("_logger.warning('x %s', body)", ["body"]),
        ("self._log.debug('x %s', error)", ["error"]),
        ("_logger.info(f'x {payload}')", ["f'x {payload}'"]),
        ("logging.getLogger('x')", []),
        ("logger.exception('x')", ["exception()"]),
        ("_logger.error('x', exc_info=error)", ["error"]),
        ("warnings.warn(str(error))", ["str(error)"]),
        ("_logger.error('x %s %d', type(error).__name__, len(body))", []),
    ],
)
def test_a_log_call_that_says_too_much_is_found(code: str, expected: list[str]) -> None:
    assert list(logged(ast.parse(code))) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise ValueError(f'it is {request.body!r}')", ["request.body"]),
        ("raise wrong(f'{name} is {headers}', f'{secret:x}')", ["headers", "secret"]),
        ("raise E(f'{str(error)}') from error", ["str(error)"]),
        ("raise E(f'{len(body)} {type(key).__name__} {count}')", []),
        ("raise E", []),
    ],
)
def test_an_error_that_says_too_much_is_found(code: str, expected: list[str]) -> None:
    assert list(raised(ast.parse(code))) == expected
