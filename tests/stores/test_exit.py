"""Stores that are open while the interpreter shuts down are closed without errors."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.waiting import PATIENCE

# As objects that the registries of Keras or TensorFlow hold.
KEPT_BY_AN_EXTENSION = """
import ctypes, sys
import casket
from casket import Experiment

class Keeps:
    pass

keeps = Keeps()
keeps.itself = keeps
keeps.model = Experiment.use(sys.argv[1], exp_id="e").model("m")
with keeps.model.session({"a": 1}) as session:
    session.add_epoch(1, {"loss": 1.0})
keeps.runs = casket.open(sys.argv[1])
keeps.sessions = keeps.runs.sessions()
ctypes.pythonapi.Py_IncRef(ctypes.py_object(keeps))
"""


@pytest.mark.parametrize("name", ["runs.json", "runs.sqlite"])
def test_a_store_that_an_extension_keeps_is_silent_at_exit(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KEPT_BY_AN_EXTENSION, tmp_path / name],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
