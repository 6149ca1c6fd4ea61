"""Keras: `model.fit(x, y, callbacks=[DBCallback(...)])` logs the training.

Written against Keras 3, on any backend. Keras calls no callback when an exception leaves `fit`, so
importing this module puts a `try` around `keras.Model.fit`; without a `DBCallback` that does
nothing.
"""

# ruff: noqa: ARG002 - the signatures of the events are Keras's
from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import casket
from casket.errors import missing
from casket.format import arrays as foreign
from casket_integrations.calls import Arguments, callbacks_of, ending_sessions, join
from casket_integrations.hyperparameters import trial_params
from casket_integrations.recorder import OnError, Recorder, Values

try:
    import numpy as np  # comes with Keras
    from keras import Model, Variable  # type: ignore[import-untyped]  # Keras has no types
    from keras.callbacks import Callback  # type: ignore[import-untyped]
except ModuleNotFoundError as error:
    raise missing(error, "keras", "keras") from error


class DBCallback(Callback):  # type: ignore[misc]  # Keras has no types
    """Logs every `fit` as a session of its own: its epochs, and its batches if asked for.

    Epochs and batches count from 1, as Keras shows them. A `fit` that resumes an earlier one, by
    `initial_epoch` or `BackupAndRestore`, continues the last session of the same params that is not
    running. An `evaluate` after `fit` is added to the session as a result filed under `"evaluate"`.
    If `fit` ends by an exception or Ctrl-C, what was logged stays and the session reads failed.

    In a search of KerasTuner each trial is a session; the trial's hyperparameters are params, too.

    In a loop of your own, call the events in a `keras.callbacks.CallbackList`; an epoch that is
    given no metrics gets the means of its batches.

    Args:
        model: a casket Model, or the URL of a store; then `exp_id` and `model_id` name the rest.
        params: the hyperparameters of the session.
        freq: keep every so many epochs.
        batches: log every batch too. Those of a `fit` are written twice a second, or when the
            next takes longer; `kill -9` can take the ones since.
        ensure_unique: refuse params that were run already; else begin a repetition of them.
        exp_id: the experiment, with a URL.
        model_id: the model, with a URL.
        on_error: `"warn"`: a failure to log is one warning and the training goes on; `"raise"`.

    Raises:
        ExistingParamsException: when the first epoch begins: the params were run already.
    """

    def __init__(
        self,
        model: casket.Model | str,
        params: Mapping[str, Any] | None = None,
        freq: int = 1,
        *,
        batches: bool = False,
        ensure_unique: bool = True,
        exp_id: str | None = None,
        model_id: str | None = None,
        on_error: OnError = "warn",
    ) -> None:
        super().__init__()
        self.recorder = Recorder(
            model, params, freq=freq, ensure_unique=ensure_unique,
            exp_id=exp_id, model_id=model_id, on_error=on_error,
        )  # fmt: skip
        # Tells Keras that it need not wait for the metrics of a batch on a backend with threads.
        self.async_safe = not batches
        self._params = dict(params or {})
        self._logs_batches = batches
        self._is_in_fit = self._has_begun = False
        self._epoch = 0

    def on_train_begin(self, logs: Values = None) -> None:
        """Expect a first epoch; its number decides whether the training is a new one."""
        arguments = join(self.recorder, self.model)
        self._is_in_fit = arguments is not None
        self._expect(arguments or {})

    def on_epoch_begin(self, epoch: int, logs: Values = None) -> None:
        """Begin the session, or continue it, before the first epoch."""
        self._epoch = epoch + 1
        self._begin(epoch)

    def on_train_batch_end(self, batch: int, logs: Values = None) -> None:
        """Log a batch, if that was asked for."""
        if not self._is_in_fit:
            self._begin(0)
            self.recorder.count_batch(logs)
            if self._logs_batches:
                self.recorder.batch(batch + 1, logs, self._epoch)
        elif self._logs_batches:
            self.recorder.quick_batch(batch + 1, logs, self._epoch)

    def on_epoch_end(self, epoch: int, logs: Values = None) -> None:
        """Log an epoch."""
        self._begin(epoch)
        self.recorder.epoch(epoch + 1, logs, also=lambda: _learning_rate(self.model))

    def on_train_end(self, logs: Values = None) -> None:
        """End the session."""
        self.recorder.end()

    def on_test_end(self, logs: Values = None) -> None:
        """Add an `evaluate` after `fit` to the session of that fit."""
        self.recorder.late_result(logs, index_by="evaluate")

    def _expect(self, arguments: Arguments) -> None:
        """Expect a training, which the arguments of `fit` describe."""
        self._has_begun = False
        self.recorder.params = {**trial_params(callbacks_of(arguments)), **self._params}
        self.recorder.expect(resumes=arguments.get("initial_epoch", 0) > 0)

    def _begin(self, epoch: int) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        if self.recorder.start(resumes=epoch > 0) and self.model is not None:
            for facts in (_model_facts, _optimizer_facts):
                with self.recorder.forgiving():
                    self.recorder.meta(facts(self.model))


def _expected(arguments: Arguments) -> Iterator[Recorder]:
    """Yield the recorders of the callbacks that `fit` is given, each expecting the training."""
    for callback in callbacks_of(arguments):
        if isinstance(callback, DBCallback):
            callback._expect(arguments)
            yield callback.recorder


Model.fit = ending_sessions(Model.fit, _expected)


def _model_facts(model: Any) -> dict[str, Any]:
    """Return a model's config; of a model that has none, its class."""
    try:
        return {"keras_model": json.loads(model.to_json())}
    except Exception:  # noqa: BLE001 - it runs get_config of the user's layers and optimizer
        return {"keras_model": {"class_name": type(model).__name__}}


def _optimizer_facts(model: Any) -> dict[str, Any]:
    optimizer: Any = getattr(model, "optimizer", None)
    config = optimizer.get_config() if hasattr(optimizer, "get_config") else {}
    if isinstance(config.get("learning_rate"), float):  # else a schedule
        config = {**config, **_learning_rate(model)}
    return {"optimizer": {**config, "name": type(optimizer).__name__} if optimizer else None}


def _learning_rate(model: Any) -> dict[str, Any]:
    """Return the current learning rate; in single precision, as nearly always, by a quick way."""
    rate = getattr(getattr(model, "optimizer", None), "learning_rate", None)
    if getattr(rate, "dtype", None) == "float32" and isinstance(rate, Variable):
        rate = _shortest(float(rate))
    return {} if rate is None else {"learning_rate": rate}


@lru_cache(maxsize=64)
def _shortest(value: float) -> Any:
    """Return a number of single precision as casket unwraps it: 0.1, not 0.10000000149011612."""
    return foreign.plain(np.float32(value))
