"""The command line: what it offers, and what it says when something is missing."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from routecache_middleware.cli import litellm_proxy as module
from routecache_middleware.cli.commands import COMMANDS, routecache

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(routecache, arguments, env={"CONFIG_FILE_PATH": None})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text("model_list: []\n", encoding="utf-8")
    return file


def process(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    start = code + "from routecache_middleware.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", start, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_help_lists_every_command_and_loads_none() -> None:
    code = (
        "import atexit, sys; atexit.register(lambda: print("
        "'LOADED', [n for n in sys.modules if n.endswith('litellm_proxy') or n == 'litellm']));"
    )
    done = process("--help", code=code)
    assert done.returncode == 0
    for name, row in COMMANDS.items():
        assert name in done.stdout
        assert row.summary in done.stdout
    assert "LOADED []" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_in_the_table_is_there_and_explains_itself(name: str) -> None:
    done = run(name, "--help")
    assert done.exit_code == 0
    assert "Usage:" in done.output


def test_the_version_is_the_packages() -> None:
    assert run("--version").exit_code == 0


def test_a_command_that_does_not_exist_is_wrong_usage() -> None:
    done = run("nothing")
    assert done.exit_code == 2
    assert "nothing" in done.output


def test_without_click_the_remedy_is_said() -> None:
    code = (
        "import importlib.util as u; found = u.find_spec;"
        "u.find_spec = lambda name: None if name == 'click' else found(name);"
    )
    done = process(code=code)
    assert done.returncode == 1
    assert "routecache-middleware[cli]" in done.stderr


def test_a_configuration_file_has_to_be_named_and_to_exist(tmp_path: Path) -> None:
    assert run("litellm").exit_code == 2
    done = run("litellm", "--config", str(tmp_path / "missing.yaml"))
    assert done.exit_code == 2
    assert "does not exist" in done.output


@pytest.mark.parametrize(
    ("missing", "word"), [("litellm", "routecache-middleware[litellm]"), ("orjson", "orjson")]
)
def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, config: Path, missing: str, word: str
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda n: None if n == missing else find_spec(n))
    done = run("litellm", "--config", str(config))
    assert done.exit_code == 1
    assert word in done.output


def test_the_proxy_is_served_as_asked(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    served: dict[str, Any] = {}
    monkeypatch.setattr("uvicorn.run", lambda app, **options: served.update(options, app=app))
    for name in ("CONFIG_FILE_PATH", "ROUTECACHE_LITELLM_FAST_LANE"):
        monkeypatch.setenv(name, "before")  # so that it is put back
    options = ["--host", "127.0.0.1", "--port", "4001", "--num_workers", "3", "--fast-lane"]
    done = CliRunner().invoke(routecache, ["litellm", "--config", str(config), *options])
    assert done.exit_code == 0, done.output
    assert (served["host"], served["port"], served["workers"]) == ("127.0.0.1", 4001, 3)
    assert (served["factory"], served["access_log"]) == (True, False)
    assert served["app"].endswith("entry:create_app")
    assert _logged(served["log_config"]).endswith('"POST /v1/chat?... HTTP/1.1" 200 OK\n')
    import os  # noqa: PLC0415 - what the workers get

    assert os.environ["CONFIG_FILE_PATH"] == str(config)
    assert os.environ["ROUTECACHE_LITELLM_FAST_LANE"] == "true"


def test_every_command_is_in_the_readme_and_answers_in_json_if_asked() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in COMMANDS:
        assert f"routecache {name}" in readme or f"`{name}`" in readme
        help_text = run(name, "--help").output
        assert "Exit codes:" in help_text
        if name not in {"admin", "gateway", "invalidate", "litellm"}:
            assert "--json" in help_text


def _logged(config: dict[str, Any]) -> str:
    """Return the line that a process so configured writes for a request with a key in its query."""
    code = (
        "import logging, logging.config, sys; logging.config.dictConfig(eval(sys.argv[1]));"
        "logging.getLogger('uvicorn.access').info('%s - \"%s %s HTTP/%s\" %d',"
        " '127.0.0.1:1', 'POST', '/v1/chat?key=canary', '1.1', 200)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, repr(config)], capture_output=True, text=True, check=True
    ).stdout


def _options() -> list[tuple[str, click.Parameter]]:
    context = click.Context(routecache)
    found: list[tuple[str, click.Parameter]] = []
    for name in COMMANDS:
        command = routecache.get_command(context, name)
        assert command is not None
        members = [command]
        if isinstance(command, click.Group):
            members += command.commands.values()
        found += [(name, one) for member in members for one in member.params]
    return found


def test_every_option_says_what_it_is_and_no_summary_is_cut() -> None:
    for name, option in _options():
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.opts}"
    assert "..." not in run("invalidate", "--help").output.partition("Commands:")[2]
    assert "by default the store in ROUTECACHE_URL" in " ".join(run("--help").output.split())


@pytest.mark.parametrize("kind", ["model", "tenant", "tag", "query", "layer", "all"])
def test_every_kind_of_invalidation_has_the_same_options(kind: str) -> None:
    help_text = run("invalidate", kind, "--help").output
    for option in ("--yes", "--url", "--config", "--json", "--older-than"):
        assert option in help_text
