"""The searches take the place of scikit-learn's in every respect."""

import inspect
import pickle
import re
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import check_param_validation

import casket_integrations.sklearn as ours
from casket import Experiment
from tests.integrations.sklearn_parts import GRID, Sending, X, assert_same_scores, y

PACKAGE = Path(ours.__file__).parent
OWN = {"casket_model": None, "resume": False, "ensure_unique": False}
NAMES = ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")
LOGGED = [getattr(ours, f"Logged{name}") for name in NAMES]
PAIRS = [(logged, logged.__mro__[2]) for logged in LOGGED]
pairs = pytest.mark.parametrize(("logged", "plain"), PAIRS)


def options(search):
    wanted = {"random_state": 0, "n_iter": 4}
    return {name: wanted[name] for name in wanted.keys() & inspect.signature(search).parameters}


@pairs
def test_it_is_the_plain_class_with_three_more_keywords(logged, plain):
    parameters = inspect.signature(logged).parameters
    added = list(parameters.values())[-3:]
    assert {parameter.name: parameter.default for parameter in added} == OWN
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in added)
    rest = [(p.name, p.kind) for p in list(parameters.values())[:-3]]
    assert rest == [(p.name, p.kind) for p in inspect.signature(plain).parameters.values()]
    params = plain(None, GRID).get_params()
    np.testing.assert_equal(logged(None, GRID).get_params(), {**params, **OWN})
    assert logged.__name__ == f"Logged{plain.__name__}"


@pairs
def test_it_validates_its_parameters_as_scikit_learns_own_check_demands(logged, plain):
    grid = {"logisticregression__C": [1.0]}
    check_param_validation(logged.__name__, logged(make_pipeline(LogisticRegression()), grid))


@pytest.mark.parametrize("name", OWN)
def test_a_wrong_value_of_an_own_parameter_is_refused_when_it_is_fitted(name, memory):
    search = ours.LoggedGridSearchCV(SVC(), GRID, **{"casket_model": memory, name: "yes"})
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter .* Got 'yes' instead"):
        search.fit(X, y)
    assert memory.sessions() == []


@pairs
def test_without_a_model_it_does_what_the_plain_class_does(logged, plain):
    got, expected = (search(SVC(), GRID, cv=3, **options(search)) for search in (logged, plain))
    got.fit(X, y)
    expected.fit(X, y)
    assert_same_scores(got.cv_results_, expected.cv_results_)
    assert got.__dict__.keys() == expected.__dict__.keys() | OWN.keys()
    assert got.best_params_ == expected.best_params_


@pairs
def test_what_is_asked_of_a_fitted_search_is_answered_and_not_logged(logged, plain, memory):
    got, expected = (search(SVC(), GRID, cv=3, **options(search)) for search in (logged, plain))
    got.set_params(casket_model=memory).fit(X, y)
    expected.fit(X, y)
    (before,) = memory.sessions()
    assert got.score(X, y) == expected.score(X, y)
    np.testing.assert_array_equal(got.predict(X), expected.predict(X))
    np.testing.assert_array_equal(got.decision_function(X), expected.decision_function(X))
    assert got.n_features_in_ == expected.n_features_in_
    assert not hasattr(got, "predict_proba")
    (after,) = memory.sessions()
    assert len(after.logged("result")) == len(before.logged("result"))
    assert after.meta == before.meta
    assert {n for n in dir(got) if not n.startswith("_")} == {
        n for n in [*dir(expected), *OWN] if not n.startswith("_")
    }


@pairs
def test_it_clones_copies_and_pickles_with_its_model(logged, plain, tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="x").model("m")
    search = logged(SVC(), GRID, cv=3, casket_model=model, resume=True, ensure_unique=True)
    search.set_params(estimator__kernel="linear")
    for twin in (clone(search), deepcopy(search), pickle.loads(pickle.dumps(search))):
        assert type(twin) is logged
        assert twin.get_params()["estimator__kernel"] == "linear"
        assert twin.resume is twin.ensure_unique is True
        assert repr(twin.casket_model) == repr(model)
    twin.set_params(**options(logged), ensure_unique=False).fit(X, y)
    (session,) = model.sessions()
    assert session.status == "completed"

    again = pickle.loads(pickle.dumps(twin))
    np.testing.assert_array_equal(again.predict(X), twin.predict(X))
    assert_same_scores(again.cv_results_, twin.cv_results_)


def test_a_search_is_an_estimator_in_others(memory):
    search = ours.LoggedGridSearchCV(SVC(), GRID, cv=3, casket_model=memory)
    scores = cross_val_score(make_pipeline(MinMaxScaler(), search), X, y, cv=2)
    expected = cross_val_score(
        make_pipeline(MinMaxScaler(), GridSearchCV(SVC(), GRID, cv=3)), X, y, cv=2
    )
    np.testing.assert_array_equal(scores, expected)
    assert [len(session.results(index_by="score")) for session in memory.sessions()] == [7, 7]


def test_a_search_in_a_search_logs_into_its_own_session(memory):
    inner = ours.LoggedGridSearchCV(SVC(), {"C": [1, 2]}, cv=2, casket_model=memory)
    outer = ours.LoggedGridSearchCV(inner, {"estimator__gamma": [1e-3, 1e-4]}, cv=2)
    outer.set_params(casket_model=memory).fit(X, y)
    (session,) = memory.sessions()
    assert session.params["estimator"]["class"] == "LoggedGridSearchCV"
    rows = session.results(index_by="score")
    assert len(rows) == 3
    assert {tuple(row["grid_search_params"]) for row in rows[:-1]} == {("estimator__gamma",)}
    # Inner searches with gamma of 1e-3 and of 1e-4, each in two folds, and the refit.
    assert [child.params["estimator"]["class"] for child in session.children] == ["SVC"] * 5
    assert {len(child.results(index_by="score")) for child in session.children} == {3}


def test_a_plain_search_in_a_logged_one_logs_nothing(memory):
    inner = ours.LoggedGridSearchCV(SVC(), {"C": [1, 2]}, cv=2)
    ours.LoggedGridSearchCV(inner, {"cv": [2]}, cv=2, casket_model=memory).fit(X, y)
    (session,) = memory.sessions()
    assert len(session.results(index_by="score")) == 2


def test_what_is_sent_to_workers_while_it_runs_holds_no_store(memory):
    search = ours.LoggedGridSearchCV(Sending(), {"C": [1]}, cv=2, casket_model=memory)
    Sending.search = search
    search.fit(X, y)
    twin = Sending.received
    assert twin.casket_model is None
    assert twin.param_grid == {"C": [1]}
    assert search.casket_model is memory


def test_halving_works_without_the_import_that_unlocks_it(run_python):
    script = """
    from casket_integrations.sklearn import LoggedHalvingGridSearchCV
    print(LoggedHalvingGridSearchCV.__mro__[2].__name__)
    """
    assert run_python(script) == "HalvingGridSearchCV"


def test_without_scikit_learn_the_error_names_the_extra(run_python):
    script = """
    import casket
    try:
        import casket_integrations.sklearn
    except casket.MissingDependency as error:
        print(error)
    """
    expected = "scikit-learn is not installed: pip install 'casket[sklearn]'"
    assert run_python(script, without=("sklearn",)) == expected


@pytest.mark.parametrize("part", ["scipy", "joblib"])
def test_a_broken_scikit_learn_shows_its_own_error(part, run_python):
    script = """
    try:
        import casket_integrations.sklearn
    except ImportError as error:
        print(type(error).__name__, error.name)
    """
    assert run_python(script, without=(part,)) == f"ModuleNotFoundError {part}"


def test_casket_loads_no_scikit_learn(run_python):
    script = "import casket, casket_integrations.recorder, sys; print('sklearn' in sys.modules)"
    assert run_python(script) == "False"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_every_file_stays_small(path):
    text = re.sub(r'^\s*"""[\s\S]*?"""$', "", path.read_text(), flags=re.M)
    lines = [line for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
    assert len(lines) < 150
