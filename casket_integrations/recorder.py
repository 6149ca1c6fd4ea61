"""What every framework's adapter shares: one training becomes one session.

An adapter translates its framework's events into calls of a `Recorder` and knows nothing else. The
recorder alone knows which epochs are kept, what to do when logging fails, which process of a
distributed training logs, and how a session ends whatever happens to the training.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import warnings
import weakref
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from typing import Any, Literal, NamedTuple

from casket import (
    CasketWarning,
    ExistingParamsException,
    Experiment,
    Model,
    Session,
    UnstorableValue,
)
from casket.format.records import claim_key
from casket.system import forks
from casket.writing import claims
from casket.writing.session import Batch, describe
from casket_integrations.hyperparameters import can_be_stored, params_key, storable

OnError = Literal["warn", "raise"]
Values = Mapping[str, Any] | None
Write = Callable[[Session, dict[str, Any]], None]

GATHER = 0.5
"""Seconds in which quick batches wait for each other: to write each alone would cost more than a
hundredth of a training that takes a millisecond for one."""


class Recorder:
    """Writes one training after another, each into a session of its own unless it resumes one.

    Nothing it does stops a training, except that params which were run already are refused at the
    start if `ensure_unique` says so. What cannot be written is named in one warning for each
    training, and everything else is written: a metric that cannot be stored is left out of its
    record, and a store that failed is tried again with the next record.

    Recorders pickle and copy. A copy made during a training continues its session. Deep copies of a
    recorder, as tuners make them for their trials, do not refuse params that another of them ran in
    this process: those are repetitions.

    Args:
        model: a casket Model, or the URL of a store; then `exp_id` and `model_id` name the rest.
        params: the hyperparameters of the session; what cannot be stored of them is kept as text.
        freq: keep every so many epochs.
        ensure_unique: refuse params that were run already; else begin a repetition of them.
        exp_id: the experiment, with a URL.
        model_id: the model, with a URL.
        on_error: `"warn"`: a failure to log is one warning and the training goes on; `"raise"`: it
            is raised.
        is_logging: whether this process is the one that logs; by default, whether it is rank zero
            of a distributed training.
    """

    def __init__(
        self,
        model: Model | str,
        params: Mapping[str, Any] | None = None,
        *,
        freq: int = 1,
        ensure_unique: bool = True,
        exp_id: str | None = None,
        model_id: str | None = None,
        on_error: OnError = "warn",
        is_logging: bool | None = None,
    ) -> None:
        if on_error not in ("warn", "raise"):
            raise ValueError(f"on_error={on_error!r}: give 'warn' or 'raise'")
        if freq < 1:
            raise ValueError(f"freq={freq!r}: give 1 or more: every so many epochs are kept")
        self.params = dict(params or {})
        self.is_logging = is_rank_zero() if is_logging is None else is_logging
        self._model = self._opened(model, exp_id, model_id)
        self._freq = freq
        self._ensure_unique = ensure_unique
        self._on_error = on_error
        self._has_warned = False
        self._is_training = False
        self._may_open = False
        self._expected: bool | None = None
        self._resumes = False
        self._session_id: str | None = None
        self._own: tuple[str, str] | None = None
        self._copies = _Copies()
        self._session: Session | None = None
        self._outcome: _Outcome | None = None
        self._seen: dict[str, array[float]] = {}
        self._written = 0.0
        self._watch()

    def _watch(self) -> None:
        self._copy = object()
        self.after_fork()
        forks.renew_in_children(self)
        _recorders.add(self)

    def after_fork(self) -> None:
        """Leave the parent its training: the batches that wait, and one that is expected."""
        self._expected = None
        self._waiting: list[Batch] = []
        self._waits = threading.RLock()
        self._over: threading.Event | None = None

    def __getstate__(self) -> dict[str, Any]:
        anew = {"_session": None, "_copy": None, "_waits": None, "_over": None}
        return {**self.__dict__, **anew}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._watch()

    @property
    def session(self) -> Session | None:
        """The open session; None before the start, after the end and where nothing is logged."""
        return self._session if self._is_training else None

    @property
    def session_id(self) -> str | None:
        """The id of the session of the current or last training; None if it has none."""
        return self._session_id

    @property
    def model(self) -> Model | None:
        """The casket Model; None in a process that does not log and was given a URL."""
        return self._model

    def expect(self, *, resumes: bool = False) -> None:
        """Expect a training: if it fails before it starts, its session says so.

        Args:
            resumes: as `start` takes it.
        """
        if self._expected is None:
            self.end("the next training began before this one had ended")
        self._expected = resumes

    def start(self, *, resumes: bool = False, session_id: str | None = None) -> bool:
        """Begin a training; during a training nothing happens.

        Args:
            resumes: whether it resumes an earlier training. It then continues this recorder's
                session of these params, or the last session that has them, but none that is
                running; without such a session it begins one.
            session_id: the session to continue, which decides alone.

        Returns:
            Whether a training began that is to be logged.

        Raises:
            ExistingParamsException: the params were run already, and the training is a new one.
        """
        if not self.is_logging or self._is_training:
            return False
        self._write_end()
        self._session = self._expected = None
        self._is_training = self._may_open = True
        self._resumes, self._session_id = resumes, session_id
        self._has_warned = False
        self._outcome = None
        self._seen = {}
        try:
            self._current()
        except Exception as error:  # whatever opening fails of
            if self._on_error == "raise" or isinstance(error, ExistingParamsException):
                self._is_training = self._may_open = False
                raise
            self._warn(error)
        return True

    def earlier(self, params: Mapping[str, Any]) -> list[claims.Holder]:
        """Return the sessions that have params, in the order in which they began."""
        model = self._model
        if model is None:
            return []
        encoded, _ = model.backend.encode(params, "params")
        claim = claim_key(model.experiment.id, model.id, encoded)
        sessions = claims.starts_with(model.backend, claim)
        return [claims.look_at(model.backend, session) for session in sessions]

    def refuse_known(self, params: Mapping[str, Any], before: str | None = None) -> None:
        """Refuse params as the start of a training that has to be unique does.

        Args:
            params: the params.
            before: the id of a session; neither it nor those that began later count.

        Raises:
            ExistingParamsException: a session that runs or was completed has them.
        """
        model = self._model
        holders = takewhile(lambda holder: holder.session != before, self.earlier(params))
        known = next((each for each in holders if each.may_run or each.is_completed), None)
        if known is not None and model is not None:
            raise ExistingParamsException(
                model.view_of(known), lambda: model.nearest_but(known.session, params)
            )

    def epoch(
        self,
        number: int,
        metrics: Values,
        also: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        """Log an epoch.

        Args:
            number: its number.
            metrics: its metrics; if there are none, the means of its batches are logged.
            also: tells what to add under names that the metrics do not have; not asked of an
                epoch that is not kept.
        """
        seen, self._seen = self._seen, {}
        if number % self._freq or not self._is_training:
            return
        collected: dict[str, Any] = {}
        try:
            collected = dict(metrics or _means(seen))
            if also:
                collected = {**collected, **also(), **collected}
        except Exception as error:  # noqa: BLE001 - whatever telling them fails of
            self._forgive(error)
        self._log(collected, lambda session, values: session.add_epoch(number, values))

    def batch(self, number: int, metrics: Values, epoch: int | None = None) -> None:
        """Log a batch."""
        self._log(metrics, lambda session, values: session.add_batch(number, values, epoch))

    def quick_batch(self, number: int, metrics: Values, epoch: int | None) -> None:
        """Log a batch that others may follow within a millisecond; they are written together.

        Args:
            number: its number.
            metrics: its metrics; values that do not change afterwards.
            epoch: its epoch, if it is in one.
        """
        if not self._is_training:
            return
        now = time.time()
        with self._waits:
            self._waiting.append((number, dict(metrics or {}), epoch, now))
            if not 0.0 <= now - self._written < GATHER:  # a clock may be set back
                self.write_waiting()
            elif self._over is None:
                self._over = threading.Event()
                look = threading.Thread(
                    target=_write_now_and_then, args=(weakref.ref(self), self._over), daemon=True
                )
                look.start()

    def write_waiting(self, always: bool = False) -> None:
        """Write the batches that wait, before who reads misses them.

        Args:
            always: never raise an error, as in `forgiving`.
        """
        with self._waits:  # also where none wait: what the other thread has begun is to be there
            if not self._waiting:
                return
            waiting, self._waiting = self._waiting, []
            with self.forgiving(always):
                session = self._current()
                if session is not None:
                    self._write_batches(session, waiting)
            self._written = time.time()

    def count_batch(self, metrics: Values) -> None:
        """Remember a batch for the means of its epoch, without logging it. Threads may call it."""
        with self.forgiving():
            for name, value in (metrics or {}).items():
                self._seen.setdefault(name, array("d")).append(value)

    def result(self, values: Values, index_by: Any = None) -> None:
        """Log a result."""
        self._log(values, lambda session, values: session.add_result(values, index_by))

    def late_result(self, values: Values, index_by: Any = None) -> None:
        """Add a result to the session that ended last; without one, nothing happens."""
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
        """Add facts about the run."""
        self._log(facts, Session.add_meta)

    def artifact(self, name: str, source: Any) -> None:
        """Keep an artifact."""
        self._log({}, lambda session, _: session.add_artifact(name, source))

    def end(self, error: BaseException | str | None = None) -> None:
        """End the session; without one, or a second time, nothing happens.

        Args:
            error: what the training failed of; None: it completed. With an exception on its way,
                a failure to write the end is a warning in any case. A training that was expected
                and never started gets a session to say so, unless params were refused.
        """
        resumes, self._expected = self._expected, None
        is_refused = isinstance(error, ExistingParamsException)
        if resumes is not None and error is not None and not is_refused:
            with self.forgiving(always=True), suppress(ExistingParamsException):
                self.start(resumes=resumes)
        self._end(_Outcome.of(error), is_failing=error is not None)

    @contextmanager
    def forgiving(self, always: bool = False) -> Iterator[None]:
        """Turn an error into the training's one warning, or raise it, as `on_error` says.

        Args:
            always: never raise it.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever logging fails of
            self._forgive(error, always)

    def _forgive(self, error: Exception, always: bool = False) -> None:
        if self._on_error == "raise" and not always:
            raise error
        self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            message = f"casket could not log, the training goes on: {describe(error)}"
            warnings.warn(message, CasketWarning, stacklevel=2)

    def _opened(self, model: Model | str, exp_id: str | None, model_id: str | None) -> Model | None:
        if isinstance(model, Model):
            return model
        if not isinstance(model, (str, os.PathLike)):
            raise TypeError(f"model is a {type(model).__name__}: give a casket Model, or a URL")
        if not self.is_logging:
            return None
        return Experiment.use(model, exp_id=exp_id).model(model_id or "model")

    def _current(self) -> Session | None:
        """Return the session; open it now if the store failed at the start."""
        if self._session is None and self._may_open and self._model is not None:
            try:
                self._session = self._open(self._model)
            except ExistingParamsException:
                self._may_open = False
                raise
        return self._session

    def _open(self, model: Model) -> Session:
        try:
            session = self._begun(model)
        except UnstorableValue as error:
            if self._on_error == "raise":
                raise
            self._warn(error)
            self.params = storable(self.params)
            session = self._begun(model)
        self._session_id, self._own = session.id, (params_key(self.params), session.id)
        return session

    def _begun(self, model: Model) -> Session:
        """Begin the session, or continue the one that the training belongs to."""
        if self._session_id is not None:
            return model.resume(self._session_id)
        if self._resumes:
            own = self._own_to_resume(model)
            return model.resume(own) if own else model.resume_last(self.params)
        is_repetition = not self._ensure_unique or self._copies.ran(self.params, self._copy)
        session = model.session(self.params, repeat=is_repetition)
        self._copies.add(self.params, self._copy)
        return session

    def _own_to_resume(self, model: Model) -> str | None:
        """Return the id of this recorder's last session, if it has these params and has ended."""
        key, session_id = self._own or ("", "")
        if key != params_key(self.params):
            return None
        holder = claims.look_at(model.backend, session_id)
        return session_id if len(holder.life) and not holder.may_run else None

    def _write_batches(self, session: Session, batches: Sequence[Batch]) -> None:
        try:
            session.add_batches(batches)
        except UnstorableValue:
            for number, metrics, epoch, _ in batches:
                self.batch(number, metrics, epoch)

    def _log(self, values: Values, write: Write) -> None:
        """Write what can be stored of the values."""
        if not self._is_training:
            return
        try:
            self.write_waiting()
            session = self._current()
            if session is not None:
                _write(session, dict(values or {}), write)
        except Exception as error:  # noqa: BLE001 - as in `forgiving`, which takes longer
            self._forgive(error)

    def _end(self, outcome: _Outcome, is_failing: bool = False) -> None:
        try:
            self.write_waiting(always=is_failing)
        finally:
            if self._is_training and self._session is not None:
                self._outcome = outcome
            self._is_training = self._may_open = False
            if self._over is not None:
                self._over.set()
                self._over = None
            self._write_end(is_failing)

    def _write_end(self, is_failing: bool = False) -> None:
        """Write the end of the training, if it is not written yet."""
        if self._session is None or self._outcome is None:
            return
        with self.forgiving(always=is_failing):
            self._session.end(*self._outcome)
            self._session = None


def _write_now_and_then(ref: weakref.ref[Recorder], over: threading.Event) -> None:
    """Write what waits, for the training may fall silent: a long validation, or a kill."""
    while not over.wait(GATHER):
        recorder = ref()
        if recorder is None:
            return
        recorder.write_waiting(always=True)
        del recorder


class _Copies:
    """The params that a recorder and its copies in this process ran.

    Deep copies share it; the copy in another process begins with an empty one.
    """

    def __init__(self) -> None:
        self._first: dict[str, object] = {}

    def __deepcopy__(self, memo: Any) -> _Copies:
        return self

    def __reduce__(self) -> Any:
        return _Copies, ()

    def add(self, params: Mapping[str, Any], copy: object) -> None:
        """Note that a copy runs params."""
        self._first.setdefault(params_key(params), copy)

    def ran(self, params: Mapping[str, Any], copy: object) -> bool:
        """Return whether params were run first by another copy."""
        return self._first.get(params_key(params), copy) is not copy


class _Outcome(NamedTuple):
    """How a training ended, as `Session.end` takes it."""

    status: Literal["completed", "failed"]
    error: str | None

    @classmethod
    def of(cls, error: BaseException | str | None) -> _Outcome:
        if error is None:
            return cls("completed", None)
        return cls("failed", error if isinstance(error, str) else describe(error))


def is_rank_zero() -> bool:
    """Tell whether this process is the one of a distributed training that logs.

    torch and jax are asked if they are loaded and know. Else `RANK` with `WORLD_SIZE` says so,
    which torchrun and its kin set. The process number of a cluster's scheduler is not asked: two
    hundred jobs of one array each log for themselves.
    """
    torch: Any = sys.modules.get("torch.distributed")
    jax: Any = sys.modules.get("jax")
    with suppress(AttributeError):  # None, or a version that does not know
        if torch.is_available() and torch.is_initialized():
            return bool(torch.get_rank() == 0)
    with suppress(AttributeError):
        if jax.distributed.is_initialized():
            return bool(jax.process_index() == 0)
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def _means(seen: Mapping[str, array[float]]) -> dict[str, float]:
    return {name: sum(values) / len(values) for name, values in seen.items()}


def _write(session: Session, values: dict[str, Any], write: Write) -> None:
    """Write what can be stored of the values.

    Raises:
        UnstorableValue: something could not; the rest was written.
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
    """End the sessions of trainings that the process leaves behind."""
    for recorder in list(_recorders):
        recorder.end(_last_error() or "the process ended during the training")


def _last_error() -> BaseException | None:
    """Return what ends the script; at a prompt, errors are behind whoever reads on."""
    return None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
