"""Scripts for W&B and MLflow store the same with casket as with the original, once imported.

`make conformance` installs the originals into a folder of their own, `$TRACKERS`.
"""

import math
import os
import subprocess
import sys

import pytest

import casket
from casket.imports import load
from tests.conftest import ROOT
from tests.integrations.tracker_scripts import MLFLOW, WANDB, stored, with_casket

TRACKERS = os.environ.get("TRACKERS")
pytestmark = pytest.mark.skipif(not TRACKERS, reason="not installed: wandb, mlflow ($TRACKERS)")

SCRIPTS = [("wandb", name) for name in WANDB] + [("mlflow", name) for name in MLFLOW]
TEXTS = {"wandb": WANDB, "mlflow": MLFLOW}
SOURCES = {"wandb": "wandb", "mlflow": "mlflow.db"}
OWN_FILES = {"output.log", "requirements.txt", "wandb-metadata.json", "wandb-summary.json"}
OWN_FILES |= {"config.yaml"}


def run(script, folder, **environment):
    folder.mkdir()
    (folder / "train.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "CASKET_CAPTURE": "", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def sessions_of(path):
    with casket.open(path) as runs:
        return sorted((plain(stored(each)) for each in runs.sessions(children=True)), key=repr)


def plain(value):
    """Make NaN equal to itself, and leave out the files that W&B adds."""
    if isinstance(value, dict):
        return {name: each for name, given in value.items() if (each := plain(given)) != []}
    if isinstance(value, list):
        return [plain(each) for each in value if not (isinstance(each, str) and each in OWN_FILES)]
    return "nan" if isinstance(value, float) and math.isnan(value) else value


@pytest.mark.parametrize(("tracker", "name"), SCRIPTS)
def test_a_script_stores_the_same_with_casket_as_with_the_original(tracker, name, tmp_path):
    script = TEXTS[tracker][name]
    run(
        script,
        tmp_path / "original",
        PYTHONPATH=TRACKERS,
        WANDB_MODE="offline",
        WANDB_SILENT="true",
        MLFLOW_TRACKING_URI="sqlite:///mlflow.db",
        MLFLOW_DISABLE_TELEMETRY="true",
        DO_NOT_TRACK="1",
    )
    run(with_casket(script, tracker), tmp_path / "casket", PYTHONPATH=str(ROOT))
    load(tmp_path / "original" / SOURCES[tracker], tmp_path / "imported.json")
    assert sessions_of(tmp_path / "casket" / "runs.json") == sessions_of(tmp_path / "imported.json")
