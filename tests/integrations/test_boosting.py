"""`CasketCallback` of XGBoost and `casket_callback` of LightGBM in real trainings on digits."""

import inspect
import pickle

import pytest

import casket
from casket import Experiment

xgboost = pytest.importorskip("xgboost")
lightgbm = pytest.importorskip("lightgbm")
datasets = pytest.importorskip("sklearn.datasets")

from sklearn.base import clone  # noqa: E402

from casket_integrations.lightgbm import casket_callback  # noqa: E402
from casket_integrations.xgboost import CasketCallback  # noqa: E402

pytestmark = pytest.mark.frameworks

X, y = datasets.load_breast_cancer(return_X_y=True)
ROUNDS = 4


class OfXGBoost:
    """Trainings of XGBoost, with its own record of them."""

    first = 0
    params = {"objective": "binary:logistic", "max_depth": 2, "nthread": 1}  # noqa: RUF012
    callback = CasketCallback
    continued = "xgb_model"
    names = (("train", "logloss"), ("valid", "logloss"))
    deviation = "std"

    def train(self, *callbacks, stopping=None, rounds=ROUNDS, **more):
        train, valid = (xgboost.DMatrix(X[part], y[part]) for part in (slice(400), slice(400, 500)))
        self.record = {}
        return xgboost.train(
            {**self.params, **({"eta": 0} if stopping else {})},
            train,
            rounds,
            evals=[(train, "train"), (valid, "valid")],
            evals_result=self.record,
            early_stopping_rounds=stopping,
            callbacks=list(callbacks),
            verbose_eval=False,
            **more,
        )

    def best(self, booster):
        return {"best_iteration": booster.best_iteration, "best_score": booster.best_score}

    def cross_validate(self, *callbacks):
        data = xgboost.DMatrix(X, y)
        rows = xgboost.cv(self.params, data, ROUNDS, callbacks=list(callbacks), as_pandas=False)
        self.record = rows

    def classifier(self, callback):
        return xgboost.XGBClassifier(n_estimators=3, n_jobs=1, callbacks=[callback])

    def fit(self, classifier):
        classifier.fit(X, y, eval_set=[(X, y)], verbose=False)
        return classifier.evals_result()["validation_0"]["logloss"], "validation_0-logloss"

    def fail_early(self, callback):
        xgboost.train(
            {**self.params, "max_depth": "deep"}, xgboost.DMatrix(X, y), 2, callbacks=[callback]
        )

    def raising(self, error):
        class Raises(xgboost.callback.TrainingCallback):
            def after_iteration(self, model, epoch, evals_log):
                if epoch == 2:
                    raise error

        return Raises()


class OfLightGBM:
    first = 1
    params = {"objective": "binary", "num_leaves": 4, "num_threads": 1, "verbosity": -1}  # noqa: RUF012
    callback = casket_callback
    continued = "init_model"
    names = (("train", "binary_logloss"), ("valid", "binary_logloss"))
    deviation = "stdv"

    def train(self, *callbacks, stopping=None, rounds=ROUNDS, **more):
        train = lightgbm.Dataset(X[:400], y[:400], free_raw_data=False)
        valid = lightgbm.Dataset(X[400:500], y[400:500], reference=train, free_raw_data=False)
        self.record = {}
        record = [lightgbm.record_evaluation(self.record)]
        stop = [lightgbm.early_stopping(stopping, verbose=False)] if stopping else []
        return lightgbm.train(
            {**self.params, **({"learning_rate": 1e-300} if stopping else {})},
            train,
            num_boost_round=rounds,
            valid_sets=[train, valid],
            valid_names=["train", "valid"],
            callbacks=[*stop, *callbacks, *record],
            **more,
        )

    def best(self, booster):
        best = {data: dict(metrics) for data, metrics in booster.best_score.items()}
        return {"best_iteration": booster.best_iteration, "best_score": best}

    def cross_validate(self, *callbacks):
        data = lightgbm.Dataset(X, y, free_raw_data=False)
        rows = lightgbm.cv(self.params, data, ROUNDS, callbacks=list(callbacks))
        self.record = {name.replace(" ", "-", 1): values for name, values in rows.items()}

    def classifier(self, callback):
        classifier = lightgbm.LGBMClassifier(n_estimators=3, n_jobs=1, verbosity=-1)
        classifier.callback = callback
        return classifier

    def fit(self, classifier):
        is_old = "eval_X" not in inspect.signature(classifier.fit).parameters  # before 4.7
        evals = {"eval_set": [(X, y)]} if is_old else {"eval_X": (X,), "eval_y": (y,)}
        classifier.fit(X, y, **evals, callbacks=[classifier.callback])
        ((data, metrics),) = classifier.evals_result_.items()
        return metrics["binary_logloss"], f"{data}-binary_logloss"

    def fail_early(self, callback):
        lightgbm.train(
            {**self.params, "num_leaves": -1}, lightgbm.Dataset(X, y), 2, callbacks=[callback]
        )

    def raising(self, error):
        def raises(env):
            if env.iteration == 2:
                raise error

        return raises


@pytest.fixture(params=[OfXGBoost, OfLightGBM])
def library(request):
    return request.param()


def only(model):
    (session,) = model.sessions()
    return session


def numbers(session):
    return [row["epoch_num"] for row in session.epochs]


def check_epochs(session, library):
    """Compare all values with the library's own record."""
    for data, metric in library.names:
        values = [row[f"{data}-{metric}"] for row in session.epochs]
        assert values == library.record[data][metric]


def test_what_is_stored_equals_the_record_value_by_value(library, model):
    library.train(library.callback(model, {"seed": 1}))
    session = only(model)
    check_epochs(session, library)
    assert numbers(session) == list(range(library.first, library.first + ROUNDS))
    assert session.params == {**library.params, "num_boost_round": ROUNDS, "seed": 1}
    assert session.status == "completed"
    assert session.results() == []


def test_params_that_are_given_override_those_of_the_call(library, memory):
    library.train(library.callback(memory, {"num_boost_round": "a few"}))
    assert only(memory).params["num_boost_round"] == "a few"


def test_cross_validation_logs_means_and_deviations(library, memory):
    library.cross_validate(library.callback(memory))
    session = only(memory)
    assert len(session.epochs) == ROUNDS
    assert library.record
    for name, values in library.record.items():
        assert [row[name] for row in session.epochs] == values
    assert {name.rpartition("-")[2] for name in library.record} == {"mean", library.deviation}
    assert session.status == "completed"


def test_scikit_learns_interface_logs_each_fit(library, memory):
    classifier = library.classifier(library.callback(memory))
    for _ in range(2):
        values, name = library.fit(classifier)
    assert [session.meta.get("repeat") for session in memory.sessions()] == [None, 1]
    for session in memory.sessions():
        assert [row[name] for row in session.epochs] == values
        assert session.status == "completed"
        assert session.params["num_boost_round"] == 3


def test_a_classifier_is_cloned_and_pickled_with_its_callback(tmp_path):
    library = OfXGBoost()
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    classifier = library.classifier(CasketCallback(model))
    for copied in (clone(classifier), pickle.loads(pickle.dumps(classifier))):
        library.fit(copied)
        pickle.dumps(copied)
    assert [len(session.epochs) for session in model.sessions()] == [3, 3]


def test_early_stopping_completes_the_session_with_its_best_round(library, memory):
    booster = library.train(library.callback(memory), stopping=2, rounds=20)
    session = only(memory)
    check_epochs(session, library)
    assert len(session.epochs) == len(library.record["valid"][library.names[0][1]]) < 20
    assert session.results() == [library.best(booster)]
    assert session.status == "completed"


def test_a_callback_that_stops_before_ours_hides_no_round(memory):
    library = OfXGBoost()
    stopping = xgboost.callback.EarlyStopping(rounds=2)
    OfXGBoost.params = {**OfXGBoost.params, "eta": 0}
    try:
        library.train(stopping, CasketCallback(memory), rounds=20)
    finally:
        OfXGBoost.params = {k: v for k, v in OfXGBoost.params.items() if k != "eta"}
    check_epochs(only(memory), library)
    assert len(only(memory).epochs) == 3


def test_each_training_is_a_session_and_known_params_are_refused_if_asked_for(library, model):
    callback = library.callback(model)
    library.train(callback)
    library.train(callback)
    assert [session.meta.get("repeat") for session in model.sessions()] == [None, 1]
    with pytest.raises(casket.ExistingParamsException):
        library.train(library.callback(model, ensure_unique=True))
    assert [session.status for session in model.sessions()] == ["completed"] * 2


def test_a_training_that_continues_a_model_counts_on_in_its_session(library, memory):
    booster = library.train(library.callback(memory))
    first = dict(library.record)
    again = library.callback(memory, ensure_unique=True)
    library.train(again, **{library.continued: booster})
    session = only(memory)
    assert numbers(session) == list(range(library.first, library.first + 2 * ROUNDS))
    for data, metric in library.names:
        values = [row[f"{data}-{metric}"] for row in session.epochs]
        assert values == [*first[data][metric], *library.record[data][metric]]
    assert session.status == "completed"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_a_training_left_by_an_exception_reads_failed_while_it_is_held(library, memory, error):
    with pytest.raises(type(error)) as held:
        library.train(library.callback(memory), library.raising(error))
    session = only(memory)
    assert session.status == "failed"
    assert session.error.startswith(type(error).__name__)
    assert len(session.epochs) >= 2
    library.train(library.callback(memory, ensure_unique=True))
    assert [each.status for each in memory.sessions()] == ["failed", "completed"]
    assert held.tb is not None


def test_a_training_that_fails_before_its_first_round_is_a_failed_session(library, memory):
    with pytest.raises((xgboost.core.XGBoostError, lightgbm.basic.LightGBMError)):
        library.fail_early(library.callback(memory, {"a": 1}))
    session = only(memory)
    assert (session.status, session.params["a"]) == ("failed", 1)
    assert not session.epochs


def test_a_url_stands_for_a_model_and_a_failing_store_stops_no_training(
    library, file_url, memory, monkeypatch, one_warning
):
    library.train(library.callback(file_url, exp_id="exp", model_id="trees"))
    with casket.open(file_url) as runs:
        assert len(runs.sessions(experiment="exp", model="trees")[0].epochs) == ROUNDS

    def fails(*_, **__):
        raise casket.StoreFull("runs.json", "make room", 28)

    monkeypatch.setattr(casket.Model, "session", fails)
    with one_warning("make room"):
        library.train(library.callback(memory))
