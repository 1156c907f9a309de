"""The tour of the fleet keeps its promises, with a stand-in for the model and all else real."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.quickstart_children import Children
from tests.support.child import ROOT


@pytest.mark.slow
def test_the_tour_of_the_fleet_keeps_every_promise(tmp_path: Path) -> None:
    with Children(tmp_path, ROOT) as children:
        url = children.start(
            "model",
            ["uvicorn", "tests.support.model:app", "--port", "0", "--no-use-colors"],
            environment={},
            timeout_s=60,
        )
        upstream = {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "none"}
        tour = subprocess.run(
            [sys.executable, "-m", "examples.fleet"],
            cwd=ROOT,
            env={**os.environ, **upstream},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
    assert tour.returncode == 0, tour.stdout + tour.stderr
    assert "killed" in tour.stdout
    assert "NO" not in tour.stdout.split()
