"""What the guides name exists: links, files, commands with their options, metrics, settings."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import click
import pytest

from routecache_middleware import CachePolicy, Settings
from routecache_middleware.cli.commands import COMMANDS, routecache
from routecache_middleware.core.metrics import METRICS, Kind
from routecache_middleware.telemetry import names
from tests.support.child import ROOT

GITHUB = ROOT / ".github"
GUIDES = [
    ROOT / "README.md",
    GITHUB / "ARCHITECTURE.md",
    GITHUB / "CONTRIBUTING.md",
    GITHUB / "SECURITY.md",
    ROOT / "examples" / "monitoring" / "README.md",
    ROOT / "examples" / "monitoring" / "runbook.md",
    ROOT / "examples" / "tracing" / "README.md",
]
each_guide = pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))


@cache
def text_of(path: Path) -> str:
    return path.read_text("utf-8")


def prose(path: Path) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text_of(path), flags=re.DOTALL | re.MULTILINE)


def blocks(path: Path, language: str) -> Iterator[str]:
    pattern = rf"^( *)```{language}\n(.*?)^ *```"
    for _, block in re.findall(pattern, text_of(path), flags=re.DOTALL | re.MULTILINE):
        yield block


def spans(path: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(path))


def anchors(path: Path) -> set[str]:
    """Return the anchors that a forge makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@each_guide
def test_every_link_leads_somewhere(guide: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(guide))
    assert links
    for link in links:
        if link.startswith("https://"):
            continue
        place, _, anchor = link.partition("#")
        target = (guide.parent / place).resolve() if place else guide
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_leads_to_every_guide() -> None:
    reached = {
        (guide.parent / link.partition("#")[0]).resolve()
        for guide in (ROOT / "README.md", ROOT / "examples" / "monitoring" / "README.md")
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(guide))
        if "://" not in link
    }
    assert set(GUIDES[1:]) <= reached


@each_guide
def test_every_file_that_is_named_exists(guide: Path) -> None:
    paths = (
        re.match(r"(?:sh |python )?((?:routecache_middleware|tests|examples)/[\w./*-]*)", span)
        for span in spans(guide)
    )
    for path in filter(None, paths):
        assert list(ROOT.glob(path[1].rstrip("/"))), path[1]
    for module in re.findall(r"python -m ((?:tests|examples)[\w.]+)", text_of(guide)):
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module


def commands(guide: Path) -> Iterator[list[str]]:
    """Return the words of every use of our command, without its name."""
    said = [line for block in blocks(guide, "sh") for line in block.splitlines()]
    for line in (*said, *spans(guide)):
        before_comment = line.partition("   #")[0].strip()
        if re.match(r"routecache( |$)", before_comment):
            yield re.split(r"[ ,]*\.\.\.", before_comment)[0].split()[1:]


def resolved(words: list[str]) -> click.Command:
    """Return the command that the words name, and check their options."""
    context = click.Context(routecache)
    command: click.Command = routecache
    options: list[str] = []
    for word in words:
        name = word.strip("[]\"'")
        if name.startswith("-"):
            options.append(name)
        elif isinstance(command, click.Group) and not options:
            found = command.get_command(context, name.split("\\|")[0])
            assert found is not None, words
            command = found
    known = {
        option
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert set(options) <= known | {"--help", "--version"}, words
    return command


@each_guide
def test_every_command_that_is_named_exists_with_its_options(guide: Path) -> None:
    for words in commands(guide):
        if words:
            resolved(words)


def test_the_check_of_commands_can_fail() -> None:
    assert resolved(["invalidate", "model", "M", "--yes"]).name == "model"
    with pytest.raises(AssertionError):
        resolved(["stats", "--no-such-option"])
    with pytest.raises(AssertionError):
        resolved(["no-such-command"])
    named = {words[0] for guide in GUIDES for words in commands(guide) if words}
    assert named - {"--version"} == set(COMMANDS), "all are named somewhere"


def metric_names() -> set[str]:
    names = set()
    for metric in METRICS:
        names.add(metric.prometheus)
        if metric.kind is Kind.HISTOGRAM:
            names |= {f"{metric.prometheus}_{part}" for part in ("bucket", "sum", "count")}
    return names


@each_guide
def test_every_metric_that_is_named_exists(guide: Path) -> None:
    attributes = {name.replace(".", "_") for metric in METRICS for name in metric.attributes}
    ours = {path.stem for path in ROOT.glob("*") if path.name.startswith("routecache")}
    for name in re.findall(r"\broutecache_[a-z_]+\b", text_of(guide)):
        assert name in metric_names() | attributes | ours, name
    families = {metric.name.split(".")[1] for metric in METRICS}
    known = {metric.name for metric in METRICS}
    known |= {name for metric in METRICS for name in metric.attributes}
    known |= names.ATTRIBUTES  # of spans
    for span in spans(guide):
        if re.fullmatch(r"routecache\.[a-z]+(\.[a-z_]+)+", span) and span.split(".")[1] in families:
            assert span in known, span


@pytest.mark.parametrize("guide", GUIDES[1:], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_is_named_exists(guide: Path) -> None:
    """The README has tables of its own, which are made of the settings."""
    known = {field.name for record in (Settings, CachePolicy) for field in fields(record)}
    for span in spans(guide):
        name = re.match(r"[a-z]+(?:_[a-z]+)*_(?:s|bytes)\b", span)
        assert name is None or name[0] in known, span


def test_the_layers_are_those_that_are_enforced() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    enforced = [layer.split(" | ") for layer in rules["contracts"][0]["layers"]]
    table = re.findall(
        r"^\| (`\w+`(?:, `\w+`)*) \|", text_of(GITHUB / "ARCHITECTURE.md"), re.MULTILINE
    )
    said = [re.findall(r"`(\w+)`", row) for row in table]
    assert [set(row) for row in said] == [set(row) for row in enforced]


def test_every_module_that_the_architecture_names_exists() -> None:
    named = [span for span in spans(GITHUB / "ARCHITECTURE.md") if span.endswith(".py")]
    assert len(named) > 20
    for name in named:
        place = name.removeprefix("routecache_middleware/")
        assert list((ROOT / "routecache_middleware").rglob(place)), name


def test_every_folder_of_tests_is_described() -> None:
    text = text_of(GITHUB / "CONTRIBUTING.md")
    said = {
        name
        for row in re.findall(r"^\| (`tests/.*?) \|", text, re.MULTILINE)
        for name in re.findall(r"`tests/(\w+)`", row)
    }
    there = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    assert said == there - {"__pycache__"}


def test_every_mark_is_described() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    marks = [mark.partition(":")[0] for mark in rules["tool"]["pytest"]["ini_options"]["markers"]]
    text = text_of(GITHUB / "CONTRIBUTING.md")
    assert [mark for mark in marks if f"`{mark}`" not in text] == []
