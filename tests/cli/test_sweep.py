"""`casket sweep`: a command for each set of params."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest

import casket
from casket.cli.sets import sets_of
from casket.writing.commands import Commands, filled
from casket.writing.sweep import Sweep
from tests.waiting import PATIENCE, eventually

TRAIN = """
import sys, casket
with casket.attach() as session:
    session.add_epoch(1, {"loss": float(sys.argv[1])})
print("trained with", sys.argv[1])
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CASKET_SESSION", raising=False)
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def swept(*command, options=("--grid", "lr=0.5,0.25")):
    return ("sweep", "runs.json", "-e", "e", "-m", "m", *options, "--", *map(str, command))


def sessions():
    with casket.open("runs.json") as runs:
        return runs.sessions()


def test_a_script_logs_into_the_session_of_its_set(folder, run):
    run(*swept(sys.executable, "train.py", "{lr}"))
    logged = [(view.params, view.status, view.last["loss"]) for view in sessions()]
    assert logged == [({"lr": lr}, "completed", lr) for lr in (0.5, 0.25)]
    outputs = [view.artifacts["output.txt"].path.read_text() for view in sessions()]
    assert outputs == ["trained with 0.5\n", "trained with 0.25\n"]
    assert [view.meta["exit_code"] for view in sessions()] == [0, 0]


def test_a_command_that_does_not_attach_leaves_its_exit_code_and_output(folder, run):
    run(
        *swept("sh", "-c", "echo {lr}; exit 3", options=("--grid", "lr=1", "--retries", "0")),
        code=1,
    )
    [view] = sessions()
    assert (view.status, view.meta["exit_code"], view.error) == ("failed", 3, "exit code 3: 1")
    assert view.artifacts["output.txt"].path.read_text() == "1\n"


def test_a_script_that_fails_after_its_session_has_ended_fails_the_session(folder, run):
    (folder / "train.py").write_text(f"{TRAIN}sys.exit(3)")
    options = ("--grid", "lr=1", "--retries", "0")
    run(*swept(sys.executable, "train.py", "{lr}", options=options), code=1)
    [view] = sessions()
    assert (view.status, view.error) == ("failed", "exit code 3: trained with 1")


def test_a_failing_command_is_tried_again(folder, run):
    attempt = "test -e tried-{lr} && exit 0; touch tried-{lr}; exit 1"
    run(*swept("sh", "-c", attempt))
    assert [view.status for view in sessions()] == ["failed", "completed"] * 2


def test_a_command_that_cannot_be_started_fails_its_session(folder, run):
    run(*swept("./absent", options=("--grid", "lr=1", "--retries", "0")), code=1)
    [view] = sessions()
    assert view.status == "failed"
    assert "./absent" in view.error


def test_a_second_start_runs_nothing(folder, run):
    run(*swept("true"))
    assert run(*swept("false")).startswith("2 of 2 done")
    assert len(sessions()) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["--grid", "n=0:2"], ["--grid", "n=0:3"]),
        (["--grid", "n=1"], ["--grid", "n=0:3", "--where", "n > 0"]),
        (["--grid", "n=0:2"], ["--grid", "n=0:9", "--until", "n == 1"]),
        (["--grid", "n=0:2"], ["--random", "9", "--space", "n=0,1"]),
    ],
    ids=["extended", "where", "until", "repeated draws"],
)
def test_the_exit_code_is_0_if_all_sets_are_completed_by_whatever_sweep(folder, run, first, second):
    run(*swept("true", options=first))
    run(*swept("true", options=second), code=0)


def test_jobs_run_at_a_time(folder, run):
    # Each command waits until the other has begun.
    meet = "touch {lr}; for i in $(seq 6000); do test -e 0.5 -a -e 0.25 && exit; sleep 0.1; done"
    run(*swept("sh", "-c", meet, options=("--grid", "lr=0.5,0.25", "--jobs", "2")))
    assert [view.status for view in sessions()] == ["completed"] * 2


def test_gpus_are_given_in_turn(folder, run):
    options = ("--grid", "n=0:4", "--jobs", "2", "--gpus", "3,5")
    run(*swept("sh", "-c", "echo $CUDA_VISIBLE_DEVICES", options=options))
    used = {view.artifacts["output.txt"].path.read_text().strip() for view in sessions()}
    assert used <= {"3", "5"}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (swept(), "after --"),
        (swept("echo", "{rate}"), "rate"),
        (swept("true", options=()), "--grid"),
        (swept("true", options=("--grid", "lr")), "NAME=VALUES"),
        (swept("true", options=("--random", "3")), "--space"),
        (swept("true", options=("--grid", "lr=1", "--where", "rate > 1")), "rate"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_written(folder, run, words, named):
    assert named in run.error(*words)
    assert not Path("runs.json").exists() or not sessions()


def sets(**given):
    return sets_of(
        **{"grid": (), "params_file": None, "draws": None, "space": (), "seed": 0, **given}
    )


def test_values_of_a_grid():
    grid = ("lr=0.1,1e-2", "seed=0:3", "n=10:0:-5", "opt=adam,sgd", "flag=true,False", "none=null")
    assert sets(grid=grid) == {
        "lr": [0.1, 0.01],
        "seed": [0, 1, 2],
        "n": [10, 5],
        "opt": ["adam", "sgd"],
        "flag": [True, False],
        "none": [None],
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sets.json", '[{"lr": 0.1, "opt": "adam"}, {"lr": 1}]'),
        ("sets.yaml", "- {lr: 0.1, opt: adam}\n- {lr: 1}\n"),
        ("sets.csv", "lr,opt\n0.1,adam\n1,\n"),
    ],
)
def test_sets_are_read_from_files(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert sets(params_file=path) == [{"lr": 0.1, "opt": "adam"}, {"lr": 1}]


def test_random_sets_are_the_same_in_every_process():
    space = ("lr=loguniform(1e-5,1e-1)", "units=randint(8,64)", "drop=uniform(0,0.5)", "opt=a,b")
    drawn = sets(draws=50, space=space)
    assert drawn == sets(draws=50, space=space) != sets(draws=50, space=space, seed=1)
    assert all(1e-5 <= each["lr"] <= 1e-1 and 8 <= each["units"] <= 64 for each in drawn)
    assert {each["opt"] for each in drawn} == {"a", "b"}


@pytest.mark.parametrize(
    "given",
    [
        {"grid": ("seed=0:1000000000000",)},
        {"grid": ("seed=0:5:0",)},
        {"grid": ("seed=5:0",)},
        {"grid": ("h=(32,64",)},
        {"grid": ("lr=1", "lr=2")},
        {"draws": 3, "space": ("lr=loguniform(0,1)",)},
        {"draws": 3, "space": ("lr=randint(5,1)",)},
        {"draws": 3, "space": ("lr=loguniform(1e-4,abc)",)},
    ],
)
def test_values_that_make_no_sense_are_refused(given):
    with pytest.raises(click.UsageError):
        sets(**given)


def test_values_may_be_json():
    assert sets(grid=("h=[32,64],[16]", 'text="a(b)",c')) == {
        "h": [[32, 64], [16]],
        "text": ["a(b)", "c"],
    }


def test_only_names_of_params_are_placeholders():
    params = {"lr": 0.1, "opt": {"name": "adam"}}
    assert filled('{lr} {opt.name} {other} {"lr": 1}', params) == '0.1 adam {other} {"lr": 1}'


def test_ls_shows_the_progress_of_sweeps(folder, run):
    run(*swept(sys.executable, "train.py", "{lr}"))
    shown = run("ls", "--sweep", "runs.json")
    assert "2 of 2" in shown
    assert "loss 0.25" in shown
    [sweep] = run.json("ls", "--sweep", "runs.json")
    best = sessions()[1].id
    assert (sweep["size"], sweep["done"], sweep["running"], sweep["failed"]) == (2, 2, [], 0)
    assert sweep["best"] == {"metric": "loss", "value": 0.25, "session": best}


def test_a_sweep_in_progress_shows_what_runs(folder, run):
    model = casket.Experiment.use("runs.json", exp_id="e").model("m")
    sweep = model.sweep({"n": range(4)})
    with next(sweep):
        pass
    session = next(sweep)
    [shown] = run.json("ls", "--sweep", "runs.json")
    assert (shown["done"], shown["running"]) == (1, [session.id])
    assert shown["expected_end"] is not None
    worker = {"host": socket.gethostname(), "pid": os.getpid()}
    assert shown["workers"] == [{**worker, "session": session.id, "params": {"n": 1}}]
    assert f"{worker['host']}:{worker['pid']}" in run("ls", "--sweep", "runs.json")
    assert session.id[:8] in run("ls", "--sweep", "runs.json")
    sweep.close()
    [shown] = run.json("ls", "--sweep", "runs.json")
    assert (shown["running"], shown["failed"]) == ([], 1)


def test_ls_shows_which_params_of_a_sweep_matter(folder, run):
    model = casket.Experiment.use("runs.json", exp_id="e").model("m")
    for session in model.sweep({"lr": [0.1, 0.2, 0.3], "seed": range(4)}):
        with session:
            session.add_epoch(1, {"loss": session.params["lr"] + session.params["seed"] / 1000})
    [sweep] = run.json("ls", "--sweep", "runs.json")
    assert list(sweep["importance"]) == ["lr", "seed"]
    assert sweep["importance"]["lr"] > 0.99
    assert sweep["importance"]["seed"] == 0
    assert "lr 100 %" in run("ls", "--sweep", "runs.json")


def test_a_terminal_shows_the_progress_without_leavings(folder, terminal):
    # Long enough to be drawn several times.
    _, shown = terminal(*swept("sleep", "1.2", options=("--grid", "n=0:2", "--jobs", "2")))
    assert "2 of 2 done" in shown
    assert "\u241b" not in shown


# Ctrl-C


def started(folder, jobs):
    """Start a sweep whose commands run until a file exists, and wait until `jobs` of them run."""
    wait = "echo $$ > started-{n}; for i in $(seq 6000); do test -e go && exit; sleep 0.1; done"
    words = ("--grid", "n=0:4", "--jobs", str(jobs), "--retries", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "casket", *swept("sh", "-c", wait, options=words)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: len(commands_of(folder)) == jobs)
    return process


def commands_of(folder):
    """Return the ids of the processes that the sweep started."""
    return [int(text) for path in folder.glob("started-*") if (text := path.read_text())]


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def statuses():
    return sorted(view.status for view in sessions())


def test_ctrl_c_once_waits_for_the_running_commands(folder):
    with started(folder, 2) as process:
        os.kill(process.pid, signal.SIGINT)
        assert "waiting" in process.stderr.readline()
        assert all(map(is_running, commands_of(folder)))
        (folder / "go").touch()
        assert process.wait(PATIENCE) == 130
    assert statuses() == ["completed", "completed"]


def interrupt_twice(process):
    process.send_signal(signal.SIGINT)
    assert "waiting" in process.stderr.readline()  # two pending signals would be one
    process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("end", [interrupt_twice, subprocess.Popen.terminate])
def test_ctrl_c_twice_and_sigterm_end_the_running_commands_as_killed(folder, end):
    with started(folder, 2) as process:
        end(process)
        assert process.wait(PATIENCE) == 130
    assert statuses() == ["killed", "killed"]
    assert not any(map(is_running, commands_of(folder)))


def test_a_command_that_ignores_sigterm_is_killed(folder, monkeypatch):
    monkeypatch.setattr("casket.writing.commands.TERMINATING", 0.1)
    model = casket.Experiment.use("runs.json", exp_id="e").model("m")
    ignore = "trap '' TERM; echo $$ > started-{n}; for i in $(seq 6000); do sleep 0.1; done"
    stopping = threading.Event()
    sweep = iter(Sweep(model, {"n": [0]}, stopping=stopping))
    commands = Commands([sweep], ["sh", "-c", ignore], lambda *_: {}, stopping)
    eventually(lambda: commands_of(folder))
    commands.terminate()
    eventually(lambda: commands.wait(0.1))
    assert statuses() == ["killed"]
    assert not any(map(is_running, commands_of(folder)))


def test_the_rest_is_left_to_the_next_start(folder, run):
    with started(folder, 1) as process:
        process.terminate()
        process.wait(PATIENCE)
    run(*swept("true", options=("--grid", "n=0:4")))
    assert statuses() == ["completed"] * 4 + ["killed"]


def test_attach_outside_a_sweep_says_how_to_run_the_script(folder):
    with pytest.raises(casket.CasketError, match="casket sweep"):
        casket.attach()


def test_attach_returns_one_handle(folder, monkeypatch):
    model = casket.Experiment.use("runs.json", exp_id="e").model("m")
    session = model.session({"lr": 1})
    monkeypatch.setenv("CASKET_SESSION", f"{folder / 'runs.json'}#{session.id}")
    attached = casket.attach()
    assert attached is casket.attach()
    assert (attached.id, attached.params) == (session.id, {"lr": 1})
    attached.end()
    session.end()
    assert json.loads((folder / "runs.json").read_text())
