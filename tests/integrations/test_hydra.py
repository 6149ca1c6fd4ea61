"""`CasketCallback` of Hydra in real applications, and `casket.attach` in their jobs."""

import os
import subprocess
import sys
import textwrap

import pytest

import casket
from casket import Experiment
from tests.conftest import ROOT
from tests.waiting import PATIENCE

pytest.importorskip("hydra")

from casket_integrations.hydra import CasketCallback
from tests.integrations.scenarios.hydra import run

pytestmark = pytest.mark.frameworks

APPLICATION = """
import hydra, subprocess, sys
import casket

@hydra.main(version_base=None, config_path=".", config_name="config")
def main(config):
    with casket.attach() as session:
        session.add_epoch(1, {"loss": config.lr * 2})
        if config.lr == 3:
            raise ValueError("too high")

main()
"""
CONFIG = """
lr: 1
data: {name: digits, path: "${hydra:runtime.cwd}/data"}
hydra:
  job: {chdir: true}
  callbacks:
    casket:
      _target_: casket_integrations.hydra.CasketCallback
      model: runs.json
      exp_id: digits
      model_id: net
"""


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_each_job_of_a_multirun_is_a_session(tmp_path, launcher):
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (tmp_path / "main.py").write_text(APPLICATION)
    (tmp_path / "config.yaml").write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "main.py", "--multirun", "lr=1,2,3", f"hydra/launcher={launcher}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1, done.stderr
    assert "too high" in done.stderr
    with casket.open(tmp_path / "runs.json") as runs:
        sessions = runs.sessions(experiment="digits", model="net")
    sessions.sort(key=lambda session: session.params["lr"])
    data = {"name": "digits", "path": f"{tmp_path}/data"}
    assert [session.params for session in sessions] == [{"lr": n, "data": data} for n in (1, 2, 3)]
    assert [session.last["loss"] for session in sessions] == [2, 4, 6]
    assert [session.error for session in sessions] == [None, None, "ValueError: too high"]
    assert [session.status for session in sessions] == ["completed", "completed", "failed"]
    for number, session in enumerate(sessions):
        hydra = session.meta["hydra"]
        assert hydra["overrides"] == [f"lr={number + 1}"]
        assert hydra["output_dir"].startswith(f"{tmp_path}/multirun/")
        assert (hydra["cwd"], hydra["job"]) == (str(tmp_path), "main")


def test_attach_is_the_session_of_the_job_only_while_it_runs(memory):
    seen = []
    run(lambda config: seen.append(casket.attach().id), CasketCallback(memory))
    assert seen == [memory.sessions()[0].id]
    with pytest.raises(casket.CasketError, match=r"CASKET_SESSION is not set"):
        casket.attach()


def test_known_params_are_refused_by_attach(memory):
    run(lambda config: None, CasketCallback(memory))
    refused = CasketCallback(memory, ensure_unique=True)
    with (
        pytest.warns(UserWarning, match="ExistingParamsException"),
        pytest.raises(casket.ExistingParamsException),
    ):
        run(lambda config: casket.attach(), refused)
    assert [session.status for session in memory.sessions()] == ["completed"]
    run(lambda config: casket.attach(), CasketCallback(memory))
    assert [session.status for session in memory.sessions()] == ["completed"] * 2


def test_a_command_of_a_job_goes_on_with_its_session(file_url):
    code = textwrap.dedent("""
        import casket
        session = casket.attach()
        assert session is casket.attach()
        session.add_epoch(2, {"loss": 0.5})
        session.end()
    """)
    model = Experiment.use(file_url, exp_id="exp").model("net")

    def job(config):
        casket.attach().add_epoch(1, {"loss": 1.0})
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)

    run(job, CasketCallback(model))
    (session,) = model.sessions()
    assert [row["epoch_num"] for row in session.epochs] == [1, 2]
    assert session.status == "completed"


def test_a_session_that_is_not_in_its_store_is_named(tmp_path, monkeypatch):
    model = Experiment.use(tmp_path / "runs.json").model("net")
    model.add_result({"a": 1})
    monkeypatch.setenv("CASKET_SESSION", f"{tmp_path / 'runs.json'}#0123456789abcdef")
    with pytest.raises(casket.NoSuchSession, match="0123456789abcdef"):
        casket.attach()
