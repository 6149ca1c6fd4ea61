"""KerasTuner hands a deep copy of `DBCallback` to each trial; each is a session."""

import pytest

keras = pytest.importorskip("keras")
keras_tuner = pytest.importorskip("keras_tuner")
datasets = pytest.importorskip("sklearn.datasets")

from keras import layers  # noqa: E402

from casket_integrations.keras import DBCallback  # noqa: E402

pytestmark = [
    pytest.mark.frameworks,
    # KerasTuner's and Keras's own.
    pytest.mark.filterwarnings("ignore:currentThread.* is deprecated"),
    pytest.mark.filterwarnings("ignore:getName.* is deprecated"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]


def build(trial):
    """Build a small net for a trial."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((64,)), layers.Dense(10, "softmax")])
    rate = trial.Choice("rate", [0.1, 0.01, 0.001])
    model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy")
    return model


def tuner_of(kind, folder, **options):
    """Return a tuner that searches for the best learning rate."""
    tuner = getattr(keras_tuner, kind)
    return tuner(build, "loss", directory=folder, project_name="tuning", seed=0, **options)


def numbers(session):
    return [row["epoch_num"] for row in session.epochs]


def search(tuner, callback, **options):
    """Run a search on digits."""
    X, y = datasets.load_digits(return_X_y=True)
    options = {"epochs": 2, "batch_size": 64, "verbose": 0, **options}
    tuner.search((X[:128] / 16).astype("float32"), y[:128], callbacks=[callback], **options)


@pytest.mark.parametrize("ensure_unique", [True, False])
def test_each_trial_of_keras_tuner_is_a_session_with_its_hyperparameters(
    ensure_unique, memory, tmp_path
):
    tuner = tuner_of("GridSearch", tmp_path, max_trials=3)
    search(tuner, DBCallback(memory, {"mine": 1}, ensure_unique=ensure_unique))
    trials = {trial.hyperparameters["rate"]: trial for trial in tuner.oracle.trials.values()}
    assert len(trials) == 3
    sessions = {session.params["rate"]: session for session in memory.sessions()}
    assert len(memory.sessions()) == 3
    for rate, session in sessions.items():
        assert session.params == {"rate": rate, "mine": 1}
        assert session.status == "completed"
        assert numbers(session) == [1, 2]
        assert min(row["loss"] for row in session.epochs) == trials[rate].score
        assert "repeat" not in session.meta


@pytest.mark.parametrize("ensure_unique", [True, False])
def test_each_execution_of_a_trial_is_a_session(ensure_unique, memory, tmp_path):
    tuner = tuner_of("GridSearch", tmp_path, max_trials=2, executions_per_trial=2)
    search(tuner, DBCallback(memory, ensure_unique=ensure_unique), epochs=1)
    repeats = sorted((s.params["rate"], s.meta.get("repeat", 0)) for s in memory.sessions())
    assert [repeat for _, repeat in repeats] == [0, 1, 0, 1]
    assert [numbers(session) for session in memory.sessions()] == [[1]] * 4


def test_each_round_of_hyperband_is_a_session(memory, tmp_path):
    tuner = tuner_of("Hyperband", tmp_path, max_epochs=3, factor=3)
    search(tuner, DBCallback(memory), epochs=3)
    sessions = memory.sessions()
    assert len(sessions) == len(tuner.oracle.trials) > 2
    assert {session.status for session in sessions} == {"completed"}
    for session in sessions:
        first = session.params["tuner/initial_epoch"]
        assert numbers(session) == list(range(first + 1, session.params["tuner/epochs"] + 1))


def test_trials_that_were_run_before_the_search_are_refused(memory, tmp_path):
    search(tuner_of("GridSearch", tmp_path / "one", max_trials=2), DBCallback(memory))
    again = tuner_of("GridSearch", tmp_path / "two", max_trials=2)
    search(again, DBCallback(memory))
    for trial in again.oracle.trials.values():
        assert "ExistingParamsException" in trial.message  # KerasTuner keeps it and goes on
    assert [session.status for session in memory.sessions()] == ["completed"] * 2
