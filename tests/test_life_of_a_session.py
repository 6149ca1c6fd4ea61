"""Sessions that are continued, repeated, contested, left, copied and merged.

Every order of steps is tried in `tests/life`; here are the situations that were reported.
"""

import os
import shutil
import subprocess
import sys
import time
from datetime import timedelta

import pytest

import casket
from casket import ExistingParamsException, Experiment, NoSuchSession, Session
from casket.maintenance.doctor import examine
from casket.maintenance.merging import add_missing
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from casket.system import processes

PARAMS = {"lr": 0.1}


@pytest.fixture(params=["runs.json", "runs.sqlite", ":memory:"])
def model(request, tmp_path):
    url = request.param if request.param == ":memory:" else tmp_path / request.param
    return Experiment.use(url, exp_id="exp").model("net")


@pytest.fixture(params=["runs.json", "runs.sqlite"])
def path(request, tmp_path):
    return tmp_path / request.param


def gone(monkeypatch, meanwhile=lambda: None):
    """Let every process be gone, after something happened that nobody has read yet."""

    def is_alive(process):
        meanwhile()
        return False

    monkeypatch.setattr(processes, "is_alive", is_alive)


@pytest.mark.parametrize("how", ["unique", "resumed"])
def test_a_winner_that_completes_and_leaves_stays_completed(model, monkeypatch, how):
    winner = model.session(PARAMS)
    gone(monkeypatch, winner.end)
    if how == "unique":
        with pytest.raises(ExistingParamsException) as refused:
            model.session(PARAMS)
        assert refused.value.session.status == "completed"
    else:
        model.resume_last(PARAMS)
    ends = [r for _, r in model.backend.store.records(kinds={"end"})]
    assert [end["body"]["status"] for end in ends] == ["completed"]


def test_a_reader_calls_no_session_killed_that_completes_meanwhile(model, monkeypatch):
    session = model.session(PARAMS)
    gone(monkeypatch, session.end)
    assert [view.status for view in model.sessions()] == ["completed"]


def test_a_session_that_is_not_read_to_its_end_is_not_killed(path, monkeypatch):
    model = Experiment.use(path, exp_id="exp").model("net")
    with model.session(PARAMS) as session:
        for epoch in range(1000):
            session.add_epoch(epoch, {"loss": 0.5})
    gone(monkeypatch)
    with casket.open(path) as runs:
        reader = runs.reader
        reader._begin_anew()
        for _ in reader.chunks():
            assert {view.status for view in reader.fold.sessions.values()} <= {
                "running",
                "completed",
            }


def test_a_completed_session_that_failed_when_it_was_continued_may_be_run_again(model):
    with model.session(PARAMS):
        pass
    with pytest.raises(KeyboardInterrupt), model.session(PARAMS, ensure_unique=False):
        raise KeyboardInterrupt
    assert [view.status for view in model.sessions()] == ["failed"]
    with model.session(PARAMS):
        pass
    assert [view.status for view in model.sessions()] == ["failed", "completed"]


def test_a_completed_session_that_was_killed_when_it_was_continued_may_be_run_again(
    model, monkeypatch
):
    with model.session(PARAMS):
        pass
    model.session(PARAMS, ensure_unique=False)
    gone(monkeypatch)
    with model.session(PARAMS):
        pass
    assert [view.status for view in model.sessions()] == ["killed", "completed"]


def test_a_claim_that_nothing_explains_is_an_error_and_no_endless_loop(model, monkeypatch):
    from casket.stores.base import Claimed

    def refuse(records, claim=None):
        raise Claimed("nobody")

    monkeypatch.setattr(model.backend.store, "append", refuse)
    for options in ({}, {"ensure_unique": False}):
        with pytest.raises(casket.CasketError, match="do not show why"):
            model.session(PARAMS, **options)


def test_what_first_ran_keeps_its_name(model, monkeypatch):
    with model.session(PARAMS):
        pass
    first = model.sessions()[0].meta
    monkeypatch.setattr("casket.writing.provenance._command_line", lambda: ["resume.py"])
    for note in ("second", "third"):
        with model.session(PARAMS, ensure_unique=False) as session:
            session.add_meta({"note": note})
    (view,) = model.sessions()
    later = view.meta["starts"]
    assert {name: view.meta[name] for name in first} == first
    assert [start["command_line"] for start in later] == [["resume.py"]] * 2
    assert later[0]["start"] < later[1]["start"]
    assert view.meta["note"] == "third"


def test_duration_is_the_time_at_work_and_span_the_whole(model):
    with model.session(PARAMS):
        pass
    time.sleep(0.3)
    with model.session(PARAMS, ensure_unique=False):
        pass
    (view,) = model.sessions()
    assert view.span - view.duration >= timedelta(seconds=0.3)
    assert view.started + view.span == view.ended


def test_repetitions_are_counted_and_plain_params_still_refused(model):
    repeats = []
    for _ in range(3):
        with model.session(PARAMS, repeat=True):
            pass
    with pytest.raises(RuntimeError), model.session(PARAMS, repeat=True):
        raise RuntimeError
    repeats = [view.meta.get("repeat") for view in model.sessions()]
    assert repeats == [None, 1, 2, 3]
    with pytest.raises(ExistingParamsException):
        model.session(PARAMS)


def test_a_session_is_resumed_by_the_beginning_of_its_id(model):
    failed = model.session(PARAMS)
    failed.add_epoch(3, {"loss": 0.5})
    failed.add_batch(17, {"loss": 0.5})
    failed.end("failed", error="ValueError: diverged")
    assert not failed.is_continued
    with model.resume(failed.id[:6]) as resumed:
        assert (resumed.id, resumed.params, resumed.is_continued) == (failed.id, PARAMS, True)
        assert (resumed.last_epoch, resumed.last_batch) == (3, 17)
    assert [view.status for view in model.sessions()] == ["completed"]


@pytest.mark.parametrize("begin", ["x", ""])
def test_an_id_that_means_no_session_or_several_is_refused(model, begin):
    for n in range(2):
        model.add_result({"acc": 1}, {"n": n})
    with pytest.raises(NoSuchSession, match="ambiguous" if not begin else "no session of model"):
        model.resume(begin)


def test_what_resumes_joins_no_session_that_runs(model):
    running = model.session(PARAMS)
    with model.resume_last(PARAMS) as other:
        assert other.id != running.id
    with model.resume_last(PARAMS) as again:
        assert again.id == other.id
    running.end()
    assert [view.meta.get("repeat") for view in model.sessions()] == [None, 1]


class Meanwhile:
    """A store in which something else happens just before the first append."""

    def __init__(self, store, meanwhile):
        self._store = store
        self._meanwhile = [meanwhile]

    def append(self, records, /, *, claim=None):
        while self._meanwhile:
            self._meanwhile.pop()()
        return self._store.append(records, claim=claim)

    def __getattr__(self, name):
        return getattr(self._store, name)


BEGINNINGS = {
    "unique": lambda model, _: model.session(PARAMS),
    "continued": lambda model, _: model.session(PARAMS, ensure_unique=False),
    "repeated": lambda model, _: model.session(PARAMS, repeat=True),
    "resumed": lambda model, _: model.resume_last(PARAMS),
    "resumed by its id": lambda model, failed: model.resume(failed.id),
}


def contest(model, how, meanwhile):
    """Begin in two ways at once: the second begins just before the first writes."""
    failed = model.session(PARAMS)
    failed.end("failed")
    store, second = model.backend.store, []
    model.backend.store = Meanwhile(
        store, lambda: second.append(BEGINNINGS[meanwhile](model, failed))
    )
    try:
        first = BEGINNINGS[how](model, failed)
    except ExistingParamsException as refused:
        first = refused.session
    return failed, first, second[0]


@pytest.mark.parametrize("meanwhile", BEGINNINGS)
def test_what_resumes_joins_no_session_that_another_resumes_meanwhile(model, meanwhile):
    failed, first, second = contest(model, "resumed", meanwhile)
    assert first.id != second.id
    assert failed.id in {first.id, second.id}


@pytest.mark.parametrize("how", ["continued", "resumed by its id"])
@pytest.mark.parametrize("meanwhile", ["continued", "resumed", "resumed by its id"])
def test_of_two_that_continue_at_once_the_later_one_follows_the_other(model, how, meanwhile):
    failed, first, second = contest(model, how, meanwhile)
    assert first.id == second.id == failed.id
    starts = [r for _, r in model.backend.store.records(session=failed.id, kinds={"session"})]
    assert [start["body"].get("follows", 0) for start in starts] == [0, 1, 2]


def gaps(path):
    """Return what doctor says about records that are not there."""
    findings = examine(Location.of(path)).findings
    return [finding.problem for finding in findings if "not there" in finding.problem]


@pytest.mark.parametrize("meanwhile", BEGINNINGS)
@pytest.mark.parametrize("how", BEGINNINGS)
def test_doctor_misses_no_record_after_a_beginning_was_contested(path, how, meanwhile):
    model = Experiment.use(path, exp_id="exp").model("net")
    _, first, second = contest(model, how, meanwhile)
    second.end()
    if first.id != second.id and isinstance(first, Session):
        first.end()
    assert gaps(path) == []


def test_doctor_misses_no_record_of_a_killed_run_that_was_started_again(path):
    script = (
        "import os, signal; from casket import Experiment\n"
        f"model = Experiment.use({str(path)!r}, exp_id='exp').model('net')\n"
        f"model.session({PARAMS!r}).add_epoch(1, {{'loss': 1.0}})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    with Experiment.use(path, exp_id="exp").model("net").session(PARAMS) as session:
        session.add_epoch(1, {"loss": 0.5})
    assert gaps(path) == []


def test_two_copies_that_both_went_on_merge_to_one_view_in_either_order(path, tmp_path):
    model = Experiment.use(path, exp_id="exp", tags=("a",)).model("net")
    with model.session(PARAMS) as session:
        session.add_epoch(1, {"loss": 0.9})
    shutil.copy(path, copied := tmp_path / f"copied-{path.name}")
    for place, loss, status in ((path, 0.5, None), (copied, 0.7, ValueError("diverged"))):
        model = Experiment.use(place, exp_id="exp").model("net")
        model.experiment.add_tag(f"tag {loss}")
        try:
            with model.session(PARAMS, ensure_unique=False) as session:
                session.add_epoch(2, {"loss": loss})
                session.add_batch(1, {"grad": loss})
                session.add_result({"acc": loss})
                session.add_meta({"loss": loss})
                session.add_artifact("note.txt", str(loss).encode())
                if status:
                    raise status
        except ValueError:
            pass
    views = []
    for first, second in ((path, copied), (copied, path)):
        target = tmp_path / f"merged-{first.name}"
        shutil.copy(first, target)
        merge(target, second)
        with casket.open(target) as runs:
            (view,) = runs.sessions()
            views.append(seen(view))
        with Experiment.use(target, exp_id="exp").model("net").session(PARAMS):
            pass  # the last writer failed: the params are free
    assert views[0] == views[1]
    assert views[0]["epochs"] == [(1, 0.9), (2, 0.5), (2, 0.7)]
    assert views[0]["status"] == "failed"


def merge(target, source):
    reading = Location.of(source).open(StoreOptions(), writing=False)
    writing = Location.of(target).open(StoreOptions(), writing=True)
    add_missing(writing, (record for _, record in reading.records()))
    writing.close()


def seen(view):
    return {
        "epochs": [(row["epoch_num"], row["loss"]) for row in view.epochs],
        "batches": [row["grad"] for row in view.batches],
        "results": [row["acc"] for row in view.results()],
        "last": dict(view.last),
        "meta": view.meta,
        "artifacts": {name: artifact.sha256 for name, artifact in view.artifacts.items()},
        "times": (view.started, view.ended, view.duration),
        "status": view.status,
        "error": view.error,
        "tags": view.tags,
    }


LIES = """
import os, sys, time
from casket import Experiment
from casket.system import processes
processes._boot = lambda: "another"
session = Experiment.use(sys.argv[1], exp_id="exp").model("net").session({"lr": 0.1})
session.add_epoch(1, {"loss": 0.5})
print("begun", flush=True)
time.sleep(600)
"""


def test_a_run_on_a_machine_of_the_same_image_is_neither_killed_nor_taken_over(path, monkeypatch):
    if processes._hardware():
        monkeypatch.setattr(processes, "_hardware", lambda: ["another card"])
    run = subprocess.Popen(
        [sys.executable, "-c", LIES, str(path)], stdout=subprocess.PIPE, env=os.environ
    )
    try:
        assert run.stdout.readline() == b"begun\n"
        with casket.open(path) as runs:
            assert [view.status for view in runs.sessions()] == ["running"]
        with pytest.raises(ExistingParamsException):
            Experiment.use(path, exp_id="exp").model("net").session(PARAMS)
    finally:
        run.kill()
        run.communicate()
