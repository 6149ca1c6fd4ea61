"""`log_scores`: what `cross_validate` returns, with a child session for each fold."""

import statistics

import numpy as np
import pytest

import casket

pytest.importorskip("sklearn")

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, ShuffleSplit, cross_validate
from sklearn.tree import DecisionTreeClassifier

from casket_integrations.sklearn import LoggedGridSearchCV, log_scores

X, y = load_iris(return_X_y=True)
TREE = DecisionTreeClassifier(max_depth=2, random_state=0)
GROUPS = np.arange(len(y)) % 6


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cv": 3, "scoring": ["accuracy", "f1_macro"], "return_train_score": True},
        {"cv": ShuffleSplit(4, random_state=np.random.RandomState(0)), "scoring": "accuracy"},
        {"cv": GroupKFold(3), "groups": GROUPS, "return_indices": True, "return_estimator": True},
    ],
)
def test_scores_equal_those_of_cross_validate_and_each_fold_is_a_child(memory, options):
    scores = log_scores(memory, TREE, X, y, **options)
    if "cv" in options and isinstance(options["cv"], ShuffleSplit):
        options["cv"] = ShuffleSplit(4, random_state=np.random.RandomState(0))
    expected = cross_validate(TREE, X, y, **options)
    assert scores.keys() == expected.keys()
    (session,) = memory.sessions()
    assert [fold.params["fold"] for fold in session.children] == list(range(len(session.children)))
    for name in (name for name in expected if "_score" in name or "accuracy" in name):
        if name == "score_time":
            continue
        assert scores[name].tolist() == expected[name].tolist()
        logged = [fold.results()[0][name] for fold in session.children]
        assert logged == expected[name].tolist()
        assert session.last[name] == pytest.approx(statistics.mean(logged))
        assert session.last[f"{name}.std"] == pytest.approx(statistics.stdev(logged))
    for name in ("estimator", "indices"):
        assert len(scores.get(name, ())) == len(expected.get(name, ()))
    if "indices" in scores:
        for part, folds in expected["indices"].items():
            for own, indices in zip(scores["indices"][part], folds, strict=True):
                assert own.tolist() == indices.tolist()
    assert {each.status for each in [session, *session.children]} == {"completed"}


def test_the_params_are_the_estimator_cv_and_scoring(memory):
    log_scores(memory, TREE, X, y, cv=2, scoring="accuracy", params={"seed": 1})
    (session,) = memory.sessions()
    assert session.params["estimator"]["class"] == "DecisionTreeClassifier"
    assert session.params["estimator"]["max_depth"] == 2
    assert {"cv": 2, "scoring": "accuracy", "seed": 1}.items() <= session.params.items()
    log_scores(memory, TREE, X, y, cv=2, scoring="accuracy", params={"seed": 1})
    assert [each.meta.get("repeat") for each in memory.sessions()] == [None, 1]
    with pytest.raises(casket.ExistingParamsException):
        log_scores(
            memory, TREE, X, y, cv=2, scoring="accuracy", params={"seed": 1}, ensure_unique=True
        )


class Fails(DecisionTreeClassifier):
    def fit(self, X, y):
        if X.sum() > self.max_depth:
            raise ValueError("no such fold")
        return super().fit(X, y)


def test_a_fold_that_fails_fails_the_evaluation_and_keeps_the_folds_before(memory):
    sums = [X[train].sum() for train in (slice(50, None), slice(None, 100))]
    cv = [(np.arange(50, 150), np.arange(50)), (np.arange(100), np.arange(100, 150))]
    first, second = (cv[i] for i in np.argsort(sums))
    estimator = Fails(max_depth=int(min(sums)) + 1)
    with pytest.raises(ValueError, match="no such fold"):
        log_scores(memory, estimator, X, y, cv=[first, second])
    (session,) = memory.sessions()
    assert (session.status, session.error) == ("failed", "ValueError: no such fold")
    assert [fold.status for fold in session.children] == ["completed", "failed"]
    assert len(session.children[0].results()) == 1


def test_the_search_of_a_fold_is_its_child(memory):
    search = LoggedGridSearchCV(
        LogisticRegression(max_iter=200), {"C": [1, 2]}, cv=2, casket_model=memory
    )
    log_scores(memory, search, X, y, cv=2)
    (session,) = memory.sessions()
    assert [[len(fold.children)] for fold in session.children] == [[1], [1]]
