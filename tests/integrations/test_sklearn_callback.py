"""`CasketCallback` sees each task begin and end, wherever it runs, and never stops a fit."""

import io
import pickle
import sys
import threading

import pytest

pytest.importorskip("sklearn")

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC

from casket import CasketWarning, Experiment
from casket_integrations.sklearn import CasketCallback, LoggedGridSearchCV, callback
from tests.integrations.sklearn_parts import Fragile, X, y

needs_callbacks = pytest.mark.skipif(
    not hasattr(GridSearchCV, "set_callbacks"), reason="scikit-learn has callbacks from 1.9 on"
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, fit):
    """Return the lines that a terminal shows."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fit()
    return [line.strip() for line in terminal.getvalue().replace("\r", "\n").split("\n") if line]


def search_of(grid=None, estimator=None, **named):
    return GridSearchCV(estimator or SVC(), grid or {"C": [1, 2]}, cv=3, **named)


def events(session):
    """The beginnings and ends of tasks, by name, in order."""
    return [(batch["event"], batch["task"]) for batch in session.batches]


def only(model):
    (session,) = model.sessions()
    return session


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_each_candidate_and_split_begins_and_ends(n_jobs, memory):
    before = threading.enumerate()
    search_of(n_jobs=n_jobs).set_callbacks(CasketCallback(memory)).fit(X, y)
    session = only(memory)
    assert session.status == "completed"
    assert session.params["class"] == "GridSearchCV"
    folds = [batch for batch in session.batches if "candidate" in batch]
    for event in ("begin", "end"):
        places = [(b["candidate"], b["split"]) for b in folds if b["event"] == event]
        assert sorted(places) == [(i, k) for i in range(2) for k in range(3)]
    assert events(session)[0] == ("begin", "fit")
    assert events(session)[-1] == ("end", "fit")
    assert callback._runs == {}
    left = [thread for thread in threading.enumerate() if thread not in before]
    assert not [thread for thread in left if thread.name.startswith("casket")]


@needs_callbacks
def test_a_terminal_shows_how_many_tasks_are_done_and_which_candidate(monkeypatch):
    monkeypatch.setattr("casket_integrations.sklearn.progress.INTERVAL", 0)
    search = search_of().set_callbacks(CasketCallback())
    lines = shown(monkeypatch, lambda: search.fit(X, y))
    assert any("candidate 1, split 2" in line for line in lines)
    assert any("ends " in line for line in lines)
    assert lines[-1].startswith("7/7 tasks")  # six folds and the refit


@needs_callbacks
def test_a_loop_that_stops_early_is_done_all_the_same(monkeypatch):
    estimator = LogisticRegression(max_iter=500).set_callbacks(CasketCallback())
    last = shown(monkeypatch, lambda: estimator.fit(X / 16, y))[-1]
    count = estimator.n_iter_[0] + 1
    assert last.startswith(f"{count}/{count} tasks")


@needs_callbacks
def test_a_pipeline_is_watched_too(memory):
    pipeline = make_pipeline(MinMaxScaler(), LogisticRegression())
    pipeline.set_callbacks(CasketCallback(memory)).fit(X, y)
    assert only(memory).params["class"] == "Pipeline"
    assert events(only(memory))[-1] == ("end", "fit")


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_fit_that_fails_leaves_a_failed_session(n_jobs, memory):
    search = search_of({"C": [1, 10]}, Fragile(), error_score="raise", n_jobs=n_jobs)
    search.set_callbacks(CasketCallback(memory))
    with pytest.raises(ValueError, match="C is too large"):
        search.fit(X, y)
    assert only(memory).status == "failed"
    assert "C is too large" in only(memory).error


@needs_callbacks
def test_an_exception_that_is_handled_around_a_fit_is_not_the_fits(memory):
    try:
        raise RuntimeError("before")
    except RuntimeError:
        search_of().set_callbacks(CasketCallback(memory)).fit(X, y)
    assert only(memory).status == "completed"


@needs_callbacks
def test_it_goes_along_with_a_search_that_logs(memory):
    search = LoggedGridSearchCV(SVC(), {"C": [1, 2]}, cv=3, casket_model=memory, resume=True)
    search.set_callbacks(CasketCallback(memory))
    for _ in range(2):
        search.fit(X, y)
    (logged,) = (session for session in memory.sessions() if "class" not in session.params)
    assert len(logged.batches) == 6  # its folds; the second fit computes none
    first, second = (session for session in memory.sessions() if "class" in session.params)
    assert len(first.batches) > 12 > len(second.batches) > 0


@needs_callbacks
def test_estimators_inside_are_watched_each(memory):
    estimator = LogisticRegression(max_iter=50, tol=1).set_callbacks(CasketCallback(memory))
    cross_val_score(estimator, X / 16, y, cv=3)
    sessions = memory.sessions()
    assert [session.meta.get("repeat") for session in sessions] == [None, 1, 2]
    for session in sessions:
        assert events(session).count(("begin", "fit")) == 1
    assert callback._runs == {}


@needs_callbacks
@pytest.mark.parametrize("place", ["_facts", "_Run"])
def test_nothing_that_fails_in_it_stops_a_fit(place, monkeypatch):
    def broken(*_):
        raise OSError("not today")

    monkeypatch.setattr(callback, place, broken)
    with pytest.warns(CasketWarning, match="the fit continues: OSError"):
        search_of().set_callbacks(CasketCallback()).fit(X, y)


@needs_callbacks
def test_without_scikit_learns_transport_this_process_is_watched(memory, monkeypatch):
    monkeypatch.setattr(callback, "transport", None)
    search_of().set_callbacks(CasketCallback(memory)).fit(X, y)
    assert len(events(only(memory))) == 2 * (6 + 3)


def test_it_pickles_with_its_model(tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="x").model("m")
    assert repr(pickle.loads(pickle.dumps(CasketCallback(model))).model) == repr(model)
