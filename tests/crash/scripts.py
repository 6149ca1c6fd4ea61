"""Running code in a fresh Python that may fork, and may hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


def run_python(
    code: str, folder: Path, *before: str, patience: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh Python that works in `folder`, behind the command `before`.

    Fails if it takes longer than `patience` seconds; children it left behind are killed.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as output:  # a pipe would wait for children as well
        command = [*before, sys.executable, "-c", code]
        script = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            script.wait(patience)
        except subprocess.TimeoutExpired:
            script.returncode = None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(script.pid, signal.SIGKILL)
            code_returned = script.returncode
            script.wait()
        output.seek(0)
        text = output.read()
    assert code_returned is not None, f"it hangs\n{text}"
    return subprocess.CompletedProcess(command, code_returned, text, text)


def run_scenario(name: str, runs: Path, patience: float = 40.0) -> None:
    """Run a function of `tests.crash.scenarios`; fail if it fails or hangs."""
    code = f"from tests.crash.scenarios import {name} as play\nplay({str(runs)!r})"
    done = run_python(code, runs.parent, patience=patience)
    assert done.returncode == 0, done.stdout
