"""The OpenAPI document says what the app does: Schemathesis asks everything it can think of."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from routecache_middleware.admin.openapi import document
from routecache_middleware.admin.parameters import LAYER, LIMIT, MODEL
from routecache_middleware.admin.routes import ROUTES
from tests.admin.kit import TOKEN
from tests.support.child import ModuleChild


def test_every_endpoint_is_described() -> None:
    paths = document()["paths"]
    described = {(method.upper(), path) for path, item in paths.items() for method in item}
    assert described == {(row.method, row.path) for row in ROUTES}


def test_every_operation_has_a_name_of_its_own_and_a_sentence() -> None:
    operations = [one for item in document()["paths"].values() for one in item.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert all(re.fullmatch(r"[A-Z].*\.", one["summary"]) for one in operations)


def test_every_reference_leads_somewhere() -> None:
    text = str(document())
    names = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert names <= set(document()["components"]["schemas"])
    assert {"ClusterStats", "EntryRow", "RequestExplanation"} <= names


@pytest.mark.parametrize(
    ("parameter", "schema"),
    [
        (LIMIT, {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}),
        (LAYER, {"type": "string", "enum": ["result", "route", "meta"], "default": "result"}),
        (MODEL, {"type": "string", "minLength": 1}),
    ],
)
def test_parameters_are_described_as_they_are_checked(parameter: object, schema: object) -> None:
    assert parameter.schema() == schema  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("schemathesis") is None, reason="needs the package schemathesis")
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """Every endpoint, with what the document allows and what it does not, with and without token.

    Checked besides: that no answer is a 5xx, and that none has another form than it is said to.
    """
    child = ModuleChild("tests.admin.served")
    described = tmp_path / "openapi.json"
    described.write_text(json.dumps(document()), "utf-8")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(described), "--no-color"),
        *("--url", f"http://127.0.0.1:{child.port}", "--header", f"Authorization: Bearer {TOKEN}"),
        *("--max-examples", "30", "--checks", "all", "--seed", "7"),
    ]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=570
        )
    finally:
        child.close()
    assert done.returncode == 0, done.stdout[-4000:]
    assert f"Tested: {len(ROUTES)}" in done.stdout
