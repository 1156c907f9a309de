"""The wheel without extras: it builds, installs with its core dependencies, and imports."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CORE_ONLY = """
import importlib, json, pkgutil, sys

EXTRAS = {"zstandard", "litellm", "redis", "lmdb", "fastapi", "httpx", "uvicorn"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
import routecache_middleware
# What is made of LiteLLM's own classes has to have them; the rest of its adapter says what to do.
ADAPTER = "routecache_middleware.adapters.litellm"
SAYS_WHAT_TO_INSTALL = {f"{ADAPTER}{name}" for name in ("", ".hub", ".options", ".proxy")}
# Likewise: the driver asks for the package first, and says what to install.
GATEWAY = "routecache_middleware.gateway"
MADE_OF = {f"{GATEWAY}.spread": "httpx", f"{GATEWAY}.supervisor": "uvicorn"}
for found in pkgutil.walk_packages(
    routecache_middleware.__path__, "routecache_middleware.", onerror=lambda _: None
):
    try:
        importlib.import_module(found.name)
    except ModuleNotFoundError as error:
        is_made_of_it = error.name == "litellm" and found.name.startswith(f"{ADAPTER}.")
        if MADE_OF.get(found.name) == error.name:
            continue
        if not is_made_of_it or found.name in SAYS_WHAT_TO_INSTALL:
            raise
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_every_module_imports_without_any_extra() -> None:
    """Extras load on first use only (design 3), so no module may import one at its top."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", CORE_ONLY],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    loaded = json.loads(run.stdout)
    assert "starlette" not in loaded
    assert "uvicorn" not in loaded


def test_without_litellm_its_adapter_says_what_to_install() -> None:
    code = CORE_ONLY.partition("import routecache_middleware")[0] + (
        "from routecache_middleware.adapters.litellm import install\ninstall()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert "pip install 'routecache-middleware[litellm]'" in run.stderr
