"""With `resume=True` no fold is computed twice, unless anything that affects a score changed."""

import importlib
import sys
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

pytest.importorskip("sklearn")

import sklearn
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import KFold, ShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from casket import CasketWarning, ExistingParamsException, Experiment
from casket_integrations.sklearn import (
    LoggedGridSearchCV,
    LoggedHalvingGridSearchCV,
    LoggedRandomizedSearchCV,
    modules,
)
from casket_integrations.sklearn.fingerprint import Unknown, digest
from tests.integrations.sklearn_parts import (
    GRID,
    TWO,
    Fragile,
    NotingSVC,
    X,
    assert_same_scores,
    both,
    fits_noted,
    halved,
    y,
)

FEW = {"C": [0.1, 1.0], "gamma": [1e-3]}
FOLDS = 2 * 3


@pytest.fixture
def notes(tmp_path):
    return str(tmp_path / "notes")


@pytest.fixture
def computed(notes):
    """Return the number of fits since the last call, without the refit."""
    seen = [0]

    def count():
        before, seen[0] = seen[0], len(fits_noted(notes))
        return seen[0] - before - 1

    return count


def search_of(notes, model, **named):
    options = {"cv": 3, "resume": True, **named}
    return LoggedGridSearchCV(NotingSVC(notes), FEW, casket_model=model, **options)


def only(model):
    (session,) = model.sessions()
    return session


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("scoring", [{}, TWO, {"scoring": both, "refit": "right"}])
def test_a_finished_search_computes_nothing_again(n_jobs, scoring, notes, computed, model):
    search = search_of(notes, model, n_jobs=n_jobs, return_train_score=True, **scoring)
    first = search.fit(X, y).cv_results_
    assert computed() == FOLDS
    before = only(model)
    second = search.fit(X, y).cv_results_
    assert computed() == 0
    assert_same_scores(second, first)
    for name in ("mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time"):
        np.testing.assert_array_equal(second[name], first[name])
    after = only(model)
    assert after.status == "completed"
    for kind in ("result", "batch"):  # nothing is logged twice
        assert len(after.logged(kind)) == len(before.logged(kind))


def test_the_number_of_reused_folds_is_logged_and_printed(notes, memory, capsys):
    search = search_of(notes, memory, verbose=1).fit(X, y)
    assert only(memory).meta["folds"] == {"total": FOLDS, "reused": 0}
    capsys.readouterr()
    search.fit(X, y)
    assert only(memory).meta["folds"] == {"total": FOLDS, "reused": FOLDS}
    assert capsys.readouterr().out.splitlines()[-1] == "casket: reused 6 of 6 folds"
    search.set_params(verbose=0).fit(X, y)
    assert capsys.readouterr().out == ""


def test_nothing_is_reused_or_kept_unasked(notes, computed, memory):
    search = search_of(notes, memory, resume=False)
    search.fit(X, y)
    assert not only(memory).batches
    search.set_params(resume=True).fit(X, y)
    search.set_params(resume=False).fit(X, y)
    assert len(fits_noted(notes)) == 3 * (FOLDS + 1)


def test_each_fold_is_a_batch(notes, memory):
    search_of(notes, memory).fit(X, y)
    batches = only(memory).batches
    assert [batch["batch_num"] for batch in batches] == list(range(FOLDS))
    assert [(b["candidate"], b["split"]) for b in batches] == [(i // 3, i % 3) for i in range(6)]
    outcome = batches[0]["outcome"]
    assert outcome.keys() == {
        "fit_error", "test_scores", "n_test_samples", "fit_time", "score_time",
    }  # fmt: skip


def test_a_search_of_other_params_has_a_session_of_its_own(notes, computed, memory):
    search_of(notes, memory).fit(X, y)
    computed()
    search_of(notes, memory).set_params(param_grid={"C": [0.1, 1.0, 10.0]}).fit(X, y)
    assert computed() == 9
    assert [len(session.batches) for session in memory.sessions()] == [FOLDS, 9]


def test_an_interrupted_search_goes_on(notes, computed, memory, monkeypatch):
    search = search_of(notes, memory)
    left = iter(range(4))

    def interrupt(seconds):
        if next(left, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)  # which the fit calls before it is done
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert only(memory).status == "failed"
    assert only(memory).error == "KeyboardInterrupt"
    assert len(only(memory).batches) == 4
    assert len(only(memory).results(index_by="score")) == 1
    monkeypatch.undo()
    assert computed() == 4 - 1
    search.set_params(ensure_unique=True).fit(X, y)  # going on is not running again
    assert computed() == FOLDS - 4
    assert only(memory).status == "completed"
    assert len(only(memory).results(index_by="score")) == 3


def test_folds_that_failed_are_taken_as_they_were(memory):
    search = LoggedGridSearchCV(
        Fragile(), {"C": [1, 10]}, cv=3, casket_model=memory, resume=True, scoring=both,
        refit="right", error_score=-1.0,
    )  # fmt: skip
    with pytest.warns(FitFailedWarning) as first:
        expected = search.fit(X, y).cv_results_
    with pytest.warns(FitFailedWarning) as second:
        columns = search.fit(X, y).cv_results_
    assert str(first[0].message) == str(second[0].message)
    assert_same_scores(columns, expected)
    assert len(only(memory).batches) == 6


def test_each_fold_of_a_nested_cross_validation_continues_its_own_session(notes, computed, model):
    search = search_of(notes, model)
    first = cross_val_score(search, X, y, cv=3)
    assert computed() == 3 * (FOLDS + 1) - 1
    held = {s.id: (len(s.batches), len(s.results(index_by="score"))) for s in model.sessions()}
    assert list(held.values()) == [(FOLDS, 3)] * 3
    second = cross_val_score(search, X, y, cv=3)
    assert computed() == 3 - 1  # the refits
    np.testing.assert_array_equal(first, second)
    after = {s.id: (len(s.batches), len(s.results(index_by="score"))) for s in model.sessions()}
    assert after == held


def test_the_last_session_of_the_same_data_is_continued(notes, computed, model):
    search = search_of(notes, model)
    for rows, expected in ((240, FOLDS), (150, FOLDS), (240, 0), (150, 0)):
        search.fit(X[:rows], y[:rows])
        assert computed() == expected
    assert [len(session.batches) for session in model.sessions()] == [FOLDS] * 2


def test_a_search_that_is_resumed_never_joins_a_running_one(notes, computed, model):
    search = search_of(notes, model).fit(X, y)
    computed()
    # In another thread and not the only open session, so that the search is no child of it.
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(model.resume, only(model).id).result()
        other = pool.submit(model.session, {"other": True}).result()
    with running, other:
        search.fit(X, y)
        assert computed() == FOLDS
        search.fit(X, y)
        assert computed() == 0
        with pytest.raises(ExistingParamsException):
            search.set_params(ensure_unique=True).fit(X[:150], y[:150])
    batches = {session.id: len(session.batches) for session in model.sessions()}
    assert batches.pop(other.id) == 0
    assert list(batches.values()) == [FOLDS] * 2


def test_data_that_cannot_be_told_apart_are_known_by_their_rows(notes, computed, memory):
    class Rows:
        """An array whose values only scikit-learn can read."""

        shape = X.shape

        def __array__(self, dtype=None, copy=None):
            return np.array(X, dtype=dtype)

        def __getitem__(self, key):
            return X[key]

        def __reduce__(self):
            raise TypeError("not these")

    rows = Rows()
    search = search_of(notes, memory)
    for _ in range(2):
        with pytest.warns(CasketWarning, match="computed again"):
            search.fit(rows, y)
        assert computed() == FOLDS
    sizes = [session.meta["data"]["train"] for session in memory.sessions()]
    assert sizes == [{"kind": "Rows", "rows": len(y), "columns": X.shape[1]}] * 2


@pytest.mark.parametrize("kind", ["random", "halving", "halving by a parameter"])
def test_other_searches_resume_too(kind, notes, computed, memory):
    named = {"cv": 3, "random_state": 0, "casket_model": memory, "resume": True}
    if kind == "random":
        search = LoggedRandomizedSearchCV(NotingSVC(notes), GRID, n_iter=4, **named)
    elif kind == "halving":
        search = LoggedHalvingGridSearchCV(NotingSVC(notes), GRID, min_resources=60, **named)
    else:
        search = LoggedHalvingGridSearchCV(
            NotingSVC(notes), {"gamma": [1e-4, 1e-3]}, resource="C", max_resources=9, **named
        )
    first = search.fit(X, y).cv_results_
    assert computed() == 3 * len(first["params"])
    second = search.fit(X, y).cv_results_
    assert computed() == 0
    assert_same_scores(second, first)
    np.testing.assert_array_equal(second["mean_fit_time"], first["mean_fit_time"])


def test_candidates_that_are_equal_are_stored_each(notes, computed, memory):
    search = search_of(notes, memory)
    search.param_grid = [{"C": [1.0]}, {"C": [1.0]}]
    first = search.fit(X, y).cv_results_
    assert computed() == 6
    second = search.fit(X, y).cv_results_
    assert computed() == 0
    np.testing.assert_array_equal(second["mean_fit_time"], first["mean_fit_time"])
    assert len(only(memory).results(index_by="score")) == 3


# Influences on a score.


def other(change):
    """A fit whose search and data were modified by `change`."""

    def fit(search):
        given = {"X": X, "y": y}
        change(search, given)
        return search.fit(**given)

    return fit


def set_data(**values):
    return lambda search, given: given.update(values)


def set_search(**params):
    return lambda search, given: search.set_params(**params)


def one_value_more(search, given):
    given["X"] = X.copy()
    given["X"][0, 0] += 1


def another_label(search, given):
    given["y"] = y.copy()
    given["y"][0] = 9


CHANGES = {
    "a value of X": one_value_more,
    "a label": another_label,
    "the type of X": set_data(X=X.astype(np.float32)),
    "the order of samples": set_data(X=X[::-1], y=y[::-1]),
    "a fit parameter": set_data(sample_weight=np.linspace(0.1, 1, len(y))),
    "splits": set_search(cv=KFold(3, shuffle=True, random_state=0)),
    "a parameter": set_search(estimator__pause=1e-9),
    "the scorer": set_search(scoring="balanced_accuracy"),
    "training scores": set_search(return_train_score=True),
    "the error score": set_search(error_score=0.0),
    "the search's own splitter": set_search(cv=ShuffleSplit(3, random_state=1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_of_what_scores_follow_from_is_computed(change, notes, computed, memory):
    search = search_of(notes, memory)
    # A common session, so that its params do not distinguish the fits.
    search.fit(X, y)
    computed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("casket_integrations.sklearn.log.search_params", lambda *_, **__: {})
        search.fit(X, y)
        computed()
        search.fit(X, y)
        assert computed() == 0
        other(change)(search)
        assert computed() == FOLDS


def test_groups_count_by_the_splits_they_make(notes, computed, memory):
    from sklearn.model_selection import GroupKFold

    search = search_of(notes, memory, cv=GroupKFold(3))
    groups = np.arange(len(y)) % 6
    search.fit(X, y, groups=groups)
    computed()
    search.fit(X, y, groups=groups)
    assert computed() == 0
    search.fit(X, y, groups=np.arange(len(y)) // 40)
    assert computed() == FOLDS


def test_another_version_of_scikit_learn_computes_again(notes, computed, memory, monkeypatch):
    search = search_of(notes, memory).fit(X, y)
    computed()
    monkeypatch.setattr(sklearn, "__version__", "99")
    search.fit(X, y)
    assert computed() == FOLDS


def test_metadata_that_is_routed_to_the_scorer_counts(notes, computed, memory):
    weights = np.linspace(0.1, 1, len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        search = search_of(
            notes,
            memory,
            scoring=make_scorer(accuracy_score).set_score_request(sample_weight="w"),
        )
        search.fit(X, y, w=weights)
        computed()
        search.fit(X, y, w=weights)
        assert computed() == 0
        search.fit(X, y, w=weights[::-1])
        assert computed() == FOLDS


def test_a_lambda_is_computed_again_with_the_reason(notes, computed, memory):
    search = search_of(notes, memory, scoring=lambda estimator, X, y: halved(estimator, X, y))
    for _ in range(2):
        with pytest.warns(CasketWarning, match=r"computed again.*: scorer: .*<lambda> cannot be"):
            search.fit(X, y)
        assert computed() == FOLDS
    assert len(only(memory).results(index_by="score")) == 2 * 3
    assert not only(memory).batches


def test_only_the_candidates_that_cannot_be_told_apart_are_computed_again(memory):
    grid = {"functiontransformer__func": [np.sqrt, lambda X: X]}
    search = LoggedGridSearchCV(
        make_pipeline(FunctionTransformer(), SVC()), grid, cv=3, casket_model=memory, resume=True
    )
    for fit in (1, 2):
        with pytest.warns(CasketWarning, match="computed again.*: parameters: .*<lambda>"):
            search.fit(X, y)
        assert len(only(memory).batches) == 3, fit
    assert len(only(memory).results(index_by="score")) == 3 + 2


def test_a_record_that_could_not_be_stored_whole_is_not_used(notes, computed, memory):
    search = search_of(notes, memory).fit(X, y)
    computed()
    with memory.session(only(memory).params, ensure_unique=False) as session:
        session.add_batch(0, {"fingerprint": only(memory).batches[0]["fingerprint"]})
        session.add_batch(0, {"mine": 1})
    search.fit(X, y)
    assert computed() == 0


def test_folds_stored_in_another_process_are_found(tmp_path, run_python):
    script = """
    import sys
    from casket import Experiment
    from casket_integrations.sklearn import LoggedGridSearchCV
    from tests.integrations.sklearn_parts import *
    model = Experiment.use("runs.json", exp_id="x").model("m")
    named = {"cv": 3, "scoring": {"half": halved, "both": make()}, "refit": "half"}
    grid = {"C": [1.0, 2.0]}
    search = LoggedGridSearchCV(NotingSVC("notes"), grid, casket_model=model, resume=True, **named)
    search.fit(X, y)
    print(len(fits_noted("notes")))
    """
    made = """
    from functools import partial
    from sklearn.metrics import fbeta_score, make_scorer
    def own(y, predicted, names=frozenset({"a", "b", "c"})):
        return len(names) * float((y == predicted).mean())
    def make():
        return make_scorer(own)
    """
    from textwrap import dedent

    first = run_python(dedent(made) + dedent(script), PYTHONHASHSEED="1")
    second = run_python(dedent(made) + dedent(script), PYTHONHASHSEED="2")
    edited = run_python(dedent(made).replace("float(", "0.5 * float(") + dedent(script))
    assert [first, second, edited] == ["7", "8", "15"]


# Fingerprints of values.


def a_model():
    return Experiment.use(":memory:", exp_id="e").model("m")


SAME = {
    "arrays": lambda: np.arange(5.0),
    "a frame": lambda: pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
    "texts": lambda: ["".join(["a", "b"]), "ab"],
    "sets": lambda: ({"b", "a", "c"}, frozenset({"x", "y"})),
    "an estimator": lambda: make_pipeline(MinMaxScaler(), SVC(C=2)),
    "a partial of a function": lambda: partial(halved, X=1),
    "a method": lambda: SVC(C=3).get_params,
    "a random state": lambda: np.random.RandomState(3),
    "a type": lambda: (type(None), int, NotingSVC),
    "a model": lambda: LoggedGridSearchCV(SVC(), {}, casket_model=a_model()),
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME.keys())
def test_equal_values_have_one_fingerprint(make):
    assert digest("value", make()) == digest("value", make())


def fitted(estimator, X=X):
    return estimator.fit(X, y)


UNLIKE = {
    "arrays": (np.arange(5.0), np.arange(5)),
    "shapes": (np.zeros((2, 3)), np.zeros((3, 2))),
    "columns": (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
    "functions": (halved, both),
    "partials": (partial(halved, X=1), partial(halved, X=2)),
    "classes": (MinMaxScaler, StandardScaler),
    "estimators": (SVC(C=1), SVC(C=2)),
    "steps": (make_pipeline(SVC()), make_pipeline(LogisticRegression())),
    "what was fitted before": (fitted(MinMaxScaler()), fitted(MinMaxScaler(), X * 2)),
    "a number and its text": (1, "1"),
}


@pytest.mark.parametrize("pair", UNLIKE.values(), ids=UNLIKE.keys())
def test_unlike_values_have_two(pair):
    assert digest("value", pair[0]) != digest("value", pair[1])


def test_a_sparse_matrix_is_what_it_holds_not_what_it_remembers_of_itself():
    one, two = (scipy.sparse.csr_matrix(np.eye(4)) for _ in range(2))
    assert two.has_sorted_indices  # which it remembers
    assert digest("X", one) == digest("X", two)
    two.data[0] = 2
    assert digest("X", one) != digest("X", two)
    assert digest("X", one) != digest("X", scipy.sparse.csr_array(np.eye(4)))


@pytest.mark.parametrize("value", [lambda: 0, (i for i in ()), sys.stdout, type("Mine", (), {})])
def test_what_cannot_be_told_apart_says_so(value):
    with pytest.raises(Unknown, match=r"^value: "):
        digest("value", value)


CODE = """
from sklearn.svm import SVC
LIMIT = 3
def half(x):
    return x / 2
class Base(SVC):
    def fit(self, X, y):
        return super().fit(X, y)
class Mine(Base):
    factor = 2
    @property
    def double(self):
        return 2 * self.factor
    @staticmethod
    def of(x):
        return [i for i in x if i > 1]
def score(estimator, X, y, weight=1):
    "A docstring."
    return weight * float((estimator.predict(X) == y).mean())
"""
EDITS = {
    "a function's body": ("weight *", "weight +", True),
    "a default": ("weight=1", "weight=2", True),
    "a method of a base class": ("super().fit(X, y)", "super().fit(-X, y)", True),
    "a constant of a class": ("factor = 2", "factor = 3", True),
    "a property": ("2 * self", "3 * self", True),
    "a static method": ("i > 1", "i > 2", True),
    "a line further down": ("LIMIT = 3", "LIMIT = 3\n\n", False),
    "a constant of the module": ("LIMIT = 3", "LIMIT = 4", True),
    "a helper": ("return x / 2", "return x / 3", True),
    "a comment": ("LIMIT = 3", "LIMIT = 3  # so many", False),
}


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """Write modules of the user's and import `users_own` anew."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget():
        for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
            del sys.modules[name]

    def imported(files):
        for name, code in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(code)
        forget()
        importlib.invalidate_caches()
        return importlib.import_module("users_own")

    yield imported
    forget()


OWN = {"users_own", "helpers", "package", "elsewhere", "lazy", "without_version"}


@pytest.mark.parametrize(("old", "new", "counts"), EDITS.values(), ids=EDITS.keys())
def test_code_of_the_users_own_counts(old, new, counts, imported):
    digests = []
    for code in (CODE, CODE.replace(old, new)):
        module = imported({"users_own.py": code})
        digests.append([digest("scorer", module.score), digest("estimator", module.Mine())])
    assert (digests[0] != digests[1]) is counts


FILES = {
    "users_own.py": """
import helpers
from package import inner
from package.inner import deep
def score(estimator, X, y):
    import lazy
    return helpers.weight + inner.x + deep.y
""",
    "helpers.py": "weight = 1",
    "lazy.py": "a = 1",
    "elsewhere.py": "a = 1",
    "package/__init__.py": "from . import beside",
    "package/beside.py": "a = 1",
    "package/inner/__init__.py": "x = 1",
    "package/inner/deep.py": "from ..further import z as y",
    "package/further.py": "z = 1",
    "package/unused.py": "a = 1",
}


@pytest.mark.parametrize("name", [name for name in FILES if name != "users_own.py"])
def test_modules_that_are_imported_count(name, imported):
    before = digest("scorer", imported(FILES).score)
    after = digest("scorer", imported({**FILES, name: FILES[name] + "\nb = 2"}).score)
    assert (before != after) is (name not in ("elsewhere.py", "package/unused.py"))


def test_a_module_that_was_edited_and_not_imported_again_is_neither_version(imported, tmp_path):
    edited = CODE.replace("return x / 2", "return x / 3")
    old = imported({"users_own.py": CODE})
    digests = [digest("scorer", old.score)]
    (tmp_path / "users_own.py").write_text(edited)
    digests.append(digest("scorer", old.score))
    digests.append(digest("scorer", imported({"users_own.py": edited}).score))
    assert len(set(digests)) == 3


def test_an_installed_package_counts_by_its_version_or_by_its_files(
    imported, tmp_path, monkeypatch
):
    folder = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(folder)
    code = {"users_own.py": "import without_version\ndef score(*_): return 1"}
    package = "site-packages/without_version"

    def digest_with(init, more):
        modules._hash_of_files.cache_clear()  # unique in a process
        files = {f"{package}/__init__.py": init, f"{package}/more.py": more, **code}
        return digest("scorer", imported(files).score)

    versioned = [digest_with("__version__ = '1'", "a = 1"), digest_with("__version__ = '1'", "")]
    assert versioned[0] == versioned[1] != digest_with("__version__ = '2'", "")
    by_files = [digest_with("", "a = 1"), digest_with("", "a = 1"), digest_with("", "a = 2")]
    assert by_files[0] == by_files[1] != by_files[2]


SCRIPT = """
import numpy as np
WEIGHT, UNUSED = 2, 3
def helper(x):
    return other(x) if x else WEIGHT * np.mean(x)
def other(x):
    return helper(x - 1)
class Base:
    def of(self, x):
        return helper(x)
class Estimator(Base):
    pass
def score(estimator, X, y):
    return [helper(x) for x in X]
"""
SCRIPT_EDITS = {
    "a constant": ("WEIGHT, UNUSED = 2", "WEIGHT, UNUSED = 4", True),
    "a helper": ("np.mean", "np.max", True),
    "a helper's helper": ("x - 1", "x - 2", True),
    "another constant": ("= 2, 3", "= 2, 4", False),
    "other code": ("class Base", "n_jobs = 4\nclass Base", False),
}


@pytest.mark.parametrize(("old", "new", "counts"), SCRIPT_EDITS.values(), ids=SCRIPT_EDITS.keys())
def test_of_a_script_or_a_notebook_counts_what_is_used(old, new, counts, monkeypatch):
    digests = []
    for code in (SCRIPT, SCRIPT, SCRIPT.replace(old, new)):
        script = types.ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", script)
        exec(code, vars(script))
        digests.append((digest("scorer", script.score), digest("estimator", script.Estimator())))
    assert digests[0] == digests[1]
    for before, after in zip(digests[1], digests[2], strict=True):
        assert (before != after) is counts


def test_no_warning_of_scikit_learns_is_raised_by_looking(memory):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LoggedGridSearchCV(SVC(), {"C": [1]}, cv=2, casket_model=memory, resume=True).fit(
            pd.DataFrame(X), pd.Series(y)
        )
