"""Experiments on a real server: training continues, and records arrive exactly once."""

import os
import pickle
import random
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

import pytest

import casket
from casket import (
    CasketWarning,
    ExistingParamsException,
    Experiment,
    StoreFull,
    StoreUnavailable,
)
from casket.cli.app import app
from casket.stores.remote import spool
from casket.stores.remote.journal import statuses
from tests.remote.conftest import SECRET
from tests.stores.files import mounted
from tests.waiting import IN_TIME, PATIENCE, eventually

ROOT = Path(__file__).parents[2]


def waiting():
    return sum(each.waiting for each in statuses())


def numbers(url):
    """The epochs of each session, in the order they stand in the store."""
    with casket.open(url) as runs:
        return {
            s.params.get("seed"): [row["epoch_num"] for row in s.epochs] for s in runs.sessions()
        }


def test_what_is_logged_is_in_the_store_when_the_session_has_ended(far):
    url = far.url
    model = Experiment.use(url, exp_id="digits", tags=["far"]).model("net", {"units": 8})
    with model.session({"seed": 1}) as session:
        for epoch in range(300):
            session.add_epoch(epoch, {"loss": 1 / (epoch + 1), "nan": float("nan")})
        session.add_artifact("a.txt", b"hello")
        session.add_result({"acc": 0.5}, index_by="test")
    assert waiting() == 0
    with casket.open(url) as runs:
        (seen,) = runs.sessions(tag="far")
        assert (seen.status, seen.config) == ("completed", {"units": 8})
        assert [row["epoch_num"] for row in seen.epochs] == list(range(300))
        assert seen.epochs[7]["loss"] == 1 / 8
        assert seen.artifacts["a.txt"].load() == b"hello"
        assert seen.results("test") == [{"acc": 0.5}]
    with pytest.raises(ExistingParamsException):
        model.session({"seed": 1})
    model.experiment.close()


def test_a_model_reads_what_it_has_just_written(far):
    url = far.url
    model = Experiment.use(url, exp_id="digits").model("net")
    with model.session({"seed": 1}) as session:
        session.add_epoch(1, {"loss": 0.5})
        assert model.sessions()[0].last["loss"] == 0.5
        assert model.sessions(status="running")[0].id == session.id
    model.experiment.close()


def test_training_goes_on_while_the_server_is_away_and_sync_ships_the_rest(far, capsys):
    url, server = far.url, far.server
    experiment = Experiment.use(url, exp_id="digits", flush_timeout=0.5)
    session = experiment.model("net").session({"seed": 1})
    session.add_epoch(0, {"loss": 1.0})
    server.stop()
    try:
        begun = time.monotonic()
        for epoch in range(1, 200):
            session.add_epoch(epoch, {"loss": 1.0})
        assert time.monotonic() - begun < IN_TIME  # 100 s if each waited for `flush_timeout`
        with pytest.warns(CasketWarning, match=r"records wait for \w+://") as warned:
            session.end()
        assert SECRET not in str(warned[0].message)
        assert "casket sync" in str(warned[0].message)
        experiment.close()
        # The end, and all epochs but perhaps the first.
        assert 200 <= waiting() <= 202
    finally:
        server.start()
    with pytest.raises(SystemExit) as left:
        app(["sync", url])
    assert left.value.code == 0
    assert waiting() == 0
    assert numbers(url) == {1: list(range(200))}
    assert SECRET not in capsys.readouterr().err


def test_a_server_that_comes_back_gets_the_rest_by_itself(far):
    url, server = far.url, far.server
    experiment = Experiment.use(url, exp_id="digits")
    with experiment.model("net").session({"seed": 1}) as session:
        for epoch in range(150):
            session.add_epoch(epoch, {"loss": 1.0})
            if epoch == 50:
                server.stop()
            if epoch == 100:
                server.start()
    assert waiting() == 0
    assert numbers(url) == {1: list(range(150))}
    experiment.close()


def test_a_server_killed_in_mid_flight_loses_nothing_and_gets_nothing_twice(far):
    url, server, moments = far.url, far.server, random.Random(3)
    experiment = Experiment.use(url, exp_id="digits")
    with experiment.model("net").session({"seed": 1}) as session:
        for epoch in range(1200):
            session.add_epoch(epoch, {"loss": 1.0})
            if epoch % 400 == 200:
                time.sleep(moments.uniform(0.1, 0.4))  # the sender gathers for a quarter second
                server.kill()
                server.start()
    assert waiting() == 0
    assert numbers(url) == {1: list(range(1200))}
    experiment.close()


WRITER = """
import sys, warnings
from casket import Experiment
warnings.simplefilter("ignore")
url, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Experiment.use(url, exp_id="digits").model("net").session({"seed": seed}) as session:
    for epoch in range(count):
        session.add_epoch(epoch, {"loss": 1.0})
        if epoch % 50 == 0:
            print(epoch, flush=True)
"""


def writer(url, seed, count=100_000, **options):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, url, str(seed), str(count)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize("lines", [1, 20])
def test_what_a_killed_process_had_logged_is_shipped_by_the_next(far, lines):
    url = far.url
    process = writer(url, 1)
    for _ in range(lines):
        acknowledged = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    model = Experiment.use(url, exp_id="digits", sync_every=0.2).model("net")
    with model.session({"seed": 2}) as session:
        session.add_epoch(0, {"loss": 0.0})
        eventually(lambda: waiting() == 0)
    epochs = numbers(url)[1]
    assert epochs == list(range(len(epochs)))
    assert len(epochs) > acknowledged
    with casket.open(url) as runs:
        assert [s.status for s in runs.sessions()] == ["killed", "completed"]


def test_eight_processes_write_at_once(far):
    url = far.url
    processes = [writer(url, seed, 200) for seed in range(8)]
    for process in processes:
        process.communicate(timeout=PATIENCE)
    assert [process.returncode for process in processes] == [0] * 8
    assert numbers(url) == {seed: list(range(200)) for seed in range(8)}
    assert waiting() == 0


CONTENDER = """
import sys, warnings
from casket import ExistingParamsException, Experiment
warnings.simplefilter("ignore")
model = Experiment.use(sys.argv[1], exp_id="digits").model("net")
for seed in range(20):
    try:
        with model.session({"seed": seed}) as session:
            session.add_epoch(0, {"loss": 1.0})
            print(seed)
    except ExistingParamsException:
        pass
"""


def test_twenty_contested_sessions_are_each_won_once(far):
    url = far.url
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDER, url], env=environment, stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    won = b"".join(process.communicate(timeout=PATIENCE)[0] for process in processes)
    assert sorted(map(int, won.split())) == list(range(20))
    assert numbers(url) == {seed: [0] for seed in range(20)}


def test_without_the_server_a_session_is_refused_or_allowed_and_a_clash_is_marked(
    url, server, monkeypatch
):
    monkeypatch.setattr(spool, "PAUSES", (0.05,))
    Experiment.use(url, exp_id="digits").model("net").session({"seed": 1}).end()
    options = {"exp_id": "digits", "flush_timeout": 0.2}
    refusing = Experiment.use(url, **options).model("net")
    allowing = Experiment.use(url, offline="allow", **options).model("net")
    server.stop()
    try:
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable) as refused:
            refusing.session({"seed": 2})
        assert 'offline="allow"' in str(refused.value)
        assert "Errno" not in str(refused.value)
        assert time.monotonic() - begun < IN_TIME
        assert SECRET not in "".join(traceback.format_exception(refused.value))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CasketWarning)
            for seed in (1, 3):
                with allowing.session({"seed": seed}) as session:
                    session.add_epoch(0, {"loss": 1.0})
            with allowing.session({"seed": 3}, ensure_unique=False) as session:
                session.add_epoch(1, {"loss": 0.5})
            allowing.experiment.close()
    finally:
        server.start()
    with pytest.raises(SystemExit) as left:
        app(["sync", url])
    assert left.value.code == 0
    with casket.open(url) as runs:
        first, clashing, fine = runs.sessions()
    assert clashing.meta["clash"] == first.id
    assert (clashing.status, len(clashing.epochs)) == ("completed", 1)
    assert "clash" not in fine.meta
    assert [row["epoch_num"] for row in fine.epochs] == [0, 1]


def test_the_secret_is_nowhere(url, tmp_path, capfd, caplog):
    experiment = Experiment.use(url, exp_id="digits")
    model = experiment.model("net")
    with model.session({"seed": 1}) as session:
        session.add_epoch(0, {"loss": 1.0})
        shown = [repr(experiment), repr(model), repr(session), str(experiment.backend.location)]
        with casket.open(url) as runs:
            shown += [repr(runs), repr(runs.sessions()[0].meta)]
    assert not [text for text in shown if SECRET in text]
    assert SECRET.encode() not in pickle.dumps(experiment)
    experiment.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert SECRET not in caplog.text
    assert not any(SECRET in text for text in capfd.readouterr())


def test_a_pickled_handle_finds_the_password_where_the_driver_looks(url, monkeypatch):
    experiment = Experiment.use(url, exp_id="digits")
    text = pickle.dumps(experiment.model("net"))
    experiment.close()
    monkeypatch.setenv("PGPASSWORD", SECRET)
    model = pickle.loads(text)
    with model.session({"seed": 5}) as session:
        session.add_epoch(0, {"loss": 1.0})
    assert numbers(url)[5] == [0]
    model.experiment.close()


def test_status_lists_what_waits_and_who_holds_it(url, server, capsys, monkeypatch):
    experiment = Experiment.use(url, exp_id="digits", flush_timeout=0.1)
    session = experiment.model("net").session({"seed": 1})
    server.stop()
    try:
        session.add_epoch(0, {"loss": 1.0})
        app(["sync", "--status"], standalone_mode=False)
        shown = capsys.readouterr().out
        assert "postgresql://guest@" in shown
        assert "a running process" in shown
        with pytest.warns(CasketWarning):
            session.end()
        experiment.close()
        app(["sync", "--status"], standalone_mode=False)
        assert "casket sync ships it" in capsys.readouterr().out
        with pytest.raises(SystemExit) as left:
            app(["sync", url])
        assert left.value.code == 1
        assert SECRET not in str(capsys.readouterr())
    finally:
        server.start()


FORK = """
import os, sys, warnings
from casket import Experiment
warnings.simplefilter("ignore")
model = Experiment.use(sys.argv[1], exp_id="digits").model("net")
with model.session({"seed": 1}) as session:
    for epoch in range(20):
        session.add_epoch(epoch, {"loss": 1.0})
    children = []
    for child in (1, 2):
        pid = os.fork()
        if pid == 0:
            with model.session({"seed": 10 + child}) as own:
                for epoch in range(20):
                    own.add_epoch(epoch, {"loss": 1.0})
                    session.add_batch(100 * child + epoch, {"loss": 1.0})
            sys.exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_children_log_for_themselves_and_into_the_parents_session(url, run_python):
    run_python(FORK, url)
    assert numbers(url) == {seed: list(range(20)) for seed in (1, 11, 12)}
    with casket.open(url) as runs:
        parent = runs.sessions(where="params.seed == 1")[0]
        assert sorted(b["batch_num"] for b in parent.batches) == [
            *range(100, 120), *range(200, 220),
        ]  # fmt: skip
        assert parent.status == "completed"
    assert waiting() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small file system")
def test_a_full_disk_under_the_journal_is_a_clear_error_and_loses_nothing(
    url, tmp_path, monkeypatch
):
    logged = [0]

    def log():
        session.add_epoch(len(logged), {"loss": 1.0})
        logged.append(len(logged))

    def log_on():
        while len(logged) < 1000:
            log()

    (tmp_path / "small").mkdir()
    with mounted(tmp_path / "small", "size=256k"):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "small"))
        experiment = Experiment.use(url, exp_id="digits")
        session = experiment.model("net").session({"seed": 1})
        session.add_epoch(0, {"loss": 1.0})
        ballast = tmp_path / "small" / "ballast"
        with pytest.raises(OSError, match="space"):
            ballast.write_bytes(bytes(2**20))
        with pytest.raises(StoreFull, match="make room"):
            log_on()
        ballast.unlink()
        log()
        session.end()
        experiment.close()
    assert numbers(url) == {1: logged}
