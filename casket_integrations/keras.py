"""Keras: `model.fit(x, y, callbacks=[DBCallback(...)])` logs the training.

Supports Keras 3 on any backend. Keras calls no callback when `fit` raises an exception, so
importing this module wraps `keras.Model.fit` in a `try` statement, which has no effect without a
`DBCallback`.
"""

# ruff: noqa: ARG002 - the signatures of the events are Keras's
from __future__ import annotations

import json
from collections.abc import Iterator
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
    """Logs every `fit` as a separate session with its epochs and, optionally, its batches.

    Epochs and batches count from 1, as in the output of Keras. A `fit` that resumes an earlier
    `fit`, by `initial_epoch` or `BackupAndRestore`, continues the last session with the same params
    that is not running. An `evaluate` after `fit` is added to the session as a result with the
    index `"evaluate"`. If `fit` ends with an exception or Ctrl-C, the logged records are kept and
    the session has the status failed.

    In a KerasTuner search, each trial is a session, and the trial's hyperparameters are added to
    its params.

    In a custom training loop, call the events of a `keras.callbacks.CallbackList`; an epoch without
    metrics gets the means of its batches.

    Args:
        model: a casket Model, or the URL of a store, used with `exp_id` and `model_id`.
        params: the hyperparameters of the session: a dict, a Namespace or a dataclass.
        freq: the interval of logged epochs.
        batches: whether to log every batch, too. The batches of a `fit` are written twice a second,
            or when the next batch takes longer; `kill -9` can lose the batches since then.
        ensure_unique: whether to refuse params that were run already instead of starting a
            repetition of them.
        exp_id: the experiment id, if `model` is a URL.
        model_id: the model id, if `model` is a URL.
        on_error: `"warn"` to issue a single warning about a logging failure and continue the
            training, or `"raise"` to raise the error.

    Raises:
        ExistingParamsException: at the start of the first epoch, if the params were run already.
    """

    def __init__(
        self,
        model: casket.Model | str,
        params: Any = None,
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
        # On a backend with threads, Keras then does not wait for the metrics of a batch.
        self.async_safe = not batches
        self._logs_batches = batches
        self._is_in_fit = self._has_begun = False
        self._epoch = 0

    def on_train_begin(self, logs: Values = None) -> None:
        """Expect the first epoch; its number decides whether the training is new or resumed."""
        arguments = join(self.recorder, self.model)
        self._is_in_fit = arguments is not None
        self._expect(arguments or {})

    def on_epoch_begin(self, epoch: int, logs: Values = None) -> None:
        """Start or continue the session before the first epoch."""
        self._epoch = epoch + 1
        self._begin(epoch)

    def on_train_batch_end(self, batch: int, logs: Values = None) -> None:
        """Log a batch if `batches` is set."""
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
        """Add the result of an `evaluate` after `fit` to the session of the fit."""
        self.recorder.late_result(logs, index_by="evaluate")

    def _expect(self, arguments: Arguments) -> None:
        """Expect a training with the given arguments of `fit`."""
        self._has_begun = False
        self.recorder.expect(resumes=arguments.get("initial_epoch", 0) > 0)
        self.recorder.describe(trial_params(callbacks_of(arguments)))

    def _begin(self, epoch: int) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        if self.recorder.start(resumes=epoch > 0) and self.model is not None:
            for facts in (_model_facts, _optimizer_facts):
                with self.recorder.forgiving():
                    self.recorder.meta(facts(self.model))


def _expected(arguments: Arguments) -> Iterator[Recorder]:
    """Yield the recorders of the callbacks passed to `fit`, each expecting the training."""
    for callback in callbacks_of(arguments):
        if isinstance(callback, DBCallback):
            callback._expect(arguments)
            yield callback.recorder


Model.fit = ending_sessions(Model.fit, _expected)


def _model_facts(model: Any) -> dict[str, Any]:
    """Return the config of a model, or its class if it has no config."""
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
    """Return the current learning rate, with a fast path for the usual single precision."""
    rate = getattr(getattr(model, "optimizer", None), "learning_rate", None)
    if getattr(rate, "dtype", None) == "float32" and isinstance(rate, Variable):
        rate = _shortest(float(rate))
    return {} if rate is None else {"learning_rate": rate}


@lru_cache(maxsize=64)
def _shortest(value: float) -> Any:
    """Return the shortest decimal of a single-precision number: 0.1, not 0.10000000149011612."""
    return foreign.plain(np.float32(value))
