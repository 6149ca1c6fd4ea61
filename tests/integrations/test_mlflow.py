"""Scripts written for MLflow run with one import changed: `casket_integrations.mlflow`.

That the originals store the same is tested in `tests/conformance/test_trackers.py`.
"""

import math
import os
import signal
import subprocess
import sys
import threading

import pytest

import casket
import casket_integrations.mlflow as mlflow
from casket import CasketWarning, ExistingExperimentError, Experiment, NoSuchSession
from casket_integrations import trackers
from casket_integrations.mlflow import runs
from tests.conftest import ROOT
from tests.integrations.tracker_scripts import MLFLOW, stored, with_casket

EXPECTED = {
    "quickstart": [
        {
            "params": {"lr": 0.1, "epochs": 3, "kernel": "rbf", "shuffle": True},
            "curves": {"loss": {0: 1.0, 1: 0.5, 2: 1 / 3}},
            "results": {"test_acc": 0.93},
            "tags": ["stage=baseline"],
        }
    ],
    "several metrics a step": [
        {
            "curves": {
                "train/loss": {0: 1.0, 10: 11.0, 20: 21.0},
                "train/acc": {0: 0.5, 10: 0.5, 20: 0.5},
                "val/loss": {0: 2.0, 10: 12.0, 20: 22.0},
            }
        }
    ],
    "without steps": [
        {"curves": {"loss": {0: 3.0, 1: 2.0, 2: 1.0}}, "results": {"rmse": 0.5, "r2": 0.9}}
    ],
    "without a run": [{"params": {"lr": 0.1}, "curves": {"loss": {1: 2.5}}}],
    "nested runs": [
        {"results": {"best": 0.4}},
        {"curves": {"acc": {1: 0.2}}, "is_child": True},
        {"curves": {"acc": {1: 0.4}}, "is_child": True},
    ],
    "a run that is continued": [{"params": {"lr": 0.5}, "curves": {"loss": {1: 2.0, 2: 1.0}}}],
    "artifacts": [
        {
            "artifacts": [
                *("a.txt", "about.json", "all/a.txt", "all/deep/b.txt"),
                *("folder/a.txt", "notes/notes.txt"),
            ]
        }
    ],
    "tags and a description": [{"tags": ["flag", "stage=final", "team=vision"], "note": "a note"}],
    "a failed run": [{"curves": {"loss": {4: 3.5}}, "status": "failed"}],
    "a killed run": [{"curves": {"loss": {7: 1.0}}, "status": "killed"}],
    "odd values": [
        {
            "params": {"width": 4},
            "curves": {
                "loss": {1: 0.25},
                "nan": {1: pytest.approx(math.nan, nan_ok=True)},
                "inf": {1: -math.inf},
            },
        }
    ],
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of its own, without the variables and the open runs of other tests."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "CASKET_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CASKET_CAPTURE", "")
    monkeypatch.setattr(trackers, "_warned", set())
    monkeypatch.setattr(runs, "_experiment", "")
    yield
    while mlflow.active_run():
        mlflow.end_run()


def sessions():
    with casket.open("runs.json") as stored_runs:
        return stored_runs.sessions(children=True)


def the_session():
    (session,) = sessions()
    return session


def test_the_documented_import_is_the_one_that_scripts_change():
    line = "import casket_integrations.mlflow as mlflow\n"
    assert line in with_casket(MLFLOW["quickstart"], "mlflow")
    assert f"`{line.strip()}` |" in (ROOT / "docs" / "adapters" / "README.md").read_text()


def test_every_script_has_an_expectation():
    assert MLFLOW.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", MLFLOW)
def test_a_script_stores_what_it_logs(name):
    pytest.importorskip("numpy")
    exec(with_casket(MLFLOW[name], "mlflow"), {})
    assert [{"status": "completed", **expected} for expected in EXPECTED[name]] == [
        stored(session) for session in sessions()
    ]


def test_the_names_of_runs_and_experiments_are_kept(monkeypatch):
    monkeypatch.setenv("CASKET_FILE", "other.json")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from the environment")
    with mlflow.start_run(run_name="parent") as parent:
        with mlflow.start_run(run_name="child", nested=True):
            pass
        mlflow.set_tag("mlflow.source.git.branch", "main")
    assert mlflow.get_tracking_uri() == "other.json"
    with casket.open("other.json") as others:
        view, child = others.sessions(children=True)
    assert (view.name, view.experiment) == ("parent", "from the environment")
    assert view.meta["mlflow.source.git.branch"] == "main"
    assert (child.name, child.parent.id) == ("child", parent.info.run_id)


def test_experiments_are_created_once():
    assert mlflow.get_experiment_by_name("digits") is None
    identity = mlflow.create_experiment("digits")
    assert mlflow.get_experiment_by_name("digits").experiment_id == identity
    with pytest.raises(ExistingExperimentError):
        mlflow.create_experiment("digits")
    with mlflow.start_run(experiment_id=identity) as run:
        assert run.info.experiment_id == "digits"


def test_the_data_of_a_run_can_be_read():
    mlflow.set_experiment(experiment_id="digits")
    with mlflow.start_run(tags={"team": "vision"}) as run:
        assert mlflow.log_param("lr", 0.1) == 0.1
        mlflow.log_metric("loss", 2.0, step=1)
        mlflow.log_metric("loss", 1.0, step=2)
        assert run.data.metrics == {"loss": 1.0}
    assert (run.data.params, run.data.tags) == ({"lr": 0.1}, {"team": "vision"})
    assert run.info.status == "FINISHED"


def test_metrics_of_another_open_run_are_logged_by_its_id():
    with mlflow.start_run() as parent, mlflow.start_run(nested=True):
        mlflow.log_metric("loss", 1.0, step=1, run_id=parent.info.run_id)
    assert stored(sessions()[0])["curves"] == {"loss": {1: 1.0}}
    with pytest.raises(mlflow.MlflowException, match="is not active: open it by start_run"):
        mlflow.log_metric("loss", 1.0, run_id=parent.info.run_id)


def test_a_second_run_has_to_be_nested():
    with (
        mlflow.start_run(),
        pytest.raises(mlflow.MlflowException, match=r"end it by mlflow.end_run\(\)"),
    ):
        mlflow.start_run()
    with mlflow.start_run(run_name="parent") as parent:
        pass
    with mlflow.start_run(run_name="late", parent_run_id=parent.info.run_id):
        pass
    assert sessions()[-1].parent.id == parent.info.run_id


def test_an_unknown_run_cannot_be_continued():
    mlflow.end_run()
    with mlflow.start_run():
        pass
    with pytest.raises(NoSuchSession):
        mlflow.start_run(run_id="0123")


def test_in_a_command_of_a_sweep_the_first_run_is_its_session(monkeypatch):
    model = Experiment.use("sweep.json", exp_id="sweep").model("net")
    for session in model.sweep({"lr": [0.5, 0.25]}):
        monkeypatch.setenv("CASKET_SESSION", f"{os.getcwd()}/sweep.json#{session.id}")
        mlflow.set_experiment("later")
        with mlflow.start_run(run_name="first") as run:
            assert run.info.experiment_id == "sweep"
            mlflow.log_params({"lr": session.params["lr"]})
            mlflow.log_metric("loss", 1, step=0)
            with mlflow.start_run(nested=True):
                mlflow.log_metric("loss", 2, step=0)
        with mlflow.start_run():
            mlflow.log_metric("accuracy", 0.5, step=0)
    first = [(view.params, view.name, stored(view)["curves"]) for view in model.sessions()]
    assert first == [({"lr": lr}, "first", {"loss": {0: 1}}) for lr in (0.5, 0.25)]
    assert all(len(view.children) == 1 for view in model.sessions())
    with casket.open("sweep.json") as runs:
        later = [stored(view)["curves"] for view in runs.sessions("later")]
    assert later == [{"accuracy": {0: 0.5}}] * 2


def test_each_thread_has_runs_of_its_own():
    seen = []
    with mlflow.start_run():
        thread = threading.Thread(target=lambda: seen.append(mlflow.active_run()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_files_keep_their_contents(tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    figure = plt.figure()
    with mlflow.start_run():
        mlflow.log_figure(figure, "plots/empty.png")
        mlflow.log_dict({"a": [1]}, "about.json")
        mlflow.log_dict({"a": [1]}, "about")
        mlflow.log_text("text", "text.txt")
    plt.close(figure)
    artifacts = the_session().artifacts
    assert artifacts["plots/empty.png"].media_type == "image/png"
    assert artifacts["about.json"].load() == {"a": [1]}
    assert artifacts["about"].load() == '{"a": [1]}'
    assert artifacts["text.txt"].load() == "text"


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("autolog", "casket_integrations"),
        ("sklearn", "casket_integrations.sklearn"),
        ("MlflowClient", "casket.open"),
        ("log_input", "add_data"),
        ("unheard_of", "docs/logging.md"),
    ],
)
def test_a_name_that_is_lacking_says_what_there_is(name, instead):
    with pytest.raises(AttributeError, match=f"casket has no mlflow.{name}: use .*{instead}"):
        getattr(mlflow, name)


def test_what_needs_a_server_is_one_warning():
    with pytest.warns(CasketWarning, match="mlflow.set_tracking_uri has no effect"):
        mlflow.set_tracking_uri("http://localhost:5000")
    mlflow.set_tracking_uri("http://localhost:5000")


ENDS = """
import os, signal, sys
import casket_integrations.mlflow as mlflow
assert "mlflow" not in sys.modules
mlflow.log_metric("loss", 3.0, step=1)
mlflow.log_metric("acc", 0.5)
if sys.argv[1] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "raise":
    raise ValueError("no more")
"""


@pytest.mark.parametrize(
    ("how", "code", "status"),
    [("end", 0, "completed"), ("raise", 1, "failed"), ("kill", -signal.SIGKILL, "killed")],
)
def test_a_script_without_an_end_keeps_what_it_logged(how, code, status):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ENDS, how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == code
    session = the_session()
    assert session.status == status
    assert stored(session)["curves"] == {"loss": {1: 3.0}}
    assert stored(session)["results"] == {"acc": 0.5}
