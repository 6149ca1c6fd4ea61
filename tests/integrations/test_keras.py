"""`DBCallback` in real trainings on scikit-learn's digits."""

import copy
import json
import os
import pickle
import signal
import sys
import textwrap
import threading
import warnings

import numpy as np
import pytest

import casket
from casket import Experiment
from tests.stores.files import mounted

keras = pytest.importorskip("keras")
torch = pytest.importorskip("torch")
datasets = pytest.importorskip("sklearn.datasets")

from keras import layers  # noqa: E402
from keras.callbacks import Callback, CallbackList, LambdaCallback  # noqa: E402

from casket_integrations.keras import DBCallback  # noqa: E402

pytestmark = [
    pytest.mark.frameworks,
    # Keras's own, when an optimizer returns its config.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]


@pytest.fixture(scope="module")
def digits():
    X, y = datasets.load_digits(return_X_y=True)
    return (X[:256] / 16).astype("float32"), y[:256]


def net(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [layers.Input((64,)), layers.Dense(16, "relu"), layers.Dense(10, "softmax")]
    )
    options = {"optimizer": "adam", "metrics": ["accuracy"], **options}
    model.compile(loss="sparse_categorical_crossentropy", **options)
    return model


@pytest.fixture
def fit(digits):
    """Train a net on the digits; return Keras's History."""

    def fit(*callbacks, model=None, **options):
        options = {"epochs": 2, "batch_size": 64, "verbose": 0, **options}
        return (model or net()).fit(*digits, callbacks=list(callbacks), **options).history

    return fit


def only(model):
    (session,) = model.sessions()
    return session


def metrics(row):
    return {
        k: v for k, v in row.items() if k not in ("epoch_num", "batch_num", "epoch", "timestamp")
    }


def numbers(session):
    return [row["epoch_num"] for row in session.epochs]


def raising(error, epoch=1):
    """A callback that raises when an epoch begins."""

    def on_epoch_begin(number, logs):
        if number == epoch:
            raise error

    return LambdaCallback(on_epoch_begin=on_epoch_begin)


# Stored values


def test_what_is_stored_equals_the_history_value_by_value(model, fit):
    history = fit(DBCallback(model, {"lr": 0.001}), epochs=4, validation_split=0.25)
    session = only(model)
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert [row["epoch_num"] for row in session.epochs] == [1, 2, 3, 4]
    for i, row in enumerate(session.epochs):
        wanted = {name: values[i] for name, values in history.items()}
        assert metrics(row) == {**wanted, "learning_rate": 0.001}
    assert session.status == "completed"
    assert session.params == {"lr": 0.001}


def test_a_learning_rate_that_changes_equals_the_history(memory, fit):
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / (epoch + 1))
    history = fit(DBCallback(memory), schedule, epochs=3)
    stored = [row["learning_rate"] for row in only(memory).epochs]
    assert stored == [0.1, 0.05, 0.033333335]
    assert np.float32(stored).tolist() == np.float32(history["learning_rate"]).tolist()


def test_the_learning_rate_of_a_schedule_is_the_current_one(memory, fit):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=4, decay_rate=0.5)
    fit(DBCallback(memory), model=net(optimizer=keras.optimizers.SGD(schedule)))
    session = only(memory)
    assert [row["learning_rate"] for row in session.epochs] == [0.05, 0.025]
    assert session.meta["optimizer"]["learning_rate"]["class_name"] == "ExponentialDecay"


def test_the_models_config_and_the_optimizer_are_the_sessions_meta(memory, fit):
    model = net(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    fit(DBCallback(memory), model=model)
    meta = only(memory).meta
    assert meta["keras_model"] == json.loads(model.to_json())
    again = keras.Sequential.from_config(meta["keras_model"]["config"])
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    optimizer = meta["optimizer"]
    assert (optimizer["name"], optimizer["learning_rate"]) == ("SGD", 0.1)
    assert optimizer["momentum"] == 0.9


class Subclassed(keras.Model):
    """A model that has no config."""

    def __init__(self, units):
        super().__init__()
        self.dense = layers.Dense(units, "softmax")

    def call(self, inputs):
        return self.dense(inputs)


def test_a_subclassed_model_without_a_config_is_known_by_its_class(memory, fit):
    model = Subclassed(10)
    model.compile("sgd", "sparse_categorical_crossentropy")
    history = fit(DBCallback(memory), model=model)
    session = only(memory)
    assert session.meta["keras_model"] == {"class_name": "Subclassed"}
    assert session.meta["optimizer"]["name"] == "SGD"
    assert [row["loss"] for row in session.epochs] == history["loss"]


def test_a_model_of_several_outputs(memory, digits):
    X, y = digits
    entry = keras.Input((64,))
    outputs = {"digit": layers.Dense(10, "softmax", name="digit")(entry)}
    outputs["odd"] = layers.Dense(1, "sigmoid", name="odd")(entry)
    model = keras.Model(entry, outputs)
    losses = {"digit": "sparse_categorical_crossentropy", "odd": "binary_crossentropy"}
    model.compile("adam", losses, metrics={"digit": ["accuracy"], "odd": ["accuracy"]})
    target = {"digit": y, "odd": y % 2}
    history = model.fit(X, target, epochs=2, verbose=0, callbacks=[DBCallback(memory)]).history
    assert {"digit_loss", "odd_loss", "odd_accuracy"} <= set(history)
    for i, row in enumerate(only(memory).epochs):
        wanted = {name: values[i] for name, values in history.items()}
        assert wanted.items() <= row.items()


def test_arrays_tensors_and_variables_are_unwrapped(memory):
    callback = DBCallback(memory)
    callback.on_train_begin()
    logs = {
        "tensor": torch.tensor(0.5),
        "with_gradient": torch.tensor([0.25, 1.0], requires_grad=True),
        "variable": keras.Variable(0.1),
        "matrix": np.eye(2, dtype=int),
        "number": np.float32(0.1),
    }
    callback.on_epoch_end(0, logs)
    callback.on_train_end()
    assert metrics(only(memory).epochs[0]) == {
        "tensor": 0.5,
        "with_gradient": [0.25, 1.0],
        "variable": 0.1,
        "matrix": [[1, 0], [0, 1]],
        "number": 0.1,
    }


def test_the_shared_logs_are_never_touched(memory, fit):
    seen = []
    before = LambdaCallback(on_epoch_end=lambda _, logs: seen.append((logs, dict(logs))))
    fit(before, DBCallback(memory, batches=True), validation_split=0.25)
    assert all(logs == as_it_was for logs, as_it_was in seen)
    assert "learning_rate" not in seen[0][0]


def test_freq_keeps_every_so_many_epochs(memory, fit):
    history = fit(DBCallback(memory, {}, 2), epochs=6)
    assert numbers(only(memory)) == [2, 4, 6]
    assert [row["loss"] for row in only(memory).epochs] == history["loss"][1::2]


def test_batches_are_logged_if_asked_for(memory, fit):
    seen = []
    watching = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append((batch + 1, logs)))
    fit(DBCallback(memory, batches=True, freq=2), watching)
    batches = only(memory).batches
    assert [(row["epoch"], row["batch_num"]) for row in batches] == [
        (epoch, batch) for epoch in (1, 2) for batch in (1, 2, 3, 4)
    ]
    assert [(row["batch_num"], metrics(row)) for row in batches] == seen


def test_no_batches_are_logged_unless_asked_for(memory, fit):
    fit(DBCallback(memory))
    assert not only(memory).batches


def test_validation_in_some_epochs_only(memory, fit):
    history = fit(DBCallback(memory), epochs=4, validation_split=0.25, validation_freq=2)
    rows = only(memory).epochs
    assert ["val_loss" in row for row in rows] == [False, True, False, True]
    assert [row["val_loss"] for row in rows if "val_loss" in row] == history["val_loss"]
    assert only(memory).indexes == []


# When a session begins and ends


def test_params_that_were_run_are_refused_before_anything_is_trained(memory, fit):
    fit(DBCallback(memory, {"a": 1}))
    model, callback = net(), DBCallback(memory, {"a": 1})
    before = [weight.copy() for weight in model.get_weights()]
    with pytest.raises(casket.ExistingParamsException):
        fit(callback, model=model)
    assert all(map(np.array_equal, before, model.get_weights()))
    assert len(only(memory).epochs) == 2


def test_a_fit_with_an_initial_epoch_continues_the_session(model, fit):
    network = net()
    fit(DBCallback(model, {"a": 1}, ensure_unique=True), model=network)
    again = DBCallback(model, {"a": 1}, ensure_unique=True)
    fit(again, model=network, epochs=4, initial_epoch=2)
    assert numbers(only(model)) == [1, 2, 3, 4]
    assert only(model).status == "completed"


def test_a_fit_restored_from_a_backup_continues_the_session(memory, fit, tmp_path):
    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(ValueError, match="no power"):
        fit(backup(), DBCallback(memory, {"a": 1}), raising(ValueError("no power")), epochs=3)
    assert numbers(only(memory)) == [1]
    fit(DBCallback(memory, {"a": 1}), backup(), epochs=3)
    assert numbers(only(memory)) == [1, 2, 3]
    assert only(memory).status == "completed"


def test_each_fit_of_a_callback_is_a_session_unless_it_resumes(model, fit):
    callback, network = DBCallback(model, {"a": 1}, ensure_unique=False), net()
    fit(callback, model=network)
    fit(callback, model=network)
    fit(callback, model=network, initial_epoch=2, epochs=3)
    assert [numbers(session) for session in model.sessions()] == [[1, 2], [1, 2, 3]]
    assert [session.meta.get("repeat") for session in model.sessions()] == [None, 1]


@pytest.mark.parametrize("ensure_unique", [True, False])
def test_a_fit_that_resumes_never_joins_a_running_one(ensure_unique, file_url, fit):
    model = Experiment.use(file_url, exp_id="exp").model("net")

    def resume():
        again = DBCallback(model, {"a": 1}, ensure_unique=ensure_unique)
        fit(again, initial_epoch=1, epochs=2)

    resuming = LambdaCallback(on_epoch_begin=lambda epoch, _: epoch == 1 and resume())
    fit(DBCallback(model, {"a": 1}), resuming)
    assert [numbers(session) for session in model.sessions()] == [[1, 2], [2]]
    assert {session.status for session in model.sessions()} == {"completed"}


def test_a_fit_after_one_that_was_resumed_and_interrupted_is_a_new_session(model, fit):
    network = net()
    fit(DBCallback(model, {"a": 1}), model=network)
    interrupted = LambdaCallback(
        on_train_batch_end=lambda batch, logs: signal.raise_signal(signal.SIGINT)
    )
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(interrupted, DBCallback(model, {"a": 1}), model=network, initial_epoch=2, epochs=3)
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert (only(model).status, only(model).error) == ("failed", "KeyboardInterrupt")
    fit(DBCallback(model, {"a": 1}))
    assert [(s.status, numbers(s)) for s in model.sessions()] == [
        ("failed", [1, 2]),
        ("completed", [1, 2]),
    ]


def test_params_that_were_run_are_refused_on_a_callback_too(memory, fit):
    unique = DBCallback(memory, {"a": 2})
    fit(unique)
    with pytest.raises(casket.ExistingParamsException):
        fit(unique)
    fit(unique, initial_epoch=2, epochs=3)
    assert numbers(memory.sessions()[-1]) == [1, 2, 3]


def test_two_callbacks_on_one_model(memory, fit):
    history = fit(DBCallback(memory, {"a": 1}), DBCallback(memory, {"a": 2}, freq=2))
    one, two = memory.sessions()
    assert [row["loss"] for row in one.epochs] == history["loss"]
    assert numbers(two) == [2]
    assert {one.status, two.status} == {"completed"}


def test_of_two_callbacks_with_the_same_params_neither_goes_on(memory, fit):
    with pytest.raises(casket.ExistingParamsException):
        fit(DBCallback(memory, {"a": 1}), DBCallback(memory, {"a": 1}))
    assert only(memory).status == "failed"


def test_a_fit_of_no_epochs_makes_no_session(memory, fit):
    fit(DBCallback(memory), epochs=0)
    assert memory.sessions() == []


def test_early_stopping_completes_the_session(memory, fit):
    stopping = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=10)
    history = fit(DBCallback(memory), stopping, epochs=9)
    assert len(history["loss"]) == len(only(memory).epochs) == 2
    assert only(memory).status == "completed"


def test_stop_training_completes_the_session(memory, fit):
    model = net()
    stop = LambdaCallback(
        on_train_batch_end=lambda batch, logs: setattr(model, "stop_training", True)
    )
    fit(DBCallback(memory, batches=True), stop, model=model)
    session = only(memory)
    assert (len(session.epochs), len(session.batches)) == (1, 1)
    assert session.status == "completed"


# Evaluate and predict


def test_evaluate_and_predict_make_no_session(memory, digits):
    callback = DBCallback(memory)
    net().evaluate(*digits, verbose=0, callbacks=[callback])
    net().predict(digits[0], verbose=0, callbacks=[callback])
    assert memory.sessions() == []


def test_an_evaluate_after_fit_is_a_result_of_its_session(model, fit, digits):
    callback, network = DBCallback(model, {"a": 1}), net()
    fit(callback, model=network, validation_split=0.25)
    logs = network.evaluate(*digits, verbose=0, callbacks=[callback], return_dict=True)
    network.predict(digits[0], verbose=0, callbacks=[callback])
    assert only(model).results("evaluate") == [logs]
    assert only(model).status == "completed"


def test_an_evaluate_after_a_fit_that_failed_leaves_it_failed(memory, fit, digits):
    callback, network = DBCallback(memory), net()
    with pytest.raises(ValueError, match="no"):
        fit(callback, raising(ValueError("no")), model=network)
    network.evaluate(*digits, verbose=0, callbacks=[callback])
    session = only(memory)
    assert len(session.results("evaluate")) == 1
    assert (session.status, session.error) == ("failed", "ValueError: no")


# A fit that fails


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("filtering", [True, False])
def test_a_fit_left_by_an_exception_reads_failed_while_the_traceback_is_held(
    memory, fit, error, filtering
):
    if not filtering:
        keras.config.disable_traceback_filtering()
    try:
        with pytest.raises(type(error)) as held:
            fit(DBCallback(memory, {"a": 1}), raising(error))
    finally:
        keras.config.enable_traceback_filtering()
    session = only(memory)
    assert session.status == "failed"
    assert session.error.startswith(type(error).__name__)
    assert len(session.epochs) == 1
    fit(DBCallback(memory, {"a": 1}))
    assert [s.status for s in memory.sessions()] == ["failed", "completed"]
    assert held.tb is not None


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="needs signals")
def test_ctrl_c_in_fit(memory, fit):
    press = LambdaCallback(
        on_train_batch_end=lambda batch, logs: signal.raise_signal(signal.SIGINT)
    )
    # A shell that runs the tests in the background has it ignored.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(press, DBCallback(memory, batches=True))
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert (only(memory).status, only(memory).error) == ("failed", "KeyboardInterrupt")


def fails_in_on_train_begin(fit, callback, error):
    def fail(_):
        raise error

    fit(callback, LambdaCallback(on_train_begin=fail))


def fails_before_its_callbacks_know(fit, callback, error):
    model = net()

    class Fails(keras.losses.Loss):
        def call(self, *_):
            raise error

    model.compile("sgd", Fails())
    fit(callback, model=model)


def fails_in_a_callback_list(fit, callback, error):
    model = net()

    def fail(_):
        raise error

    given = CallbackList([callback, LambdaCallback(on_train_begin=fail)], model=model)
    keras.Model.fit(model, np.zeros((64, 64)), np.zeros(64), callbacks=given, verbose=0)


EARLY = [fails_in_on_train_begin, fails_before_its_callbacks_know, fails_in_a_callback_list]


@pytest.mark.parametrize("early", EARLY)
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_a_fit_that_fails_before_its_first_epoch_is_a_failed_session(memory, fit, early, error):
    with pytest.raises(type(error)):
        early(fit, DBCallback(memory, {"a": 1}), error)
    session = only(memory)
    assert (session.status, session.params) == ("failed", {"a": 1})
    assert session.error.startswith(type(error).__name__)
    assert not session.epochs


@pytest.mark.parametrize("early", EARLY)
def test_a_callback_that_trained_before_tells_of_an_early_failure_too(memory, fit, early):
    callback = DBCallback(memory, {"a": 1}, ensure_unique=False)
    fit(callback)
    with pytest.raises(ValueError, match="no"):
        early(fit, callback, ValueError("no"))
    assert [(s.status, numbers(s)) for s in memory.sessions()] == [
        ("completed", [1, 2]),
        ("failed", []),
    ]


@pytest.mark.parametrize("early", EARLY)
def test_an_early_failure_of_params_that_were_run_shows_itself_only(memory, fit, early):
    fit(DBCallback(memory, {"a": 1}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", casket.CasketWarning)
        with pytest.raises(ValueError, match="no"):
            early(fit, DBCallback(memory, {"a": 1}), ValueError("no"))
    assert only(memory).status == "completed"


def test_a_fit_that_resumes_and_fails_early_is_a_failure_of_its_session(memory, fit):
    def fail(_):
        raise ValueError("no")

    fit(DBCallback(memory, {"a": 1}))
    failing = LambdaCallback(on_train_begin=fail)
    with pytest.raises(ValueError, match="no"):
        fit(DBCallback(memory, {"a": 1}), failing, initial_epoch=2, epochs=3)
    assert (only(memory).status, only(memory).error) == ("failed", "ValueError: no")


def test_a_fit_that_is_refused_is_no_session_of_its_other_callbacks(memory, fit):
    fit(DBCallback(memory, {"a": 1}))
    with pytest.raises(casket.ExistingParamsException):
        fit(DBCallback(memory, {"a": 1}), DBCallback(memory, {"a": 2}))
    assert only(memory).params == {"a": 1}


def test_arguments_that_fit_does_not_take_make_no_session(memory, fit):
    with pytest.raises(TypeError):
        fit(DBCallback(memory), epoch=2)
    assert memory.sessions() == []


def test_the_same_callback_fits_again_after_a_failure(memory, fit):
    callback = DBCallback(memory, {"a": 1})
    with pytest.raises(ValueError, match="no"):
        fit(callback, raising(ValueError("no")))
    fit(callback)
    assert [s.status for s in memory.sessions()] == ["failed", "completed"]


def test_data_that_fails_in_the_middle(memory, digits):
    def batches():
        yield from [digits] * 4  # Keras looks at the first batches before it begins
        raise OSError("the disk is gone")

    options = {"steps_per_epoch": 9, "shuffle": False, "verbose": 0}
    with pytest.raises(OSError, match="the disk is gone"):
        net().fit(batches(), callbacks=[DBCallback(memory)], **options)
    assert only(memory).error == "OSError: the disk is gone"


def test_every_callback_of_a_failing_fit_learns_of_it(memory, fit):
    with pytest.raises(ValueError, match="no"):
        fit(DBCallback(memory, {"a": 1}), raising(ValueError("no")), DBCallback(memory, {"a": 2}))
    assert [s.error for s in memory.sessions()] == ["ValueError: no"] * 2


def test_fits_in_threads_fail_each_by_itself(memory, fit):
    def train(i):
        with pytest.raises(ValueError, match="no") if i % 2 else warnings.catch_warnings():
            callbacks = [raising(ValueError(f"no {i}"))] if i % 2 else []
            fit(DBCallback(memory, {"i": i}), *callbacks)

    models = [threading.Thread(target=train, args=(i,)) for i in range(4)]
    for thread in models:
        thread.start()
    for thread in models:
        thread.join()
    outcomes = sorted((s.params["i"], s.status, s.error) for s in memory.sessions())
    assert outcomes == [
        (0, "completed", None),
        (1, "failed", "ValueError: no 1"),
        (2, "completed", None),
        (3, "failed", "ValueError: no 3"),
    ]


def test_a_fit_inside_a_fit_fails_by_itself(memory, fit):
    def tune(*_):
        with pytest.raises(ValueError, match="no"):
            fit(DBCallback(memory, {"of": "inner"}), raising(ValueError("no")))

    fit(DBCallback(memory, {"of": "outer"}), LambdaCallback(on_train_begin=tune))
    outcomes = {s.params["of"]: (s.status, len(s.epochs)) for s in memory.sessions()}
    assert outcomes == {"inner": ("failed", 1), "outer": ("completed", 2)}


def test_a_fit_inside_a_fit_that_fails_leaves_the_inner_one_completed(memory, fit):
    def tune(*_):
        fit(DBCallback(memory, {"of": "inner"}))

    with pytest.raises(ValueError, match="no"):
        fit(
            DBCallback(memory, {"of": "outer"}),
            LambdaCallback(on_epoch_begin=lambda epoch, _: epoch or tune()),
            raising(ValueError("no")),
        )
    outcomes = {s.params["of"]: (s.status, len(s.epochs)) for s in memory.sessions()}
    assert outcomes == {"inner": ("completed", 2), "outer": ("failed", 1)}


def test_fit_keeps_its_signature_and_what_it_says_of_itself():
    import inspect

    assert "initial_epoch" in inspect.signature(keras.Model.fit).parameters
    assert keras.Model.fit.__name__ == "fit"
    with pytest.raises(ValueError, match="compile"):
        keras.Sequential().fit(np.zeros((1, 1)), np.zeros(1))


# A loop of the user's own


def train_by_hand(callbacks, model, digits, epochs=2, epoch_logs=None):
    X, y = digits
    logs = {}
    callbacks.on_train_begin()
    for epoch in range(epochs):
        callbacks.on_epoch_begin(epoch)
        model.reset_metrics()
        for i in range(4):
            chosen = slice(64 * i, 64 * (i + 1))
            callbacks.on_train_batch_begin(i)
            logs = model.train_on_batch(X[chosen], y[chosen], return_dict=True)
            callbacks.on_train_batch_end(i, logs)
        callbacks.on_epoch_end(epoch, logs if epoch_logs is None else epoch_logs)
    callbacks.on_train_end()
    return logs


def test_a_loop_with_train_on_batch(memory, digits):
    model = net()
    callbacks = CallbackList([DBCallback(memory, batches=True)], model=model, add_history=True)
    train_by_hand(callbacks, model, digits)
    session = only(memory)
    assert [row["loss"] for row in session.epochs] == model.history.history["loss"]
    assert len(session.batches) == 8
    assert session.meta["keras_model"]["class_name"] == "Sequential"
    assert session.status == "completed"


def test_a_loop_that_gives_epochs_no_metrics_gets_the_means_of_its_batches(memory, digits):
    model = net()
    callbacks = CallbackList([DBCallback(memory, batches=True)], model=model)
    train_by_hand(callbacks, model, digits, epoch_logs={})
    session = only(memory)
    for row in session.epochs:
        batches = [b["accuracy"] for b in session.batches if b["epoch"] == row["epoch_num"]]
        assert row["accuracy"] == pytest.approx(sum(batches) / 4)


def test_a_loop_that_goes_on_where_it_stopped_continues_its_session(memory):
    for epochs in ([0, 1], [2, 3]):
        callback = DBCallback(memory, {"a": 1})
        callback.on_train_begin()
        for epoch in epochs:
            callback.on_epoch_end(epoch, {"loss": 0.5})
        callback.on_train_end()
    assert numbers(only(memory)) == [1, 2, 3, 4]
    assert "keras_model" not in only(memory).meta


def test_a_loop_that_was_left_is_failed_when_the_next_begins(memory):
    callback = DBCallback(memory)
    for _ in range(2):
        callback.on_train_begin()
        callback.on_epoch_begin(0)
        callback.on_epoch_end(0, {"loss": 0.5})
    callback.on_train_end()
    assert [s.status for s in memory.sessions()] == ["failed", "completed"]


# When logging fails


class Unstorable:
    pass


def test_a_metric_that_cannot_be_stored_stops_no_training(memory, fit, one_warning):
    adding = LambdaCallback(on_epoch_end=lambda _, logs: logs.update(bad=Unstorable()))
    with one_warning("bad"):
        history = fit(adding, DBCallback(memory), epochs=3)
    assert [row["loss"] for row in only(memory).epochs] == history["loss"]
    assert "bad" not in only(memory).epochs[0]
    assert only(memory).status == "completed"


def test_on_error_raise_stops_the_training(memory, fit):
    adding = LambdaCallback(on_epoch_end=lambda _, logs: logs.update(bad=Unstorable()))
    with pytest.raises(casket.UnstorableValue):
        fit(adding, DBCallback(memory, on_error="raise"))
    assert only(memory).status == "failed"


def test_an_optimizer_that_cannot_tell_its_config_stops_no_training(memory, fit, one_warning):
    class Shy(keras.optimizers.SGD):
        def get_config(self):
            raise ZeroDivisionError("it is a secret")

    model = net(optimizer=Shy(0.1))
    with one_warning("it is a secret"):
        history = fit(DBCallback(memory), model=model)
    session = only(memory)
    assert [row["loss"] for row in session.epochs] == history["loss"]
    assert session.meta["keras_model"]["class_name"] == "Sequential"


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small file system")
def test_a_disk_that_fills_up_and_has_room_again(tmp_path, fit, one_warning):
    with mounted(tmp_path, "size=512k"):
        model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
        ballast = tmp_path / "ballast"

        def fill_or_free(epoch, _):
            if epoch == 1:
                with pytest.raises(OSError, match="space"):
                    ballast.write_bytes(bytes(2**20))
            elif epoch == 3:
                ballast.unlink()

        with one_warning("Store"):
            filling = LambdaCallback(on_epoch_begin=fill_or_free)
            history = fit(filling, DBCallback(model, batches=True), epochs=5, batch_size=8)
        session = only(model)
        assert {1, 4, 5} <= {batch["epoch"] for batch in session.batches} < {1, 2, 3, 4, 5}
        assert session.epochs[-1]["loss"] == history["loss"][-1]
        assert session.status == "completed"
        model.experiment.close()


# Where it runs


def test_a_url_stands_for_a_model(file_url, fit):
    fit(DBCallback(file_url, {"a": 1}, exp_id="digits", model_id="dense"))
    with casket.open(file_url) as runs:
        (session,) = runs.sessions(experiment="digits", model="dense")
        assert len(session.epochs) == 2


def test_another_rank_than_zero_logs_nothing(tmp_path, fit, digits, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    path = tmp_path / "runs.json"
    callback, model = DBCallback(str(path), batches=True), net()
    fit(callback, model=model)
    model.evaluate(*digits, verbose=0, callbacks=[callback])
    assert not path.exists()


@pytest.mark.parametrize("how", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_copies_train_by_themselves(file_url, fit, how):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    callback = DBCallback(model, {"a": 1}, ensure_unique=False)
    fit(how(callback))
    fit(callback)
    fit(how(callback))
    assert [numbers(session) for session in model.sessions()] == [[1, 2]] * 3
    assert [session.meta.get("repeat") for session in model.sessions()] == [None, 1, 2]
    assert {session.status for session in model.sessions()} == {"completed"}


def test_it_is_found_in_casket():
    assert casket.DBCallback is DBCallback
    assert "DBCallback" in dir(casket)
    assert issubclass(DBCallback, Callback)


FORKING = """
    import os, sys
    import keras, numpy as np
    from casket import DBCallback
    from keras import layers

    class Fork(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                child = os.fork()
                if child == 0:
                    sys.exit("leaves the child's fit by an exception")
                assert os.waitpid(child, 0)[1] >> 8 == 3

    model = keras.Sequential([layers.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.zeros((4, 2)), np.zeros((4, 1))
    callbacks = [DBCallback(sys.argv[1], exp_id="exp"), Fork()]
    try:
        model.fit(x, y, epochs=3, verbose=0, callbacks=callbacks)
    except SystemExit:
        os._exit(3)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_in_fit_does_not_end_the_session(fork_server, tmp_path):
    fork_server.load("keras", "casket_integrations.keras")
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(FORKING))
    fork_server.run(script, tmp_path / "runs.json")
    with casket.open(tmp_path / "runs.json") as runs:
        (session,) = runs.sessions()
        assert (session.status, numbers(session)) == ("completed", [1, 2, 3])


ON_JAX = """
    import sys
    import keras, numpy as np
    from casket import DBCallback, Experiment
    from keras import layers

    assert keras.backend.backend() == "jax"
    model = Experiment.use(sys.argv[1], exp_id="exp").model("jax")
    network = keras.Sequential([layers.Input((2,)), layers.Dense(1)])
    network.compile("sgd", "mse")
    x, y = np.arange(64.0).reshape(32, 2) / 64, np.ones((32, 1))
    options = {"epochs": 2, "batch_size": 8, "verbose": 0, "validation_split": 0.5}
    for batches in (False, True):
        callbacks = [DBCallback(model, {"batches": batches}, batches=batches)]
        history = network.fit(x, y, callbacks=callbacks, **options).history
        session = model.sessions()[-1]
        for i, row in enumerate(session.epochs):
            wanted = {name: values[i] for name, values in history.items()}
            assert {**wanted, "learning_rate": 0.01}.items() <= row.items()
    assert [row["batch_num"] for row in session.batches] == [1, 2, 1, 2]
    callbacks = keras.callbacks.CallbackList([DBCallback(model, {"loop": 1})], model=network)
    callbacks.on_train_begin()
    for i in range(4):
        callbacks.on_train_batch_end(i, {"loss": float(i)})
    callbacks.on_epoch_end(0, {})
    callbacks.on_train_end()
    assert model.sessions()[-1].last["loss"] == 1.5
    print(len(model.sessions()))
"""


def test_on_jax(run_python, tmp_path):
    pytest.importorskip("jax")
    printed = run_python(ON_JAX, tmp_path / "runs.json", KERAS_BACKEND="jax", JAX_PLATFORMS="cpu")
    assert printed == "3"
