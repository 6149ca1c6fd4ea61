"""`casket tail`: current records, across processes."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

import casket
from casket import Experiment
from casket.cli.tail import pace_of, total_epochs
from casket.reading.casket import Casket
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def running(file_url):
    """A session that runs, of ten epochs the third of which was just logged."""
    experiment = Experiment.use(file_url, exp_id="digits")
    session = experiment.model("net").session({"lr": 0.1, "epochs": 10})
    for epoch in (1, 2, 3):
        time.sleep(0.05)
        session.add_epoch(epoch, {"loss": 1 / epoch})
    yield file_url, session
    session.end()
    experiment.close()


def test_running_sessions_with_rate_and_expected_end(run, running):
    url, session = running
    header, row = run("tail", url).splitlines()
    assert header.split()[:6] == ["session", "name", "model", "params", "epoch", "metrics"]
    assert row.split()[:7] == [
        session.id[:8], session.name, "net", "lr=0.1", "epochs=10", "3/10", "loss=0.3333333",
    ]  # fmt: skip
    assert "epochs/s" in row
    (running_session,) = run.json("tail", url)
    with casket.open(url) as runs:
        times = [row["timestamp"] for row in runs.session(session.id).epochs]
    first, _, last = map(datetime.fromisoformat, times)
    seconds = (last - first).total_seconds()
    assert running_session["epochs_per_second"] == pytest.approx(2 / seconds, rel=1e-4)
    end = datetime.fromisoformat(running_session["expected_end"])
    assert (end - last).total_seconds() == pytest.approx(7 * seconds / 2, rel=1e-4)


def test_when_nothing_runs_it_says_so(run, filled):
    assert "no session is running" in run.error("tail", filled, code=1)
    assert run.json("tail", filled) == []


WRITER = """
import sys, time
import casket
from casket import Experiment
from casket.cli.tail import pace_of, total_epochs
url, lr = sys.argv[1], float(sys.argv[2])
with Experiment.use(url, exp_id="digits").model("net").session({"lr": lr, "epochs": 4}) as session:
    for epoch in range(1, 5):
        for batch in range(100):
            session.add_batch(epoch * 100 + batch, {"loss": lr})
        session.add_epoch(epoch, {"loss": lr / epoch, "flag": [1, 2]})
        time.sleep(0.05)
    session.add_artifact("a.txt", b"x")
    session.add_result({"acc": 0.9}, index_by="test")
    if lr == 2:
        raise ValueError("diverged")
"""


ENDS = ("net completed", "net failed", '"kind": "end"', '"kind":"end"')


def followed(url, *options):
    """Follow while two other processes write, until both have ended; return the lines shown."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [
        sys.executable,
        "-m",
        "casket.cli.app",
        "tail",
        url,
        "-f",
        *options,
    ]
    following = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    # It shows records from the moment it has opened the file: write until it answers.
    knocking = Experiment.use(url, exp_id="digits").model("knock")
    while not select.select([following.stdout], [], [], 0.3)[0]:
        knocking.session({}, ensure_unique=False).end()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, lr], env=environment, stderr=subprocess.DEVNULL
        )
        for lr in ("1", "2")
    ]
    assert [writer.wait(PATIENCE) for writer in writers] == [0, 1]
    lines, ended = [], 0
    while ended < 2:
        line = following.stdout.readline().rstrip("\n")
        assert line, "it ended"
        if "knock" not in line:
            lines.append(line)
            ended += any(mark in line for mark in ENDS)
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=PATIENCE)
    return lines


def test_following_shows_what_several_processes_write(filled):
    lines = followed(filled)
    assert sum(" running lr=" in line for line in lines) == 2
    epochs = [line for line in lines if " epoch " in line]
    assert len(epochs) == 8
    assert any("epoch 4 loss=0.25" in line for line in epochs)
    assert all("ends " in line for line in epochs if "epoch 3" in line)
    assert not any("flag" in line for line in lines)
    # Batches come by the hundred; of each session, a batch per second is shown.
    with casket.open(filled) as runs:
        writing = [s.duration.total_seconds() for s in runs.sessions() if len(s.batches) == 400]
    assert len(writing) == 2
    assert 2 <= sum(" batch " in line for line in lines) <= sum(writing) + 2
    assert sum("artifact a.txt" in line for line in lines) == 2
    assert sum("result test acc=0.9" in line for line in lines) == 2
    assert sum(line.endswith("net completed") for line in lines) == 1
    assert sum(line.endswith("net failed ValueError: diverged") for line in lines) == 1


def test_following_as_json_gives_every_record(filled):
    records = [json.loads(line) for line in followed(filled, "--json")]
    kinds = [record["kind"] for record in records]
    assert kinds.count("batch") == 800
    assert kinds.count("epoch") == 8
    assert kinds.count("end") == 2
    assert {"writer", "n", "time", "body"} <= records[0].keys()


def test_what_comes_is_shown_as_it_comes(run, running, monkeypatch):
    """In this process, with a session that goes on as soon as it is followed."""
    url, session = running
    follow = Casket.follow

    def follow_and_go_on(runs, *args, **kwargs):
        followed = follow(runs, *args, **kwargs)
        session.add_batch(7, {"loss": 0.3})
        session.add_epoch(4, {"loss": 0.2, "nested": {"acc": 0.5}})
        session.add_result({"acc": 0.6})
        session.add_meta({"gpu": "A100"})
        return followed

    monkeypatch.setattr(Casket, "follow", follow_and_go_on)
    _, running_now, *lines = run("tail", url, "-f", "--timeout", "0.5").splitlines()
    assert "lr=0.1 epochs=10" in running_now
    head = rf"\d\d:\d\d:\d\d {session.id[:8]} {session.name} net "
    assert re.match(head + r"batch 7 loss=0.3$", lines[0])
    assert re.match(head + r"epoch 4 loss=0.2 nested.acc=0.5  \([\d.]+ .*, ends .*\)$", lines[1])
    assert re.match(head + r"result acc=0.6$", lines[2])
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("params", "total"),
    [
        ({"epochs": 3}, 3),
        ({"trainer": {"max_epochs": 7.0}}, 7),
        ({"n_epochs": 0}, None),
        ({"epochs": "many"}, None),
        ({"lr": 1}, None),
    ],
)
def test_params_may_say_how_many_epochs_there_will_be(memory, params, total):
    with memory.session(params):
        assert total_epochs(memory.sessions()[0]) == total


def test_without_two_epochs_there_is_no_rate(memory):
    with memory.session({"epochs": 3}) as session:
        session.add_epoch(1, {"loss": 0.1}, timestamp=False)
        session.add_epoch(2, {"loss": 0.1})
        pace = pace_of(memory.sessions()[0])
        assert pace == {"epochs_per_second": None, "expected_end": None}


def test_following_shows_the_params_and_says_that_a_job_was_killed(tmp_path):
    path = tmp_path / "runs.json"
    Experiment.use(path, exp_id="x").close()
    code = """
import sys, time
from casket import Experiment
session = Experiment.use(sys.argv[1], exp_id="x").model("m").session({"lr": 0.125})
session.add_epoch(1, {"loss": 0.5})
print("logged", flush=True)
time.sleep(600)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    job = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, env=environment
    )
    assert job.stdout.readline() == b"logged\n"
    tail = subprocess.Popen(
        [sys.executable, "-m", "casket.cli.app", "tail", "-f", str(path)],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    lines = [tail.stdout.readline(), tail.stdout.readline()]
    assert "lr=0.125" in lines[1]
    job.kill()
    job.wait()
    assert re.search(r"\w{8} [a-z]+-[a-z]+ m killed loss=0.5", tail.stdout.readline())
    tail.kill()
    tail.wait()
    tail.stdout.close()
    job.stdout.close()
