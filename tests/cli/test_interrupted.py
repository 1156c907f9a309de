"""Commands that go on until Ctrl-C, and tables on narrow terminals."""

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from routecache_middleware.cli.repeating import until_told
from routecache_middleware.cli.showing import table
from tests.cli.kit import fill

OPTIONS = ("--watch", "--every", "0.2", "--json")


@pytest.mark.parametrize("command", ["stats", "top"])
def test_what_is_watched_ends_with_ctrl_c_and_that_is_no_failure(
    command: str, tmp_path: Path
) -> None:
    url = f"lmdb://{tmp_path}/cache"
    fill(url)
    module = "routecache_middleware.cli.main"
    # A shell lets what it starts in the background take no notice of Ctrl-C, nor do its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        watching = subprocess.Popen(
            [sys.executable, "-m", module, command, *OPTIONS, "--url", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("{")
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=30)
    assert (watching.returncode, said) == (0, "")


def test_what_is_not_watched_is_aborted() -> None:
    with pytest.raises(KeyboardInterrupt), until_told(is_watching=False):
        raise KeyboardInterrupt


@pytest.mark.parametrize("width", [40, 80, 200])
def test_what_a_row_is_called_is_never_cut(width: int) -> None:
    name = "0123456789abcdef"
    shown = io.StringIO()
    narrow = Console(file=shown, width=width, color_system=None)
    narrow.print(table("Entries", ("entry", *"abcdefgh"), [(name, *("x" * 9 for _ in range(8)))]))
    assert name in shown.getvalue()
