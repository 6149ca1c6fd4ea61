"""Signals that arrive while a record is written: Ctrl-C, and handlers that log themselves."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


# In processes of their own: pytest-timeout uses the same signal.
@pytest.mark.parametrize(
    ("scenario", "name"),
    [
        ("interrupted", "runs.json"),
        ("logging_in_a_handler", "runs.json"),
        ("logging_in_a_handler", "runs.sqlite"),
        ("ending_in_a_handler", "runs.json"),
    ],
)
def test_a_signal_amid_a_write_leaves_no_lock_and_loses_nothing(tmp_path, scenario, name):
    code = f"from tests.crash import signals; signals.{scenario}({str(tmp_path / name)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
