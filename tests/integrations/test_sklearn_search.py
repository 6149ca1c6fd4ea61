"""The log of a search equals its results; no failure of the log stops it."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from scipy.stats import loguniform
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer, recall_score
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler
from sklearn.svm import SVC

import casket
from casket import CasketWarning, Experiment
from casket_integrations.sklearn import (
    LoggedGridSearchCV,
    LoggedHalvingGridSearchCV,
    LoggedHalvingRandomSearchCV,
    LoggedRandomizedSearchCV,
    fingerprint,
    folds,
)
from tests.integrations.sklearn_parts import (
    GRID,
    TWO,
    Fragile,
    X,
    assert_same_scores,
    both,
    halved,
    y,
)

RANDOM = {"C": loguniform(0.1, 10), "gamma": [1e-4, 1e-3]}
SEEDED = {"cv": 3, "random_state": 0}
SEARCHES = {
    "grid": (LoggedGridSearchCV, GRID, {"cv": 3}),
    "random": (LoggedRandomizedSearchCV, RANDOM, {**SEEDED, "n_iter": 4}),
    "halving grid": (
        LoggedHalvingGridSearchCV,
        GRID,
        {**SEEDED, "min_resources": 60},
    ),
    "halving random": (LoggedHalvingRandomSearchCV, RANDOM, SEEDED),
}
kinds = pytest.mark.parametrize("kind", SEARCHES)
jobs = pytest.mark.parametrize("n_jobs", [1, 2])


def search_of(kind, model, **named):
    search, grid, own = SEARCHES[kind]
    return search(SVC(), grid, casket_model=model, **{**own, **named})


def plain(search):
    """The search that the logged class derives from."""
    params = search.get_params(deep=False)
    for name in ("casket_model", "resume", "ensure_unique"):
        del params[name]
    return type(search).__mro__[2](**params)


def check_results(session, search, scorers):
    """Compare stored values with `cv_results_`.

    Args:
        session: the stored session.
        search: the search.
        scorers: the names in `cv_results_`, by the name they are logged under.
    """
    results = search.cv_results_
    assert session.indexes == list(scorers)
    for index, key in scorers.items():
        *candidates, best = session.results(index_by=index)
        assert len(candidates) == len(results["params"])
        columns = [
            *((f"mean_test_{key}", lambda row: row["dev_scores"]["mean"]),),
            *((f"std_test_{key}", lambda row: row["dev_scores"]["std"]),),
            *(("mean_fit_time", lambda row: row["fit_time"]),),
            *(("mean_score_time", lambda row: row["score_time"]),),
            *(
                (f"split{k}_test_{key}", lambda row, k=k: row["dev_scores"]["splits"][k])
                for k in range(search.n_splits_)
            ),
        ]
        # Candidates are logged as they are done.
        places = [row["candidate"] for row in candidates]
        assert sorted(places) == list(range(len(places)))
        for name, value in columns:
            np.testing.assert_array_equal([value(row) for row in candidates], results[name][places])
        for row, place in zip(candidates, places, strict=True):
            assert row.keys() == {
                "candidate", "grid_search_params", "dev_scores", "fit_time", "score_time"
            }  # fmt: skip
            assert row["grid_search_params"] == results["params"][place]
        assert best["ranks"] == results[f"rank_test_{key}"].tolist()
        assert best["best_score"] == results[f"mean_test_{key}"][best["best_index"]]
        assert best["best_params"] == results["params"][best["best_index"]]


def only(model):
    (session,) = model.sessions()
    return session


def test_candidates_whose_params_print_alike_stay_apart(memory):
    class Alike(MinMaxScaler):
        def __repr__(self, **_):
            return "Alike()"

    functions = [lambda x: x, lambda x: 2 * x]
    grid = {"scale": [Alike(), Alike((0, 2)), *map(FunctionTransformer, functions)]}
    pipeline = Pipeline([("scale", None), ("svc", SVC())])
    search = LoggedGridSearchCV(pipeline, grid, cv=2, casket_model=memory)
    search.fit(X, y)
    *rows, best = only(memory).results(index_by="score")
    assert [row["candidate"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["grid_search_params"] == rows[1]["grid_search_params"]
    means = [row["dev_scores"]["mean"] for row in rows]
    assert means == search.cv_results_["mean_test_score"].tolist()
    assert best["best_index"] == search.best_index_


@kinds
def test_what_is_stored_is_what_cv_results_holds(kind, model):
    check_session(model, search_of(kind, model).fit(X, y))


@kinds
def test_what_is_computed_in_two_processes_is_stored_as_well(kind, memory):
    check_session(memory, search_of(kind, memory, n_jobs=2).fit(X, y))


def check_session(model, search):
    session = only(model)
    check_results(session, search, {"score": "score"})
    assert session.status == "completed"
    assert session.results(index_by="score")[-1]["best_index"] == search.best_index_
    assert session.meta["n_splits"] == search.n_splits_
    assert session.meta["refit_time"] == search.refit_time_
    assert_same_scores(search.cv_results_, plain(search).fit(X, y).cv_results_)


@jobs
def test_each_scorer_is_logged_under_its_name(n_jobs, memory):
    search = search_of("grid", memory, n_jobs=n_jobs, **TWO).fit(X, y)
    session = only(memory)
    check_results(session, search, {name: name for name in TWO["scoring"]})
    best = session.results(index_by="recall_macro")[-1]
    assert best["best_index"] == search.best_index_
    assert best["best_params"] == search.best_params_
    assert best["best_score"] == search.best_score_


@pytest.mark.parametrize(
    ("scoring", "refit", "scorers"),
    [
        ("accuracy", True, {"accuracy": "score"}),
        (halved, True, {"score": "score"}),
        (make_scorer(recall_score, average="macro"), True, {"score": "score"}),
        (["accuracy"], "accuracy", {"accuracy": "accuracy"}),
        ({"a": "accuracy", "b": halved}, "b", {"a": "a", "b": "b"}),
        ({"a": "accuracy", "b": halved}, False, {"a": "a", "b": "b"}),
        (both, "right", {"right": "right", "wrong": "wrong"}),
        (both, lambda results: 1, {"right": "right", "wrong": "wrong"}),
        (halved, lambda results: 1, {"score": "score"}),
    ],
)
def test_scorers_of_every_form(scoring, refit, scorers, memory):
    search = search_of("grid", memory, scoring=scoring, refit=refit).fit(X, y)
    check_results(only(memory), search, scorers)
    if isinstance(refit, str):
        assert only(memory).results(index_by=refit)[-1]["best_index"] == search.best_index_


def test_the_params_of_the_session_tell_estimator_grid_cv_and_scoring(memory):
    estimator = Pipeline([("scale", MinMaxScaler()), ("svc", SVC(kernel=np.dot))])
    grid = [{"svc__C": np.array([1, 10])}, {"svc": [LogisticRegression(), SVC()]}]
    search = LoggedGridSearchCV(
        estimator, grid, cv=KFold(3), scoring={"half": halved}, refit="half", casket_model=memory
    )
    with warnings.catch_warnings(), contextlib.suppress(ValueError):
        warnings.simplefilter("ignore")
        search.fit(X, y)
    params = only(memory).params
    assert params["estimator"]["class"] == "Pipeline"
    assert params["estimator"]["steps"][0] == ["scale", "MinMaxScaler()"]
    assert params["param_grid"] == [
        {"svc__C": [1, 10]},
        {"svc": ["LogisticRegression()", "SVC()"]},
    ]
    assert params["cv"] == "KFold(n_splits=3, random_state=None, shuffle=False)"
    assert params["scoring"] == {"half": "tests.integrations.sklearn_parts.halved"}
    assert "0x" not in str(params)
    assert params.keys().isdisjoint({"casket_model", "resume", "n_jobs", "verbose"})


def test_distributions_and_large_values_are_told_in_short(memory):
    many = [np.arange(2000.0), np.arange(3)]
    search = LoggedRandomizedSearchCV(
        SVC(), {"C": loguniform(0.1, b=10), "class_weight": many}, casket_model=memory
    )
    with pytest.raises(ValueError, match="fits failed"):
        search.fit(X, y)
    told = only(memory).params["param_distributions"]
    assert told["C"] == "loguniform(0.1, b=10)"
    assert told["class_weight"][0].startswith("float64 array of shape (2000,), ")
    assert told["class_weight"][1] == [0, 1, 2]


@jobs
def test_folds_that_fail_are_logged_as_scikit_learn_scores_them(n_jobs, memory):
    search = LoggedGridSearchCV(
        Fragile(), {"C": [1, 10]}, cv=3, scoring=both, refit="right", error_score=-1.0,
        n_jobs=n_jobs, casket_model=memory,
    )  # fmt: skip
    with pytest.warns(FitFailedWarning):
        search.fit(X, y)
    check_results(only(memory), search, {"right": "right", "wrong": "wrong"})


def test_candidates_that_fail_before_any_was_scored_wait_for_the_scorers_names(memory):
    search = LoggedGridSearchCV(
        Fragile(), {"C": [20, 10, 1]}, cv=3, scoring=both, refit="right", casket_model=memory
    )
    with pytest.warns((FitFailedWarning, UserWarning)):
        search.fit(X, y)
    check_results(only(memory), search, {"right": "right", "wrong": "wrong"})


@pytest.mark.parametrize("scoring", [None, both])
def test_a_search_all_of_whose_fits_fail_is_logged_and_failed(scoring, memory):
    search = LoggedGridSearchCV(
        Fragile(), {"C": [20, 10]}, cv=3, scoring=scoring, refit=False, casket_model=memory
    )
    with pytest.raises(ValueError, match="All the 6 fits failed"):
        search.fit(X, y)
    session = only(memory)
    assert len(session.results(index_by="score")) == 2
    assert session.status == "failed"


@jobs
def test_a_fit_that_raises_leaves_a_failed_session_with_what_was_done(n_jobs, memory):
    search = LoggedGridSearchCV(
        Fragile(), {"C": [1, 2, 10]}, cv=3, error_score="raise", n_jobs=n_jobs, casket_model=memory
    )
    with pytest.raises(ValueError, match="C is too large"):
        search.fit(X, y)
    session = only(memory)
    assert session.status == "failed"
    assert "C is too large" in session.error
    assert n_jobs == 2 or len(session.results(index_by="score")) == 2
    assert not hasattr(search, "_casket_log") or search._casket_log is None


def test_a_candidate_is_logged_as_soon_as_its_folds_are_done(memory):
    seen = []

    class Looking(SVC):
        def fit(self, X, y):
            seen.append(len(memory.sessions()[0].results(index_by="score")))
            return super().fit(X, y)

    LoggedGridSearchCV(Looking(), {"C": [1, 2, 3]}, cv=3, casket_model=memory).fit(X, y)
    assert seen == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]  # the last is the refit


def means_of(session):
    """Return the mean scores of a session's candidates, each of which is there once."""
    *candidates, _ = session.results(index_by="score")
    assert sorted(row["candidate"] for row in candidates) == list(range(len(candidates)))
    ordered = sorted(candidates, key=lambda row: row["candidate"])
    return [row["dev_scores"]["mean"] for row in ordered]


@pytest.mark.parametrize("resume", [False, True])
def test_a_fit_on_other_data_is_a_session_that_names_them(resume, model):
    search = search_of("grid", model, resume=resume)
    first = search.fit(X, y).cv_results_
    second = search.fit(X[:150], y[:150]).cv_results_
    third = search.fit(X, y, sample_weight=np.linspace(0.1, 1, len(y))).cv_results_
    sessions = model.sessions()
    for session, outcome in zip(sessions, (first, second, third), strict=True):
        assert means_of(session) == outcome["mean_test_score"].tolist()
    assert [session.meta["data"]["train"]["rows"] for session in sessions] == [240, 150, 240]
    assert len({session.meta["data"]["train"]["hash"] for session in sessions}) == 3
    assert [session.meta.get("repeat") for session in sessions] == [None, 1, 2]


def test_a_second_fit_is_a_repetition(model):
    search = search_of("grid", model)
    for _ in range(2):
        search.fit(X, y)
    one, two = model.sessions()
    assert means_of(one) == means_of(two)
    assert one.meta["data"] == two.meta["data"]
    assert (one.meta.get("repeat"), two.meta["repeat"]) == (None, 1)


@jobs
@pytest.mark.parametrize("resume", [False, True])
def test_each_fold_of_a_nested_cross_validation_is_a_session(resume, n_jobs, tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    search = search_of("grid", model, resume=resume)
    outer = KFold(3, shuffle=True, random_state=0)
    scores = cross_val_score(search, X, y, cv=outer, n_jobs=n_jobs)
    np.testing.assert_array_equal(scores, cross_val_score(plain(search), X, y, cv=outer))
    sessions = {session.meta["data"]["train"]["hash"]: session for session in model.sessions()}
    assert len(sessions) == len(model.sessions()) == 3
    for train, _ in outer.split(X):
        session = sessions[fingerprint.of_data({"X": X[train], "y": y[train]})["hash"]]
        assert session.meta["data"]["train"]["rows"] == len(train)
        expected = plain(search).fit(X[train], y[train]).cv_results_
        assert means_of(session) == expected["mean_test_score"].tolist()
    repeats = [session.meta.get("repeat", 0) for session in sessions.values()]
    assert sorted(repeats) == [0, 1, 2]


@jobs
def test_searches_within_an_open_session_of_the_model_are_its_children(n_jobs, tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    search = search_of("grid", model)
    with model.session({"outer": 3}) as session:
        cross_val_score(search, X, y, cv=3, n_jobs=n_jobs)
        means = session.summarize_children()
    search.fit(X, y)
    parent, alone = model.sessions()
    assert (parent.id, alone.parent, alone.children) == (session.id, None, [])
    assert [child.meta.get("repeat", 0) for child in parent.children] == [0, 1, 2]
    assert {child.params["outer"] for child in parent.children} == {3}
    scores = [child.last["score.best_score"] for child in parent.children]
    assert parent.last["score.best_score"] == means["score.best_score"]
    assert means["score.best_score"] == pytest.approx(np.mean(scores))


def test_a_search_within_a_session_of_another_model_is_no_child(tmp_path):
    exp = Experiment.use(tmp_path / "runs.json", exp_id="exp")
    with exp.model("other").session():
        exp.model("net").session().end()
        search_of("grid", exp.model("net")).fit(X, y)
    assert [session.parent for session in exp.sessions()] == [None] * 3


def test_searches_in_threads_are_children_of_the_session_of_their_thread(tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")

    def train(number):
        with model.session({"number": number}):
            search_of("grid", model).fit(X, y)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(train, range(2)))
    for session in model.sessions():
        assert [child.params["number"] for child in session.children] == [session.params["number"]]


def test_a_search_within_a_continued_session_resumes_its_children(tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    search = search_of("grid", model, resume=True)
    for _ in range(2):
        with model.session({"outer": 3}, ensure_unique=False):
            cross_val_score(search, X, y, cv=3)
    (parent,) = model.sessions()
    assert len(parent.children) == 3
    assert [child.meta["folds"]["reused"] for child in parent.children] == [
        child.meta["folds"]["total"] for child in parent.children
    ]


def test_ensure_unique_refuses_a_search_that_was_run(memory):
    search = search_of("grid", memory, ensure_unique=True).fit(X, y)
    for resume, rows in ((False, 240), (False, 150), (True, 150)):
        search.set_params(resume=resume)
        with pytest.raises(casket.ExistingParamsException):
            search.fit(X[:rows], y[:rows])
    search.set_params(resume=False)
    search.set_params(cv=4).fit(X, y)
    assert [session.status for session in memory.sessions()] == ["completed"] * 2


def test_metadata_of_the_fit_reaches_folds_and_splitter(memory):
    groups = np.arange(len(y)) % 7
    weights = np.linspace(0.1, 1, len(y))
    search = search_of("grid", memory, cv=GroupKFold(3))
    search.fit(X, y, groups=groups, sample_weight=weights)
    expected = plain(search).fit(X, y, groups=groups, sample_weight=weights)
    assert_same_scores(search.cv_results_, expected.cv_results_)
    check_results(only(memory), search, {"score": "score"})


@pytest.mark.filterwarnings("ignore:os.fork")  # JAX, if another test has imported it
@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_other_backends_of_joblibs(backend, memory):
    search = search_of("grid", memory, n_jobs=2)
    with joblib.parallel_config(backend), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        expects = backend == "multiprocessing"
        told = pytest.warns(CasketWarning, match="returns all folds together")
        with told if expects else contextlib.nullcontext():
            search.fit(X, y)
    check_results(only(memory), search, {"score": "score"})


# Possible future changes of scikit-learn.


class OwnSearch(LoggedGridSearchCV):
    def _run_search(self, evaluate_candidates):
        evaluate_candidates([{"C": 1}, {"C": 2}])


def hidden_elsewhere(monkeypatch):
    monkeypatch.setattr(folds, "HIDDEN", "another name")
    return LoggedGridSearchCV


def tasks_say_less(monkeypatch):
    monkeypatch.setattr(folds, "_is_known", lambda task: False)
    return LoggedGridSearchCV


def no_closure(monkeypatch):
    monkeypatch.setattr(folds, "_cell", lambda evaluate: None)
    return LoggedGridSearchCV


def search_of_the_users_own(monkeypatch):
    return OwnSearch


@pytest.mark.parametrize(
    "make", [hidden_elsewhere, tasks_say_less, no_closure, search_of_the_users_own]
)
@pytest.mark.parametrize("resume", [True, False])
def test_where_folds_cannot_be_seen_the_candidates_are_logged_at_the_end(
    make, resume, memory, monkeypatch
):
    search = make(monkeypatch)(SVC(), GRID, cv=3, casket_model=memory, resume=resume, **TWO)
    with pytest.warns(CasketWarning, match="logged at the end") as said:
        search.fit(X, y)
    assert len(said) == 1
    check_results(only(memory), search, {name: name for name in TWO["scoring"]})
    assert only(memory).status == "completed"


# Nothing that happens to the log stops a search.


def broken(*_, **__):
    raise OSError("no store today")


def test_a_store_that_fails_is_one_warning(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    model = Experiment.use(folder / "runs.sqlite", exp_id="x").model("m")
    model.experiment.close()
    shutil.rmtree(folder)
    with pytest.warns(CasketWarning, match="could not log") as said:
        columns = search_of("grid", model, resume=True).fit(X, y).cv_results_
    assert len([one for one in said if one.category is CasketWarning]) == 1
    assert_same_scores(columns, plain(search_of("grid", None)).fit(X, y).cv_results_)


@pytest.mark.parametrize(
    "place",
    [
        "casket_integrations.openings.Openings.earlier",
        "casket_integrations.sklearn.log.fingerprint.of_data",
        "casket_integrations.sklearn.log.search_params",
        "casket_integrations.sklearn.log.results.of_candidate",
        "casket_integrations.sklearn.log.results.best",
        "casket_integrations.sklearn.stored.Keys.of",
    ],
)
def test_a_fault_of_the_log_itself_is_one_warning(place, memory, monkeypatch):
    monkeypatch.setattr(place, broken)
    search = search_of("grid", memory, resume=True)
    with pytest.warns(CasketWarning, match="no store today"):
        search.fit(X, y)
    assert_same_scores(search.cv_results_, plain(search).fit(X, y).cv_results_)
    assert only(memory).status == "completed"


def test_a_value_whose_text_cannot_be_made_stops_nothing(memory):
    class Shy(SVC):
        def __repr__(self, **_):
            raise RuntimeError("not telling")

    search = LoggedGridSearchCV(
        Pipeline([("svc", SVC())]), {"svc": [Shy()]}, cv=2, casket_model=memory
    )
    with pytest.warns(CasketWarning, match="not telling"):
        search.fit(X, y)


def test_what_is_no_model_of_caskets_is_refused():
    said = (
        r"'casket_model' parameter of LoggedGridSearchCV must be an instance of .*Model.* Got 'runs"
    )
    with pytest.raises(TypeError, match=said):
        search_of("grid", "runs.json").fit(X, y)


def test_every_file_is_closed(tmp_path):
    script = """
import gc
from casket import Experiment
from casket_integrations.sklearn import LoggedGridSearchCV
from tests.integrations.sklearn_parts import GRID, X, y
from sklearn.svm import SVC
for url in ("runs.json", "runs.sqlite"):
    model = Experiment.use(url, exp_id="x").model("m")
    LoggedGridSearchCV(SVC(), GRID, cv=2, casket_model=model, resume=True).fit(X, y)
    model.experiment.close()
    del model
    gc.collect()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


# The progress line.


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines_shown(monkeypatch, memory, stream, **named):
    monkeypatch.setattr(sys, "stderr", stream)
    search_of("grid", memory, **named).fit(X, y)
    return stream.getvalue().replace("\r", "\n").strip().splitlines()


def test_a_terminal_shows_what_is_done_and_the_best(monkeypatch, memory, capsys):
    last = lines_shown(monkeypatch, memory, Terminal(), verbose=1)[-1]
    best = max(row["dev_scores"]["mean"] for row in only(memory).results("score")[:-1])
    assert last.startswith("6/6 candidates, ")
    assert f"best {best:.6g}" in last
    assert capsys.readouterr().out == (
        "Fitting 3 folds for each of 6 candidates, totalling 18 fits\n"
    )


def test_nothing_is_shown_unasked_or_where_scikit_learn_shows_each_fit(monkeypatch, memory):
    assert lines_shown(monkeypatch, memory, Terminal(), verbose=0) == []
    assert lines_shown(monkeypatch, memory, Terminal(), verbose=2) == []
    assert lines_shown(monkeypatch, memory, io.StringIO(), verbose=1) == []


@kinds
def test_verbose_prints_what_the_plain_search_prints(kind, memory, capsys):
    search = search_of(kind, memory, verbose=1)
    plain(search).fit(X, y)
    expected = capsys.readouterr()
    search.fit(X, y)
    assert capsys.readouterr() == expected


def test_the_plain_search_is_the_class_it_takes_the_place_of():
    assert type(plain(search_of("grid", None))) is GridSearchCV
