"""Scripts written for W&B run with one import changed: `casket_integrations.wandb`.

That the originals store the same is tested in `tests/conformance/test_trackers.py`.
"""

import math
import os
import signal
import subprocess
import sys

import pytest

import casket
import casket_integrations.wandb as wandb
from casket import CasketWarning, Experiment, NoSuchSession
from casket_integrations import trackers
from casket_integrations.wandb.runs import open_runs
from tests.conftest import ROOT
from tests.integrations.tracker_scripts import WANDB, stored, with_casket

EXPECTED = {
    "quickstart": [
        {
            "params": {"lr": 0.1, "opt": {"name": "adam"}},
            "curves": {"loss": {0: 1.0, 1: 0.5, 2: 1 / 3}, "acc": {0: 0.5, 1: 0.6, 2: 0.7}},
            "results": {"summary": {"test_acc": 0.93}},
            "tags": ["first", "svm"],
            "note": "a note",
        }
    ],
    "several calls a step": [
        {
            "curves": {
                "loss": {0: 0.0, 1: 1.0, 2: 2.0},
                "acc": {0: 0.0, 1: 0.1, 2: 0.2},
                "lr": {0: 0.1, 1: 0.1, 2: 0.1},
            }
        }
    ],
    "explicit steps": [
        {
            "curves": {
                "train/loss": {step: 1 / (step + 1) for step in (0, 100, 200)},
                "val/loss": {step: 2 / (step + 1) for step in (0, 100, 200)},
                "end": {200: 1},
                "after": {201: 2},
            }
        }
    ],
    "nested values": [
        {
            "curves": {
                "train": {i: {"loss": i, "acc": {"top1": i / 2}} for i in range(2)},
                "epoch": {0: 0, 1: 1},
            }
        }
    ],
    "a config that changes": [
        {
            "params": {"lr": 0.01, "batch_size": 32, "epochs": 4, "layers": [8, 4], "seed": 0},
            "curves": {"loss": {0: 1.5}},
        }
    ],
    "excluded keys": [{"params": {"lr": 0.1, "seed": 3}, "curves": {"loss": {0: 1}}}],
    "summaries of metrics": [
        {
            "curves": {
                "acc": {0: 0.5, 1: 0.9, 2: 0.7},
                "loss": {0: 3.0, 1: 2.0, 2: 1.0},
                "val/loss": {0: 0, 1: 1, 2: 2},
                "epoch": {0: 0, 1: 10, 2: 20},
            },
            "results": {
                "summary": {
                    "best": 0.9,
                    "text": "fine",
                    "acc": {"max": 0.9},
                    "loss": {"min": 1.0, "mean": 2.0},
                }
            },
        }
    ],
    "a failed run": [{"curves": {"loss": {0: 1}}, "status": "failed"}],
    "an exit code": [{"curves": {"loss": {0: 1}}, "status": "failed"}],
    "runs in a loop": [
        {"params": {"seed": 0}, "curves": {"loss": {0: 0}}},
        {"params": {"seed": 1}, "curves": {"loss": {0: 1}}},
    ],
    "saved files": [
        {
            "curves": {"loss": {0: 1}},
            "tags": ["late"],
            "artifacts": ["model.h5", "out/weights.txt"],
        }
    ],
    "odd values": [
        {
            "params": {"width": 4},
            "curves": {
                "loss": {0: 0.5},
                "n": {0: 3},
                "nan": {0: pytest.approx(math.nan, nan_ok=True)},
                "inf": {0: math.inf},
                "text": {1: "a"},
                "flag": {1: True},
                "list": {1: [1, 2]},
            },
        }
    ],
}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A folder of its own, without the variables and the open runs of other tests."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("WANDB_", "CASKET_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CASKET_CAPTURE", "")
    monkeypatch.setattr(trackers, "_warned", set())
    yield
    while open_runs:
        wandb.finish()


def sessions():
    with casket.open("runs.json") as runs:
        return runs.sessions(children=True)


def the_session():
    (session,) = sessions()
    return session


def test_the_documented_import_is_the_one_that_scripts_change():
    line = "import casket_integrations.wandb as wandb\n"
    assert line in with_casket(WANDB["quickstart"], "wandb")
    assert f"`{line.strip()}` |" in (ROOT / "docs" / "adapters" / "README.md").read_text()
    assert f"`{line.strip()}`" in (ROOT / "README.md").read_text()


def test_every_script_has_an_expectation():
    assert WANDB.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", WANDB)
def test_a_script_stores_what_it_logs(name):
    pytest.importorskip("numpy")
    exec(with_casket(WANDB[name], "wandb"), {})
    assert [{"status": "completed", **expected} for expected in EXPECTED[name]] == [
        stored(session) for session in sessions()
    ]


def test_the_facts_of_a_run_are_those_of_its_session(monkeypatch):
    monkeypatch.setenv("CASKET_FILE", "other.json")
    monkeypatch.setenv("WANDB_PROJECT", "from the environment")
    monkeypatch.setenv("WANDB_TAGS", "a,b")
    run = wandb.init(name="warm", group="seeds", job_type="train", entity="me", id="mine")
    assert (run.id, run.name, run.project) == ("mine", "warm", "from the environment")
    assert wandb.run is run
    run.notes = "later"
    run.finish()
    with casket.open("other.json") as runs:
        (session,) = runs.sessions(experiment="from the environment", model="train")
    assert (session.name, session.group, session.tags) == ("warm", "seeds", ("a", "b"))
    assert (session.note, session.meta["run_id"], session.meta["entity"]) == ("later", "mine", "me")


def test_a_failure_names_its_exception_and_its_exit_code():
    with pytest.raises(ValueError, match="diverged"), wandb.init():
        raise ValueError("diverged")
    wandb.init()
    wandb.finish(exit_code=3)
    assert [session.error for session in sessions()] == ["ValueError: diverged", "exit code 3"]


def test_a_run_is_resumed_by_its_id():
    for resume in ("never", "allow", "must"):
        with wandb.init(id="mine", resume=resume, config={"lr": 1}, tags=[resume]) as run:
            assert run.resumed == (resume != "never")
            assert run.config.lr == 1
            run.log({"loss": run.step})
    with pytest.raises(wandb.UsageError, match="run 'mine' exists"):
        wandb.init(id="mine", resume="never")
    with pytest.raises(NoSuchSession, match="matches 'other'"):
        wandb.init(id="other", resume="must")
    assert run.tags == the_session().tags == ("never", "allow", "must")
    assert stored(the_session())["curves"] == {"loss": {0: 0, 1: 1, 2: 2}}


def test_auto_resumes_the_last_run_if_it_did_not_complete():
    with pytest.raises(ValueError, match="lost"), wandb.init():
        raise ValueError("lost")
    for i in range(2):
        with wandb.init(resume="auto") as run:
            run.log({"loss": i})
    assert [stored(each)["curves"]["loss"] for each in sessions()] == [{0: 0}, {0: 1}]


def test_init_returns_the_open_run_unless_it_is_to_begin_another():
    run = wandb.init()
    assert wandb.init() is run
    assert wandb.init(reinit="create_new") is not run
    assert wandb.init(reinit=True) not in (None, run)
    assert [each.status for each in sessions()] == ["running", "completed", "running"]


def test_a_disabled_run_writes_nothing(tmp_path):
    with wandb.init(mode="disabled") as run:
        run.log({"loss": 1, "table": wandb.Table(columns=["a"], data=[[1]])})
        assert run.summary["loss"] == 1
    assert list(tmp_path.iterdir()) == []


def test_media_become_artifacts_with_their_step():
    np = pytest.importorskip("numpy")
    plt = pytest.importorskip("matplotlib.pyplot")
    table = wandb.Table(columns=["image", "label"])
    table.add_data(wandb.Image(np.zeros((2, 2, 3), dtype="uint8")), "cat")
    table.add_column("score", [0.5])
    assert table.get_column("label") == ["cat"]
    plt.plot([1, 2])
    with wandb.init() as run:
        run.log({"loss": 1})
        run.log(
            {
                "noise": wandb.Image(np.array([[0.0, 1.0]]), caption="a caption"),
                "val": {"examples": [wandb.Image(np.eye(2))] * 2, "acc": 0.5},
                "predictions": table,
                "gradients": wandb.Histogram(np.array([0.0, 1.0, 1.0]), num_bins=2),
                "chart": plt,
            }
        )
    plt.close()
    session = the_session()
    assert stored(session)["curves"] == {
        "loss": {0: 1},
        "noise": {1: "a caption"},
        "val": {1: {"acc": 0.5}},
        "gradients": {1: {"values": [1, 2], "bins": [0.0, 0.5, 1.0]}},
    }
    names = ["noise.png", "val.examples/0.png", "val.examples/1.png", "predictions.table.json"]
    names += ["predictions/0-image.png", "chart.png"]
    assert sorted(session.artifacts) == sorted(names)
    assert {each.step for each in session.artifacts.values()} == {1}
    assert session.artifacts["predictions.table.json"].load() == {
        "columns": ["image", "label", "score"],
        "data": [["predictions/0-image", "cat", 0.5]],
    }
    pixels = np.asarray(pytest.importorskip("PIL.Image").open(session.artifacts["noise.png"].path))
    assert pixels.tolist() == [[0, 255]]


def test_artifacts_are_stored_with_what_describes_them(tmp_path):
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "x.txt").write_text("x")
    artifact = wandb.Artifact("train", type="dataset", metadata={"rows": 3})
    artifact.add_dir("data")
    artifact.add_file("data/deep/x.txt", name="copy.txt")
    artifact.add_reference("s3://bucket/more")
    with artifact.new_file("notes.txt") as file:
        file.write("notes")
    artifact.add(wandb.Table(columns=["a"], data=[[1]]), "table")
    with wandb.init() as run:
        assert run.log_artifact(artifact, aliases=["latest"]).wait() is artifact
        wandb.log_artifact("data", name="folder", type="dataset")
    session = the_session()
    assert set(session.artifacts) == {
        *("train/deep/x.txt", "train/copy.txt", "train/notes.txt", "train/table.table.json"),
        "folder/deep/x.txt",
    }
    assert session.artifacts["train/notes.txt"].load() == b"notes"
    assert session.meta["artifact train"] == {
        "type": "dataset",
        "metadata": {"rows": 3},
        "references": ["s3://bucket/more"],
        "aliases": ["latest"],
    }


def test_a_saved_file_is_stored_again_if_it_has_changed(tmp_path):
    (tmp_path / "model.pt").write_text("first")
    (tmp_path / "same.pt").write_text("same")
    with wandb.init():
        wandb.save("*.pt")
        (tmp_path / "model.pt").write_text("second")
        os.utime("model.pt", (1, 1))
    artifacts = the_session().artifacts
    assert [len(artifacts[name].history) for name in ("model.pt", "same.pt")] == [2, 1]
    assert artifacts["model.pt"].path.read_text() == "second"


def test_alerts_are_those_of_casket():
    with wandb.init() as run:
        wandb.alert("low", text="accuracy", level=wandb.AlertLevel.WARN)
        run.alert(title="info")
    alerts = [(each.title, each.text, each.level) for each in the_session().alerts]
    assert alerts == [("low", "accuracy", "warning"), ("info", "", "info")]


@pytest.mark.frameworks
def test_watch_logs_the_norms_of_a_module():
    torch = pytest.importorskip("torch")
    network = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters())
    with wandb.init():
        wandb.watch(network, log="all", log_freq=1)
        network(torch.ones(1)).backward()
        optimizer.step()
        wandb.unwatch()
        optimizer.step()
    (batch,) = the_session().batches
    assert batch["grad_norm"] == pytest.approx(2**0.5)


def test_a_command_of_a_sweep_logs_into_its_session(monkeypatch):
    model = Experiment.use("sweep.json", exp_id="sweep").model("net")
    session = model.session({"lr": 0.5})
    monkeypatch.setenv("CASKET_SESSION", f"{os.getcwd()}/sweep.json#{session.id}")
    with wandb.init(project="ignored", config={"lr": 0.1, "epochs": 2}) as run:
        assert dict(run.config) == {"lr": 0.5, "epochs": 2}
        run.log({"loss": 1})
    (view,) = model.sessions()
    assert (view.params, stored(view)["curves"]) == ({"lr": 0.5}, {"loss": {0: 1}})


@pytest.mark.parametrize("options", [{}, {"reinit": "create_new"}])
def test_later_runs_in_a_command_of_a_sweep_are_sessions_of_their_own(monkeypatch, options):
    model = Experiment.use("sweep.json", exp_id="sweep").model("net")
    for session in model.sweep({"lr": [0.5, 0.25]}):
        monkeypatch.setenv("CASKET_SESSION", f"{os.getcwd()}/sweep.json#{session.id}")
        first = wandb.init(project="test", config={"lr": 0.1})
        first.log({"loss": 1})
        if not options:
            first.finish()
        with wandb.init(project="test", config={"of": session.params["lr"]}, **options) as second:
            second.log({"accuracy": 0.5})
        first.finish()
    own = [(view.params, stored(view)["curves"], view.status) for view in model.sessions()]
    assert own == [({"lr": lr}, {"loss": {0: 1}}, "completed") for lr in (0.5, 0.25)]
    with casket.open("sweep.json") as runs:
        later = [(view.params, stored(view)["curves"]) for view in runs.sessions("test")]
    assert later == [({"of": lr}, {"accuracy": {0: 0.5}}) for lr in (0.5, 0.25)]


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("sweep", "model.sweep"),
        ("Api", "casket.open"),
        ("use_artifact", "artifacts"),
        ("keras", "DBCallback"),
        ("Video", "add_artifact"),
        ("unheard_of", "docs/logging.md"),
    ],
)
def test_a_name_that_is_lacking_says_what_there_is(name, instead):
    with pytest.raises(AttributeError, match=f"casket has no wandb.{name}: use .*{instead}"):
        getattr(wandb, name)
    assert not hasattr(wandb.init(), name)


def test_what_needs_a_server_is_one_warning():
    run = wandb.init(settings=wandb.Settings(silent=True))
    with pytest.warns(CasketWarning, match="wandb.login has no effect"):
        assert wandb.login() is True
    wandb.login(key="secret")
    with pytest.warns(CasketWarning, match="run.log_code has no effect"):
        run.log_code(".")


def test_a_call_before_init_names_init():
    for call in (lambda: wandb.log({"loss": 1}), lambda: wandb.config, lambda: wandb.summary):
        with pytest.raises(wandb.Error, match=r"call wandb.init\(\) first"):
            call()
    wandb.finish()


ENDS = """
import os, signal, sys
import casket_integrations.wandb as wandb
assert "wandb" not in sys.modules
wandb.init(project="digits")
wandb.define_metric("loss", summary="min")
for i in range(3):
    wandb.log({"loss": 3 - i}, commit=i > 0)
if sys.argv[1] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "raise":
    raise ValueError("no more")
if sys.argv[1] == "fork":
    child = os.fork()
    if child == 0:
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    wandb.log({"loss": 0.5}, step=1)
"""


def test_a_forked_child_does_not_end_the_run_of_its_parent():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ENDS, "fork"]
    subprocess.run(command, env=environment, check=True)
    session = the_session()
    assert (session.status, session.results("summary")) == (
        "completed",
        [{"loss": {"min": 0.5}}],
    )


@pytest.mark.parametrize(
    ("how", "code", "status"),
    [("end", 0, "completed"), ("raise", 1, "failed"), ("kill", -signal.SIGKILL, "killed")],
)
def test_a_script_without_finish_keeps_what_it_logged(how, code, status):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ENDS, how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == code
    session = the_session()
    assert (session.status, stored(session)["curves"]) == (status, {"loss": {0: 2, 1: 1}})
    summary = {} if how == "kill" else {"summary": {"loss": {"min": 1.0}}}
    assert stored(session).get("results", {}) == summary
