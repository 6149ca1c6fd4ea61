"""Jobs of schedulers: what a session stores of them, and what a requeued job takes over."""

import os
import signal
import subprocess
import sys

import pytest

import casket
from casket import CasketError, ExistingParamsException, Experiment
from casket.system import processes
from casket.system.jobs import this_job


@pytest.fixture(autouse=True)
def outside_a_job(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "PBS_", "LSB_", "SGE_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({"SLURM_JOB_ID": "7"}, ("slurm", "7", None, 0)),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}, ("slurm", "7", None, 2)),
        (
            {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"},
            ("slurm", "7", 3, 0),
        ),
        ({"PBS_JOBID": "12.server"}, ("pbs", "12", None, None)),
        ({"PBS_JOBID": "12[4].server", "PBS_ARRAY_INDEX": "4"}, ("pbs", "12", 4, None)),
        ({"PBS_JOBID": "12[4].server"}, ("pbs", "12", 4, None)),
        ({"LSB_JOBID": "5", "LSB_JOBINDEX": "0"}, ("lsf", "5", None, 0)),
        ({"LSB_JOBID": "5", "LSB_JOBINDEX": "2", "LSB_RESTART": "Y"}, ("lsf", "5", 2, 1)),
        ({"JOB_ID": "3", "SGE_TASK_ID": "undefined", "RESTARTED": "1"}, ("sge", "3", None, 1)),
        ({"JOB_ID": "3", "SGE_TASK_ID": "6"}, ("sge", "3", 6, 0)),
    ],
)
def test_the_job_is_in_the_meta_of_a_session(environment, job, monkeypatch, tmp_path):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with Experiment.use(tmp_path / "runs.json", exp_id="e").model("m").session():
        pass
    with casket.open(tmp_path / "runs.json") as runs:
        [view] = runs.sessions()
    names = ("scheduler", "id", "array_index", "restart")
    assert view.meta["job"] == dict(zip(names, job, strict=True))


@pytest.mark.parametrize("environment", [{}, {"JOB_ID": "3"}, {"PBS_JOBID": "none"}])
def test_outside_a_job_there_is_none(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert this_job() is None


@pytest.fixture(params=["runs.json", "runs.sqlite"])
def elsewhere(request, tmp_path, monkeypatch):
    """A file with a session of job 7, that runs on another host for all that is known."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "one")
    path = tmp_path / request.param
    real = processes.host_name
    monkeypatch.setattr(processes, "host_name", lambda: "another")
    session = Experiment.use(path, exp_id="e").model("m").session({"lr": 1})
    session.add_epoch(1, {"loss": 0.5})
    monkeypatch.setattr(processes, "host_name", real)
    return path


def model(path):
    return Experiment.use(path, exp_id="e").model("m")


def test_a_requeued_job_takes_over_its_own_session(elsewhere, monkeypatch):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with model(elsewhere).session({"lr": 1}):
        pass
    assert [view.status for view in model(elsewhere).sessions()] == ["killed", "completed"]


@pytest.mark.parametrize(
    "go_on",
    [
        lambda model: model.session({"lr": 1}, ensure_unique=False),
        lambda model: model.resume_last({"lr": 1}),
    ],
)
def test_a_requeued_job_continues_its_own_session(elsewhere, monkeypatch, go_on):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with go_on(model(elsewhere)) as session:
        assert (session.is_continued, session.last_epoch) == (True, 1)
        [view] = model(elsewhere).sessions()
        assert (view.status, view.restart) == ("running", 1)
    assert [view.status for view in model(elsewhere).sessions()] == ["completed"]


@pytest.mark.parametrize(
    "other",
    [
        {"SLURM_JOB_ID": "8", "SLURM_RESTART_COUNT": "1"},
        {"SLURM_RESTART_COUNT": "0"},
        {"SLURM_CLUSTER_NAME": "two", "SLURM_RESTART_COUNT": "1"},
        {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "SLURM_RESTART_COUNT": "1"},
    ],
)
def test_another_job_does_not_take_it_over(elsewhere, monkeypatch, other):
    for name, value in other.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ExistingParamsException):
        model(elsewhere).session({"lr": 1})


# A scheduler that requeues: it runs a script, ends it by a signal, and runs it again.

SCRIPT = """
import sys, time
from pathlib import Path
import casket

casket.on_preemption(lambda: sys.exit(75))
model = casket.Experiment.use("runs.json", exp_id="e").model("m")
for session in model.sweep({"n": range(3)}, wait=True):
    with session:
        if not Path("preempted").exists():
            print("running", flush=True)
            time.sleep(600)
        session.add_result({"n": session.params["n"]})
"""


def sbatch(folder, number, restart, **options):
    environment = {"SLURM_JOB_ID": str(number), "SLURM_RESTART_COUNT": str(restart)}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=folder, env={**os.environ, **environment}, **options
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL])
def test_a_requeued_job_runs_what_its_preemption_interrupted(tmp_path, how):
    with sbatch(tmp_path, 7, 0, stdout=subprocess.PIPE) as job:
        assert job.stdout.readline() == b"running\n"
        (tmp_path / "preempted").touch()
        job.send_signal(how)
        assert job.wait() == (-how if how is signal.SIGKILL else 75)
    with sbatch(tmp_path, 7, 1) as job:
        assert job.wait() == 0
    with casket.open(tmp_path / "runs.json") as runs:
        assert [view.status for view in runs.sessions()][1:] == ["completed"] * 3
        assert runs.sessions()[0].status == ("killed" if how is signal.SIGKILL else "failed")


def test_on_preemption_calls_an_earlier_handler_and_can_be_taken_back():
    called = []
    before = signal.signal(signal.SIGUSR1, lambda *_: called.append("earlier"))
    try:
        restore = casket.on_preemption(lambda: called.append("callback"))
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        restore()
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert called == ["callback", "earlier", "earlier", "earlier"]


def test_on_preemption_outside_the_main_thread_is_refused():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool, pytest.raises(CasketError, match="main thread"):
        pool.submit(casket.on_preemption, print).result()
