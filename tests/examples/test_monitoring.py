"""Rules, dashboard and configuration for Prometheus: right by its own tools, and of our metrics."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]

from examples.quickstart_children import Children
from routecache_middleware.core.metrics import METRICS, Kind
from tests.gateway.test_command import started
from tests.support.child import ROOT

FOLDER = ROOT / "examples" / "monitoring"
RULES = FOLDER / "routecache.rules.yml"
DASHBOARD = FOLDER / "grafana" / "routecache.json"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (apt install prometheus)"
)


def promtool(*arguments: str, cwd: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments],  # noqa: S607 - wherever it is installed
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@needs_promtool
def test_the_rules_are_right_and_fire_when_they_should() -> None:
    checked = promtool("check", "rules", RULES.name)
    assert checked.returncode == 0, checked.stderr
    tested = promtool("test", "rules", "routecache.rules.test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@needs_promtool
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("rate15m < 0.5", "rate15m < 0.3"),
        ("result_bytes > 1e9", "result_bytes > 2e9"),
        (
            'job=~"routecache.*"} == 0\n        for: 2m',
            'job=~"routecache.*"} == 0\n        for: 9m',
        ),
        ("rate5m > 0.05", "rate5m > 0.5"),
        ("0 * sum(rate", "1 * sum(rate"),
        ("[1h])", "[1m])"),
    ],
)
def test_the_tests_of_the_rules_can_fail(tmp_path: Path, before: str, after: str) -> None:
    text = RULES.read_text("utf-8")
    assert before in text
    (tmp_path / RULES.name).write_text(text.replace(before, after), "utf-8")
    shutil.copy(FOLDER / "routecache.rules.test.yml", tmp_path)
    assert promtool("test", "rules", "routecache.rules.test.yml", cwd=tmp_path).returncode != 0


@needs_promtool
def test_prometheus_takes_its_configuration() -> None:
    checked = promtool("check", "config", "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "11 rules found" in checked.stdout


def test_its_targets_are_what_the_gateway_serves() -> None:
    """Both jobs ask where ``routecache gateway --admin`` tells this machine of its numbers."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    with started("--upstream", "http://127.0.0.1:1", "--admin") as gateway:
        for job in config["scrape_configs"]:
            found = httpx.get(gateway.url + job["metrics_path"], trust_env=False)
            assert found.status_code == 200
            assert "routecache_backend_up" in found.text


def samples() -> dict[str, set[str]]:
    """Every sample that there is, with its labels."""
    found = {}
    for metric in METRICS:
        labels = {name.replace(".", "_") for name in metric.attributes}
        if metric.kind is Kind.HISTOGRAM:
            found[f"{metric.prometheus}_bucket"] = {*labels, "le"}
            found[f"{metric.prometheus}_count"] = found[f"{metric.prometheus}_sum"] = labels
        else:
            found[metric.prometheus] = labels
    return found


def expressions() -> Iterator[str]:
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"]


def asked_of(expression: str) -> set[str]:
    """Return the names of the metrics of an expression, which exist with the labels it asks for."""
    known, used = samples(), set()
    for name, labels in re.findall(r"\b(routecache_\w+)(?:\{(.*?)\})?", expression):
        if name in {label for labels in known.values() for label in labels}:
            continue
        assert name in known, expression
        used.add(name)
        asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", labels)) - {"job", "instance"}
        assert asked <= known[name], expression
    by = {
        label
        for group in re.findall(r"by \(([\w, ]+)\)", expression)
        for label in group.split(", ")
    }
    assert by <= {label for labels in known.values() for label in labels} | {"job"}, expression
    return used


def test_every_metric_that_is_asked_for_exists_with_its_labels() -> None:
    used = {name for expression in expressions() for name in asked_of(expression)}
    shown = {name.removesuffix("_bucket") for name in used}
    assert {metric.prometheus for metric in METRICS} == shown, "the dashboard shows all there is"


def test_every_legend_is_of_a_label_that_is_left() -> None:
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{label}\b", target["expr"]), target["expr"]


def test_the_dashboard_can_be_provisioned_and_its_panels_do_not_overlap() -> None:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    assert dashboard["id"] is None
    assert dashboard["uid"] == "routecache-overview"
    assert "__inputs" not in dashboard
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


RUNBOOK = (FOLDER / "runbook.md").read_text("utf-8")


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_every_alert_has_a_section_in_the_runbook_and_names_it() -> None:
    assert len(alerts()) == 7
    names = [alert["alert"] for alert in alerts()]
    assert re.findall(r"^## (.*)$", RUNBOOK, re.MULTILINE) == names
    for name, alert in zip(names, alerts(), strict=True):
        section = RUNBOOK.partition(f"## {name}\n")[2].partition("\n## ")[0]
        assert section.count("**What it means.**") == 1
        assert section.count("**Confirm.**") == section.count("**What to do") == 1
        assert section.count("```sh") >= 1, "a command"
        assert section.count("```promql") == 1, "a query"
        assert alert["annotations"]["runbook"] == f"runbook.md#{name.lower()}"
        assert f"alertname: {name}" in (FOLDER / "routecache.rules.test.yml").read_text()


def queries() -> list[str]:
    blocks = re.findall(r"```promql\n(.*?)```", RUNBOOK, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_every_query_of_the_runbook_is_of_metrics_and_rules_that_exist() -> None:
    assert {name for query in queries() for name in asked_of(query)}
    recorded = {
        rule["record"]
        for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    used = set(re.findall(r"routecache:\w+:\w+|routecache:\w+", "\n".join(queries())))
    assert used
    assert used <= recorded


@needs_promtool
def test_prometheus_understands_every_query_of_the_runbook(tmp_path: Path) -> None:
    rules = [{"record": f"test:{n}", "expr": query} for n, query in enumerate(queries())]
    page = {"groups": [{"name": "runbook", "rules": rules}]}
    (tmp_path / "queries.yml").write_text(yaml.safe_dump(page), "utf-8")
    checked = promtool("check", "rules", "queries.yml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout
    assert len(rules) > 15


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")
def test_a_real_prometheus_watches_a_real_gateway(tmp_path: Path) -> None:
    with Children(tmp_path, ROOT) as children:
        url = children.start(
            "model",
            ["uvicorn", "tests.support.model:app", "--port", "0", "--no-use-colors"],
            environment={},
            timeout_s=60,
        )
        children.spawn(
            "monitoring",
            [sys.executable, "-u", "-m", "examples.monitoring", "--check"],
            environment={"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "none"},
        )
        children.wait_for("monitoring", re.compile(r"tokens saved\s+. 48"), timeout_s=90)
