"""Signals that arrive while a record is written: Ctrl-C, and handlers that log themselves."""

import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from casket.stores.jsonfile.files import LocalFile
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


def test_an_interrupt_amid_closing_never_closes_the_file_of_another(tmp_path):
    """The number of a closed file is given to the next one that is opened."""
    for step in count():
        closing = LocalFile(tmp_path / "one", writing=True)
        was_interrupted = interrupted_at(step, closing.close)
        other = LocalFile(tmp_path / "other", writing=True)
        del closing
        assert other.size() == 0
        other.close()
        if not was_interrupted:
            break
    assert step > 5


def interrupted_at(step, function):
    """Call a function, interrupted before one of its bytecodes; return whether it had so many."""
    steps = count()

    def trace(frame, event, _):
        frame.f_trace_opcodes = True
        if event == "opcode" and next(steps) == step:
            raise KeyboardInterrupt
        return trace

    earlier = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(earlier)
    return False
