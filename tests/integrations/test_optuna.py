"""`CasketCallback` of Optuna: a session a trial, however the trial ends."""

import math

import pytest

import casket
from casket import Experiment

optuna = pytest.importorskip("optuna")

from casket_integrations.optuna import CasketCallback  # noqa: E402

pytestmark = pytest.mark.frameworks


@pytest.fixture(autouse=True)
def no_output():
    optuna.logging.disable_default_handler()
    yield
    optuna.logging.enable_default_handler()


def objective(trial):
    """A trial that ends in the way of its number."""
    x = trial.suggest_float("x", 0, 1)
    for step in range(3):
        trial.report(x / (step + 1), step)
        if trial.number == 1 and step == 1:
            raise optuna.TrialPruned
        if trial.number == 2:
            raise ValueError("diverged")
    trial.suggest_int("late", 0, 9)
    trial.set_user_attr("host", "here")
    return math.nan if trial.number == 3 else x


@pytest.fixture(scope="module")
def searched():
    """The trials of a study and their sessions."""
    model = Experiment.use(":memory:", exp_id="exp").model("net")
    study = optuna.create_study(study_name="s")
    study.optimize(objective, 5, catch=ValueError, callbacks=[CasketCallback(model)])
    return list(zip(study.trials, model.sessions(), strict=True))


def test_each_trial_is_a_session_with_its_intermediate_values(searched):
    assert len(searched) == 5
    for trial, session in searched:
        values = {row["epoch_num"]: row["intermediate_value"] for row in session.epochs}
        assert values == trial.intermediate_values != {}
        assert session.params == {"x": trial.params["x"]}
        assert session.meta.get("hyperparameters", {}).get("late") == trial.params.get("late")
        assert session.meta.get("user_attrs", {}) == trial.user_attrs
        facts = {"study_name": "s", "number": trial.number, "directions": ["minimize"]}
        assert facts.items() <= session.meta.items()


def test_params_suggested_late_are_written_once(file_url):
    model = Experiment.use(file_url, exp_id="exp").model("net")

    def objective(trial):
        for step in range(5):
            trial.report(1.0, step)
            trial.suggest_int("late", 0, 9)
        return 1.0

    optuna.create_study().optimize(objective, 1, callbacks=[CasketCallback(model)])
    metas = [each["body"] for _, each in model.backend.store.records(kinds={"meta"})]
    assert [meta.keys() for meta in metas if "hyperparameters" in meta] == [{"hyperparameters"}]


def test_trials_read_as_they_ended(searched):
    ends = [(session.status, session.error) for _, session in searched]
    assert ends == [
        ("completed", None),
        ("completed", None),
        ("failed", "ValueError: diverged"),
        ("failed", "no valid value returned"),
        ("completed", None),
    ]
    assert [s.meta.get("pruned") for _, s in searched] == [None, True, None, None, None]
    results = [[{"value": value} for value in trial.values or ()] for trial, _ in searched]
    assert [session.results() for _, session in searched] == results
    assert [len(result) for result in results] == [1, 1, 0, 0, 1]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_trial_without_reports_and_with_several_values(memory):
    study = optuna.create_study(directions=["minimize", "maximize"])
    callback = CasketCallback(memory, {"x": "given"})

    def objective(trial):
        return trial.suggest_float("x", 0, 1), trial.suggest_categorical("kind", ["a"]) == "a"

    study.optimize(objective, n_trials=1, callbacks=[callback])
    study.set_metric_names(["loss", "acc"])
    study.optimize(objective, n_trials=1, callbacks=[callback])
    first, second = memory.sessions()
    x, one = study.trials[0].values
    assert first.results() == [{"value_0": x, "value_1": one}]
    assert second.results()[0].keys() == {"loss", "acc"}
    assert first.params == {"x": "given", "kind": "a"}


def test_a_step_reported_again_is_ignored_as_optuna_ignores_it(memory):
    def objective(trial):
        for value in (1.0, 2.0):
            trial.report(value, 0)
        return 0.0

    study = optuna.create_study()
    with pytest.warns(UserWarning, match="already reported"):
        study.optimize(objective, 1, callbacks=[CasketCallback(memory)])
    (session,) = memory.sessions()
    assert [row["intermediate_value"] for row in session.epochs] == [1.0]
    assert study.trials[0].intermediate_values == {0: 1.0}


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_an_exception_of_the_objective_is_the_error_of_its_session(memory, error):
    def objective(trial):
        trial.suggest_float("x", 0, 1)
        raise error

    study = optuna.create_study()
    with pytest.raises(type(error)) as held:
        study.optimize(objective, 3, callbacks=[CasketCallback(memory)])
    (session,) = memory.sessions()
    assert session.status == "failed"
    assert session.error.startswith(type(error).__name__)
    assert session.params.keys() == {"x"}
    assert held.tb is not None


def test_an_exception_of_optunas_own_ends_the_open_session(memory):
    class Sampler(optuna.samplers.RandomSampler):
        def after_trial(self, *_):
            raise RuntimeError("sampler")

    study = optuna.create_study(sampler=Sampler())
    with pytest.raises(RuntimeError, match="sampler"):
        study.optimize(
            lambda trial: trial.report(1, 0) or 0.0, 1, callbacks=[CasketCallback(memory)]
        )
    (session,) = memory.sessions()
    assert (session.status, session.error) == ("failed", "RuntimeError: sampler")


def test_trials_in_threads_are_sessions_of_their_own(memory):
    study = optuna.create_study()
    study.optimize(
        lambda trial: trial.report(trial.number, 0) or float(trial.number),
        n_trials=6, n_jobs=3, callbacks=[CasketCallback(memory)],
    )  # fmt: skip
    assert {s.meta["number"]: s.last["value"] for s in memory.sessions()} == {
        number: float(number) for number in range(6)
    }
    assert {len(session.epochs) for session in memory.sessions()} == {1}


def test_known_params_are_refused_if_asked_for(memory):
    study = optuna.create_study()
    study.enqueue_trial({"x": 1})
    study.enqueue_trial({"x": 1})

    def objective(trial):
        return trial.suggest_int("x", 0, 1)

    study.optimize(objective, 1, callbacks=[CasketCallback(memory)])
    with pytest.raises(casket.ExistingParamsException):
        study.optimize(objective, 1, callbacks=[CasketCallback(memory, ensure_unique=True)])
    assert [session.status for session in memory.sessions()] == ["completed"]


def test_optimize_without_the_callback_is_optunas(memory):
    study = optuna.create_study()
    seen = []
    study.optimize(lambda trial: 0.0, 1, callbacks=[lambda study, trial: seen.append(trial)])
    with pytest.raises(TypeError):
        study.optimize()
    assert len(seen) == 1


PROCESS = """
import sys, optuna
from casket_integrations.optuna import CasketCallback
from tests.waiting import eventually

storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend("journal"))
study = optuna.create_study(study_name="s", storage=storage, load_if_exists=True)

def objective(trial):
    eventually(lambda: len(study.get_trials(deepcopy=False)) > 1)  # until the other has begun
    x = trial.suggest_float("x", 0, 1)
    trial.report(x, 0)
    return x

study.optimize(objective, 3, callbacks=[CasketCallback("runs.json", exp_id="e")])
"""


def test_several_processes_work_on_one_study(tmp_path, fork_server):
    script = tmp_path / "search.py"
    script.write_text(PROCESS)
    fork_server.load("optuna")
    for pid in [fork_server.start(script) for _ in range(2)]:
        fork_server.wait(pid)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal"))
    study = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend))
    with casket.open(tmp_path / "runs.json") as runs:
        sessions = {session.meta["number"]: session for session in runs.sessions()}
        assert len(sessions) == len(runs.sessions()) == 6
        assert len({session.meta["pid"] for session in sessions.values()}) == 2
        for trial in study.trials:
            assert sessions[trial.number].params == trial.params
            assert sessions[trial.number].results() == [{"value": trial.value}]
            assert sessions[trial.number].status == "completed"
