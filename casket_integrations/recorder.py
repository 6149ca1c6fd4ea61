"""The recorder shared by all adapters: each training becomes a session.

An adapter only translates its framework's events into calls of a `Recorder`. The recorder decides
which epochs are logged, how to handle logging failures, which process of a distributed training
logs, and how a session ends in every case.
"""

from __future__ import annotations

import atexit
import copy
import os
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, NamedTuple

from casket import (
    CasketWarning,
    ExistingParamsException,
    Experiment,
    Model,
    Session,
    UnstorableValue,
)
from casket.format.described import described
from casket.system import forks
from casket.writing import leaving
from casket.writing.outcome import describe, is_pruning
from casket.writing.session import Batch
from casket_integrations.batches import BatchMeans, PendingBatches
from casket_integrations.hyperparameters import as_dict, can_be_stored, differing
from casket_integrations.openings import Openings
from casket_integrations.ranks import is_rank_zero

OnError = Literal["warn", "raise"]
Values = Mapping[str, Any] | None
Write = Callable[[Session, dict[str, Any]], None]


class Recorder:
    """Records successive trainings, each in a new session unless it resumes an earlier training.

    A recorder never stops a training, except that params which were run already are refused at the
    start with `ensure_unique`. Failures are reported in a single warning per training, and
    everything else is written: a metric that cannot be stored is left out of its record, and a
    failed store is tried again with the next record.

    Recorders can be pickled and copied. A copy made during a training continues its session. Deep
    copies of a recorder, such as those that tuners create for trials, do not refuse params run by
    another copy in this process, but record repetitions.

    Args:
        model: a casket Model, or the URL of a store, used with `exp_id` and `model_id`.
        params: the hyperparameters of the session: a dict, a Namespace or a dataclass. Values that
            cannot be stored become strings.
        freq: the interval of logged epochs.
        ensure_unique: whether to refuse params that were run already instead of starting a
            repetition of them.
        exp_id: the experiment id, if `model` is a URL.
        model_id: the model id, if `model` is a URL.
        on_error: `"warn"` to issue a single warning about a logging failure and continue the
            training, or `"raise"` to raise the error.
        is_logging: whether this process logs; by default, whether it is rank zero of a distributed
            training.
        ends_with_script: whether a training that is still open when the script has run to its end
            is completed.
    """

    def __init__(
        self,
        model: Model | str,
        params: Any = None,
        *,
        freq: int = 1,
        ensure_unique: bool = True,
        exp_id: str | None = None,
        model_id: str | None = None,
        on_error: OnError = "warn",
        is_logging: bool | None = None,
        ends_with_script: bool = False,
    ) -> None:
        if on_error not in ("warn", "raise"):
            raise ValueError(f"on_error={on_error!r}: give 'warn' or 'raise'")
        if freq < 1:
            raise ValueError(f"freq={freq!r}: give 1 or more: every so many epochs are kept")
        self._given = dict(as_dict(params))
        self.params = dict(self._given)
        self.is_logging = is_rank_zero() if is_logging is None else is_logging
        self.openings = Openings(self._opened(model, exp_id, model_id), ensure_unique)
        self._freq = freq
        self._ends_with_script = ends_with_script
        self._on_error = on_error
        self._has_warned = False
        self._is_training = False
        self._may_open = False
        self._expected: bool | None = None
        self._resumes = False
        self._session_id: str | None = None
        self._session: Session | None = None
        self._outcome: _Outcome | None = None
        self._means = BatchMeans()
        self._epoch, self._batch = 0, -1
        self._latest = dict[str, Any]()
        self._watch()

    def _watch(self) -> None:
        self.after_fork()
        forks.renew_in_children(self)
        _recorders.add(self)

    def after_fork(self) -> None:
        """Drop the pending batches and the expected training, which belong to the parent."""
        self._expected = None
        self._batches = PendingBatches(self._write_batches)

    def __getstate__(self) -> dict[str, Any]:
        openings = copy.copy(self.openings)
        return {**self.__dict__, "openings": openings, "_session": None, "_batches": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._watch()

    @property
    def session(self) -> Session | None:
        """The open session; None outside a training and in processes that do not log."""
        return self._session if self._is_training else None

    @property
    def session_id(self) -> str | None:
        """The id of the session of the current or last training; None if it has none."""
        return self._session_id

    @property
    def model(self) -> Model | None:
        """The casket Model; None in a process that does not log if `model` is a URL."""
        return self.openings.model

    def describe(self, params: Any) -> None:
        """Set the framework's params of the session, which do not override those given.

        Args:
            params: the params; after the start of the session, those that differ from its params
                are stored in `meta["hyperparameters"]`.
        """
        with self.forgiving():
            known = {**described(params), **self._given}
            if self.session is None:
                self.params = known
            elif new := differing(known, self.params):
                self.meta({"hyperparameters": new})

    def expect(self, *, resumes: bool = False) -> None:
        """Expect a training, so that a failure before its start is recorded in a session.

        Args:
            resumes: as in `start`.
        """
        if self._expected is None:
            self.end("the next training began before this one had ended")
        self._expected = resumes

    def start(self, *, resumes: bool = False, session_id: str | None = None) -> bool:
        """Start a training; has no effect during a training.

        Args:
            resumes: whether the training resumes an earlier training. It then continues this
                recorder's session with these params, or the last session with these params, unless
                the session is running. Without such a session, a new session is started.
            session_id: the id of the session to continue; it overrides `resumes`.

        Returns:
            Whether a training was started and is logged.

        Raises:
            ExistingParamsException: the params were run already, and the training is new.
        """
        if not self.is_logging or self._is_training:
            return False
        self._write_end()
        self._session = self._expected = None
        self._is_training = self._may_open = True
        self._resumes, self._session_id = resumes, session_id
        self._has_warned = False
        self._outcome = None
        self._means = BatchMeans()
        self._latest, self._batch = {}, -1
        try:
            self._current()
        except Exception as error:  # any failure to open the store
            if self._on_error == "raise" or isinstance(error, ExistingParamsException):
                self._is_training = self._may_open = False
                raise
            self._warn(error)
        return True

    def epoch(
        self,
        number: int,
        metrics: Values,
        also: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        """Log an epoch.

        Args:
            number: the epoch number.
            metrics: the metrics; if empty, the means of the epoch's batches are logged, and the
                latest value of a metric that is no number.
            also: returns additional values, which do not override metrics. It is called only for
                logged epochs.
        """
        means, self._means = self._means, BatchMeans()
        if number % self._freq or not self._is_training:
            return
        collected: dict[str, Any] = {}
        try:
            collected = dict(metrics or means.values())
            if also:
                collected = {**collected, **also(), **collected}
        except Exception as error:  # noqa: BLE001 - any failure to compute them
            self._forgive(error)
        self._log(collected, lambda session, values: session.add_epoch(number, values))

    def batch(self, number: int | None, metrics: Values, epoch: int | None = None) -> None:
        """Log a batch.

        Args:
            number: the batch number; None for the one after the last, or 0.
            metrics: the metrics.
            epoch: the epoch number, if any.
        """
        number = self._batch + 1 if number is None else number
        self._batch = number
        self._log(metrics, lambda session, values: session.add_batch(number, values, epoch))

    def quick_batch(self, number: int, metrics: Values, epoch: int | None) -> None:
        """Log a batch that may be followed by others within a millisecond; written in groups.

        Args:
            number: the batch number.
            metrics: the metrics, whose values must not change afterwards.
            epoch: the epoch number, if any.
        """
        if not self._is_training:
            return
        self._batches.add((number, dict(metrics or {}), epoch, time.time()))

    def flush(self) -> None:
        """Write the pending batches, so that readers do not miss them."""
        self._batches.flush()

    def count_batch(self, metrics: Values) -> None:
        """Add a batch to the means of its epoch without logging it. Thread-safe."""
        with self.forgiving():
            for name, value in (metrics or {}).items():
                self._means.add(name, value)

    def step(self, number: int | None, metrics: Mapping[str, Any], epoch: int) -> None:
        """Log a batch; the latest metrics of an epoch are logged at its end.

        Args:
            number: the batch number; None for the one after the last, or 0.
            metrics: the metrics.
            epoch: the epoch number; another number than before ends the epoch.
        """
        if not self._is_training:
            return
        if epoch != self._epoch:
            self.end_epoch()
        self._epoch = epoch
        self._latest.update(metrics)
        self.batch(number, metrics, epoch)

    def end_epoch(self) -> None:
        """Log the latest metrics of the steps of an epoch, if any."""
        latest, self._latest = self._latest, {}
        if latest:
            self.epoch(self._epoch, latest)

    def result(self, values: Values, index_by: Any = None) -> None:
        """Log a result."""
        self._log(values, lambda session, values: session.add_result(values, index_by))

    def late_result(self, values: Values, index_by: Any = None) -> None:
        """Add a result to the session that ended last, if any."""
        outcome = self._outcome
        if outcome is None or self._is_training:
            return
        self._write_end()
        self._is_training = self._may_open = True
        try:
            self.result(values, index_by)
        finally:
            self._end(outcome)

    def meta(self, facts: Values) -> None:
        """Add facts to the meta of the session."""
        if facts:
            self._log(facts, Session.add_meta)

    def artifact(self, name: str, source: Any) -> None:
        """Store an artifact."""
        self._log({}, lambda session, _: session.add_artifact(name, source))

    def end(self, error: BaseException | str | None = None) -> None:
        """End the session, if any; further calls have no effect.

        Args:
            error: the error that ended the training; None if it completed. If an error is given, a
                failure to write the end is a warning in any case, and a training that was expected
                but not started gets a session, unless its params were refused. A training that was
                pruned is completed, with `meta["pruned"]`.
        """
        resumes, self._expected = self._expected, None
        is_refused = isinstance(error, ExistingParamsException)
        if resumes is not None and error is not None and not is_refused:
            with self.forgiving(always=True), suppress(ExistingParamsException):
                self.start(resumes=resumes)
        if isinstance(error, BaseException) and is_pruning(error):
            self.meta({"pruned": True})
            error = None
        self._end(_Outcome.of(error), is_failing=error is not None)

    def end_unfinished(self, error: BaseException | None) -> None:
        """End the session of a training that is still open when the process is left.

        Args:
            error: the exception that ended the script, if any.
        """
        is_fine = error is None and self._ends_with_script
        self.end(None if is_fine else error or "the process ended during the training")

    def _end_at_exit(self, status: str, error: str | None) -> None:
        if self._session is not None and self._session._pid == os.getpid():
            self.end(error or status if status == "failed" else None)

    @contextmanager
    def forgiving(self, always: bool = False) -> Iterator[None]:
        """Convert an error into the training's single warning or raise it, as set by `on_error`.

        Args:
            always: whether to suppress the error in any case.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - any failure to log
            self._forgive(error, always)

    def _forgive(self, error: Exception, always: bool = False) -> None:
        if self._on_error == "raise" and not always:
            raise error
        self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            message = f"casket could not log; the training continues: {describe(error)}"
            warnings.warn(message, CasketWarning, stacklevel=2)

    def _opened(self, model: Model | str, exp_id: str | None, model_id: str | None) -> Model | None:
        if isinstance(model, Model):
            return model
        if not isinstance(model, (str, os.PathLike)):
            raise TypeError(f"model is a {type(model).__name__}: give a casket Model, or a URL")
        if not self.is_logging:
            return None
        return Experiment.use(model, exp_id=exp_id).model("model" if model_id is None else model_id)

    def _current(self) -> Session | None:
        """Return the session, opening it now if the store failed at the start."""
        model = self.openings.model
        if self._session is None and self._may_open and model is not None:
            try:
                self._session = self._open(model)
            except ExistingParamsException:
                self._may_open = False
                raise
            self._session_id = self._session.id
            leaving.forget(self._session)  # this recorder ends it, see `_end_all`
            if self._ends_with_script:
                leaving.watch(self, self._session._log, self._end_at_exit)
        return self._session

    def _open(self, model: Model) -> Session:
        arguments = self._session_id, self._resumes
        try:
            return self.openings.open(model, self.params, *arguments)
        except UnstorableValue as error:
            if self._on_error == "raise":
                raise
            self._warn(error)
            self.params = described(self.params)
            return self.openings.open(model, self.params, *arguments)

    def _write_batches(self, batches: Sequence[Batch], always: bool) -> None:
        with self.forgiving(always):
            session = self._current()
            if session is None:
                return
            try:
                session.add_batches(batches)
            except UnstorableValue:
                for number, metrics, epoch, _ in batches:
                    self.batch(number, metrics, epoch)

    def _log(self, values: Values, write: Write) -> None:
        """Write the storable values."""
        if not self._is_training:
            return
        try:
            self._batches.flush()
            session = self._current()
            if session is not None:
                _write(session, dict(values or {}), write)
        except Exception as error:  # noqa: BLE001 - as in `forgiving`, which takes longer
            self._forgive(error)

    def _end(self, outcome: _Outcome, is_failing: bool = False) -> None:
        try:
            with self.forgiving(always=is_failing):
                self.end_epoch()
            self._batches.flush(always=is_failing)
            self._batches.stop()
        finally:
            if self._is_training and self._session is not None:
                self._outcome = outcome
            self._is_training = self._may_open = False
            self._write_end(is_failing)

    def _write_end(self, is_failing: bool = False) -> None:
        """Write the end of the training unless it is written already."""
        if self._session is None or self._outcome is None:
            return
        with self.forgiving(always=is_failing):
            self._session.end(*self._outcome)
            self._session = None
            leaving.forget(self)


class Recording:
    """Base class of callbacks that log to a recorder.

    Args:
        model: a casket Model, or the URL of a store, used with `exp_id` and `model_id`.
        params: the hyperparameters of the session; they override those of the framework.
        ensure_unique: whether to refuse params that were run already instead of starting a
            repetition of them.
        exp_id: the experiment id, if `model` is a URL.
        model_id: the model id, if `model` is a URL.
        on_error: `"warn"` to issue a single warning about a logging failure and continue the
            training, or `"raise"` to raise the error.

    Raises:
        ExistingParamsException: at the start of the training, if the params were run already.
    """

    ends_with_script = False
    """Whether the framework has no end of a training that it is sure to report."""

    def __init__(
        self,
        model: Model | str,
        params: Any = None,
        *,
        ensure_unique: bool = False,
        exp_id: str | None = None,
        model_id: str | None = None,
        on_error: OnError = "warn",
    ) -> None:
        super().__init__()
        self.recorder = Recorder(
            model, params, ensure_unique=ensure_unique,
            exp_id=exp_id, model_id=model_id, on_error=on_error,
            ends_with_script=self.ends_with_script,
        )  # fmt: skip


class _Outcome(NamedTuple):
    """The outcome of a training as arguments of `Session.end`."""

    status: Literal["completed", "failed"]
    error: str | None

    @classmethod
    def of(cls, error: BaseException | str | None) -> _Outcome:
        if error is None:
            return cls("completed", None)
        return cls("failed", error if isinstance(error, str) else describe(error))


def _write(session: Session, values: dict[str, Any], write: Write) -> None:
    """Write the storable values.

    Raises:
        UnstorableValue: a value could not be stored; the others were written.
    """
    try:
        write(session, values)
    except UnstorableValue:
        kept = {name: value for name, value in values.items() if can_be_stored({name: value})}
        write(session, kept)
        raise


_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """End the sessions of trainings that are still open at exit."""
    for recorder in list(_recorders):
        recorder.end_unfinished(_last_error())


def _last_error() -> BaseException | None:
    """Return the exception that ended the script; None in an interactive session."""
    return None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
