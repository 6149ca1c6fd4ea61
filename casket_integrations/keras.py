"""Keras: `model.fit(x, y, callbacks=[DBCallback(...)])` logs the training.

Written against Keras 3, on any backend. Keras calls no callback when an exception leaves `fit`, so
importing this module puts a `try` around `keras.Model.fit`; without a `DBCallback` it does nothing.
"""

# ruff: noqa: ARG002 - the signatures of the events are Keras's
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any, NamedTuple

import casket
from casket.errors import missing
from casket_integrations.recorder import OnError, Recorder, Values

try:
    from keras import Model  # type: ignore[import-untyped]  # Keras has no types
    from keras.callbacks import Callback  # type: ignore[import-untyped]
except ModuleNotFoundError as error:
    raise missing(error, "keras", "keras") from error


class DBCallback(Callback):  # type: ignore[misc]  # Keras has no types
    """Logs every `fit` as a session: its epochs, and its batches if asked for.

    Epochs and batches count from 1, as Keras shows them. A `fit` that goes on where an earlier one
    stopped, by `initial_epoch` or `BackupAndRestore`, goes on with the session of the same params.
    An `evaluate` after `fit` is added to the session as a result filed under `"evaluate"`. If `fit`
    ends by an exception or Ctrl-C, what was logged stays and the session reads failed.

    In a loop of your own, call the events in a `keras.callbacks.CallbackList`; an epoch that is
    given no metrics gets the means of its batches.

    Args:
        model: a casket Model, or the URL of a store; then `exp_id` and `model_id` name the rest.
        params: the hyperparameters of the session.
        freq: keep every so many epochs.
        batches: log every batch too.
        ensure_unique: refuse params that were run already; else go on with their last session.
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
        self._logs_batches = batches
        self._is_in_fit = False
        self._has_begun = False
        self._epoch = 0

    def on_train_begin(self, logs: Values = None) -> None:
        """Expect a first epoch, whose number says whether the training is a new one."""
        self.recorder.end("the next training began before this one had ended")
        self._has_begun = False
        begun = [fit.recorders for fit in _fits.get() if fit.model is self.model]
        self._is_in_fit = bool(begun)
        for recorders in begun[-1:]:
            recorders.append(self.recorder)

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
            self.recorder.batch(batch + 1, logs, epoch=self._epoch)

    def on_epoch_end(self, epoch: int, logs: Values = None) -> None:
        """Log an epoch."""
        self._begin(epoch)
        self.recorder.epoch(epoch + 1, logs, also=self._read_learning_rate)

    def on_train_end(self, logs: Values = None) -> None:
        """End the session."""
        self.recorder.end()

    def on_test_end(self, logs: Values = None) -> None:
        """Add an `evaluate` after `fit` to the session of that fit."""
        self.recorder.late_result(logs, index_by="evaluate")

    def _read_learning_rate(self) -> dict[str, Any]:
        return _learning_rate(getattr(self.model, "optimizer", None))

    def _begin(self, epoch: int) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        if self.recorder.start(goes_on=epoch > 0) and self.model is not None:
            with self.recorder.forgiving():
                self.recorder.meta(_facts(self.model))


class _Fit(NamedTuple):
    """A running `fit`, and the recorders of the sessions that it began."""

    model: Any
    recorders: list[Recorder]


_fits: ContextVar[tuple[_Fit, ...]] = ContextVar("casket_keras_fits", default=())


def _ending_sessions(fit: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `fit` that ends its sessions as failed when an exception leaves it."""

    @wraps(fit)
    def fit_and_end(model: Any, *args: Any, **kwargs: Any) -> Any:
        recorders: list[Recorder] = []
        token = _fits.set((*_fits.get(), _Fit(model, recorders)))
        try:
            return fit(model, *args, **kwargs)
        except BaseException as error:
            for recorder in recorders:
                recorder.end(error)
            raise
        finally:
            _fits.reset(token)

    return fit_and_end


Model.fit = _ending_sessions(Model.fit)


def _facts(model: Any) -> dict[str, Any]:
    """Return a model's and its optimizer's config; of a model that has none, its class."""
    try:
        config = json.loads(model.to_json())
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        config = {"class_name": type(model).__name__}
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return {"keras_model": config}
    return {"keras_model": config, "optimizer": _optimizer_facts(optimizer)}


def _optimizer_facts(optimizer: Any) -> dict[str, Any]:
    config = optimizer.get_config() if hasattr(optimizer, "get_config") else {}
    if isinstance(config.get("learning_rate"), float):  # else a schedule
        config = {**config, **_learning_rate(optimizer)}
    return {**config, "name": type(optimizer).__name__}


def _learning_rate(optimizer: Any) -> dict[str, Any]:
    """Return an optimizer's current learning rate as it is, for casket to unwrap."""
    rate = getattr(optimizer, "learning_rate", None)
    return {} if rate is None else {"learning_rate": rate}
