"""The policy's ``decide`` is named in the proxy's file, as callbacks are."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from routecache_middleware.adapters.litellm.options import configure
from routecache_middleware.errors import ConfigurationError

RULES = """
import os

def no_news(request):
    return False if "today" in request.prompt_text else None

async def slow(request):
    return None

LIMIT = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the proxy's configuration stands, with a module beside it."""
    (tmp_path / "rules.py").write_text(RULES)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "deep.py").write_text("def fresh(request):\n    return 60.0\n")
    (tmp_path / "broken.py").write_text("raise ValueError('sk-canary')\n")
    (tmp_path / "wanting.py").write_text("import nobody_has_this\n")
    server = ModuleType("litellm.proxy.proxy_server")
    server.user_config_file_path = str(tmp_path / "config.yaml")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "litellm.proxy.proxy_server", server)
    yield tmp_path
    assert "rules" not in sys.modules


def decide_of(table: dict[str, Any] | None = None, **environ: str) -> Any:
    return configure(table, environ=environ).policy.decide


@pytest.mark.parametrize("name", ["rules:no_news", "rules.no_news"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.usefixtures("folder")
def test_a_function_beside_the_configuration_file(name: str, *, nested: bool) -> None:
    decide = decide_of({"policy": {"decide": name}} if nested else {"decide": name})
    assert decide(SimpleNamespace(prompt_text="what is new today?")) is False
    assert decide(SimpleNamespace(prompt_text="what is old?")) is None


@pytest.mark.usefixtures("folder")
def test_a_module_in_a_folder() -> None:
    assert decide_of({"decide": "kept.deep:fresh"})(None) == 60.0


def test_a_module_that_is_installed() -> None:
    """Outside the proxy, where LiteLLM has no configuration file, as well."""
    assert decide_of({"decide": "operator:not_"}) is __import__("operator").not_


@pytest.mark.usefixtures("folder")
def test_the_environment_wins_over_the_file_and_an_argument_over_both() -> None:
    table = {"decide": "rules:nobody_looks_for_this"}
    variable = {"ROUTECACHE_POLICY_DECIDE": "kept.deep:fresh"}
    assert decide_of(table, **variable)(None) == 60.0
    assert decide_of(None, **variable)(None) == 60.0
    assert configure(table, environ=variable, decide=bool).policy.decide is bool
    assert configure(table, environ=variable, decide=None).policy.decide is None


@pytest.mark.parametrize("nothing", [None, "none", "None"])
def test_nothing_named_is_nobody_asked(nothing: str | None) -> None:
    assert decide_of({"decide": nothing}) is None
    assert decide_of({}, ROUTECACHE_POLICY_DECIDE="") is None
    assert decide_of({}, ROUTECACHE_POLICY_DECIDE="none") is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rules", "package.module:function"),
        ("rules:no news", "package.module:function"),
        (":no_news", "package.module:function"),
        ("../rules:no_news", "package.module:function"),
        ("s3://bucket/rules.no_news", "package.module:function"),
        (7, "package.module:function"),
        (["rules:no_news"], "package.module:function"),
        ("rules:no_olds", "AttributeError: module 'rules' has no attribute 'no_olds'"),
        ("nobody_has_this:f", "No module named 'nobody_has_this'"),
        ("wanting:f", "No module named 'nobody_has_this'"),
        ("broken:f", "(ValueError)"),
        ("rules:LIMIT", "a plain function"),
        ("rules:slow", "a plain function"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_wrong_is_said_and_where_it_stands(name: object, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        decide_of({"decide": name})
    assert said in str(caught.value)
    assert str(caught.value).startswith("decide in callback_settings.routecache: ")
    assert "canary" not in str(caught.value)
    if isinstance(name, str):
        with pytest.raises(
            ConfigurationError, match=r"^environment variable ROUTECACHE_POLICY_DEC"
        ):
            decide_of(ROUTECACHE_POLICY_DECIDE=name)
