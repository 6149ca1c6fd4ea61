"""For frameworks that hand over metrics by step, and hyperparameters when they come to know them.

`Steps` decides what such a framework does not tell: when a session begins, what goes on with it,
and when an epoch is whole.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from casket import CasketError, ExistingParamsException, Model, Session
from casket.format.records import new_id
from casket.writing.session import describe
from casket_integrations.hyperparameters import differing, storable
from casket_integrations.recorder import Recorder


class Run(NamedTuple):
    """What the framework is doing: a training or an evaluation.

    Attributes:
        stage: `"fit"`, or the evaluation's name.
        epoch: tells the epoch it is in.
        resumes: returns whether a training continues an earlier one (a true or a false value).
        can_resume_later: whether `resumes` may return another value once the run has begun.
    """

    stage: str
    epoch: Callable[[], Any]
    resumes: Callable[[], Any]
    can_resume_later: bool = False


class Steps:
    """Writes metrics by step, and of each epoch the latest ones, into a session.

    The session begins with the first metric; the hyperparameters known by then are its params. Each
    training is a session of its own unless it resumes an earlier one. An evaluation before a
    training begins the session of that training. An evaluation, a metric or a hyperparameter after
    its end is added to it and leaves its status as it was.

    Args:
        model: a casket Model, or the URL of a store.
        params: hyperparameters known already.
        ensure_unique: refuse params that were run already; else begin a repetition of them.
        exp_id: the experiment, with a URL.
        options: what `Recorder` takes besides.

    Attributes:
        version: what tells its sessions from others' in names of folders; their `meta["version"]`.
    """

    def __init__(
        self,
        model: Model | str,
        params: Mapping[str, Any] | None,
        *,
        ensure_unique: bool,
        exp_id: str | None,
        **options: Any,
    ) -> None:
        self._recorder = Recorder(
            model, storable(params), ensure_unique=ensure_unique, exp_id=exp_id, **options
        )
        self._refuses_known = ensure_unique
        self._exp_id = exp_id
        self.version = new_id()
        self._facts: dict[str, Any] = {"version": self.version}
        self._checkpoints: dict[str, Any] = {}
        self._run: Run | None = None
        self._is_begun = self._is_announced = False
        self._ended: str | None = None
        self._is_evaluation = False
        self._error: str | None = None
        self._hyperparameters: dict[str, Any] = {}
        self._later: dict[str, Any] = {}
        self._latest: dict[str, Any] = {}
        self._step, self._epoch = -1, 0
        self._kept: set[tuple[str, int]] = set()
        _living.add(self)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the run and the open session behind; the recorder goes on with the session."""
        return {**self.__dict__, "_run": None, "_is_begun": False, "_is_announced": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _living.add(self)

    @property
    def name(self) -> str | None:
        """The experiment's id; None where nothing is logged and none was given."""
        model = self._recorder.model
        return model.experiment.id if model else self._exp_id

    @property
    def handle(self) -> Any:
        """The session; before it has begun, what begins it when it is used."""
        self._recorder.write_waiting()
        return self._recorder.session or _Unbegun(self)

    @property
    def session(self) -> Session | None:
        """The session, begun if it was not; None where nothing is logged."""
        self._begin()
        return self._recorder.session

    def look_for_run(self, running: Callable[[], Run | None]) -> None:
        """Note what the framework does, as long as it has not announced it by `run`.

        Args:
            running: returns the run, if there is one.
        """
        if not self._is_begun and not self._is_announced:
            self._run = running()

    def run(self, run: Run | None, facts: Mapping[str, Any]) -> None:
        """Note what the framework begins to do.

        Raises:
            ExistingParamsException: it is a training, and its params were run already.
        """
        self._facts.update(storable(facts))
        if self._is_begun:
            self._recorder.meta(self._facts)
        elif run is not None and self._refuses_known and not run.can_resume_later:
            self._refuse_known(run)
        self._run, self._is_announced = run, run is not None

    def hyperparameters(self, params: Any) -> None:
        """Take hyperparameters as params of the session; once it has begun, as its meta."""
        self._hyperparameters.update(storable(params))
        if self._is_begun:
            self._add_later(self._new_hyperparameters())

    def metrics(self, metrics: Mapping[str, Any], step: int | None, epoch: Any) -> None:
        """Log a step, and if it is of another epoch than the step before, that epoch."""
        if not self._is_begun:
            self._begin()
        if epoch is None and self._run is not None:
            epoch = self._run.epoch()
        # The plain types first: this is called in the training's loop.
        number = epoch if type(epoch) is int else _whole(epoch)
        are_floats = {float}.issuperset(map(type, metrics.values()))
        values = metrics if are_floats else {name: _detached(metrics[name]) for name in metrics}
        if number is not None:
            if number != self._epoch:
                self._end_epoch()
            self._epoch = number
            self._latest.update(values)
        self._step = self._step + 1 if step is None else step
        # What is no plain number may be changed before it is written; and who calls this by hand
        # may look for it at once.
        may_wait = are_floats and self._run is not None
        log = self._recorder.quick_batch if may_wait else self._recorder.batch
        log(self._step, values, number)

    def checkpoints(self, kind: str, facts: Mapping[str, Any], paths: Iterable[str | None]) -> None:
        """Note what is to say about the checkpoints of a kind, and keep the files that are new."""
        self._begin()
        self._checkpoints[kind] = facts
        self._recorder.meta({"checkpoints": self._checkpoints})
        for path in dict.fromkeys(path for path in paths if path and os.path.isfile(path)):
            version = (path, os.stat(path).st_mtime_ns)
            if version not in self._kept:
                self._kept.add(version)
                self._recorder.artifact(os.path.basename(path), path)

    def end(
        self,
        failure: str | None,
        unannounced: Run | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> None:
        """End the session, and what the framework does; a second time nothing happens.

        Args:
            failure: how it failed, if no exception is on its way that says it; None: it completed.
            unannounced: the run that failed before the framework announced it.
            hyperparameters: those of that run.
        """
        exception = sys.exc_info()[1]
        is_refused = isinstance(exception, ExistingParamsException)
        if not self._is_begun and not self._is_announced:
            self._run = None if is_refused else unannounced
            self.hyperparameters(None if is_refused else hyperparameters)
        stage = self._run.stage if self._run else ""
        if stage == "fit" and failure is not None:
            # The user's exception must not be hidden behind another one.
            with self._recorder.forgiving(always=True), suppress(ExistingParamsException):
                self._begin()
        elif stage == "fit" or (not stage and self._hyperparameters and failure is None):
            self._begin()
        if failure is not None:
            self._end(describe(exception) if exception else failure)
        else:  # a test of what failed does not mend it
            self._end(None if stage in ("", "fit") else self._error)

    def end_addition(self) -> None:
        """End what was added after the end."""
        if self._ended and self._run is None:
            if differing(self._hyperparameters, self._recorder.params):
                self._begin()
            self._end(self._error)

    def _begin(self) -> None:
        """Begin the session with the hyperparameters known by now, or go on with it."""
        if self._is_begun:
            return
        self._is_begun = True
        new = self._new_hyperparameters()
        is_training = self._run is None or self._run.stage == "fit"
        if self._ended and (self._run is None or not is_training):
            self._recorder.start(session_id=self._ended)
            self._recorder.meta(self._facts)
            self._add_later(new)
            return
        evaluation = self._own_evaluation(new)
        self._recorder.params.update(new)
        resumes = self._run is not None and (not is_training or bool(self._run.resumes()))
        self._recorder.start(resumes=resumes, session_id=evaluation)
        session = self._recorder.session
        self._is_evaluation = bool(not is_training and session and not session.is_continued)
        self._recorder.meta(self._facts)

    def _own_evaluation(self, new: Mapping[str, Any]) -> str | None:
        """Return the id of the session that an evaluation began for the training that begins.

        Args:
            new: hyperparameters that the evaluation did not have.
        """
        return self._ended if self._is_evaluation and not new else None

    def _refuse_known(self, run: Run) -> None:
        """Refuse known params before anything is computed, not only when the session begins."""
        known = self._recorder.params
        new = differing(self._hyperparameters, known)
        if run.stage != "fit" or run.resumes():
            return
        try:
            self._recorder.refuse_known({**known, **new}, before=self._own_evaluation(new))
        except ExistingParamsException:
            raise
        except (CasketError, OSError):
            return  # the session shows it when it begins

    def _new_hyperparameters(self) -> dict[str, Any]:
        """Hand over the hyperparameters that came since this was asked last, if they are new."""
        logged, self._hyperparameters = self._hyperparameters, {}
        return differing(logged, self._recorder.params)

    def _add_later(self, hyperparameters: Mapping[str, Any]) -> None:
        if hyperparameters:
            self._later.update(hyperparameters)
            self._recorder.meta({"hyperparameters": self._later})

    def _end_epoch(self) -> None:
        latest, self._latest = self._latest, {}
        if latest and self._run is not None and self._run.stage != "fit":
            self._recorder.result(latest, index_by=self._run.stage)
        elif latest:
            self._recorder.epoch(self._epoch, latest)

    def _end(self, error: str | None) -> None:
        try:
            if self._is_begun:
                self._end_epoch()
        finally:
            if self._is_begun:
                if self._recorder.session is not None:
                    self._ended = self._recorder.session.id
                self._error, self._is_begun = error, False
                self._recorder.end(error)
            self._run, self._is_announced = None, False


class _Unbegun:
    """Stands for a session until something of it is used, which begins it.

    Lightning looks at the session before it logs the hyperparameters, which are to be its params.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        session = self._steps.session
        # Where nothing can be logged, the training must not fail of that.
        return _do_nothing if session is None else getattr(session, name)

    @property  # type: ignore[misc]  # what isinstance asks
    def __class__(self) -> type:
        return Session


def _do_nothing(*_: Any, **__: Any) -> None:
    pass


def _whole(number: Any) -> int | None:
    with suppress(OverflowError, TypeError, ValueError):
        return int(number)
    return None


def _detached(value: Any) -> Any:
    """Return a metric without the graph it was computed by, which fills the memory."""
    return value.detach() if hasattr(value, "detach") else value


_living: weakref.WeakSet[Steps] = weakref.WeakSet()


@atexit.register
def _end_additions() -> None:
    """End what was added to a session that had ended, before the recorder ends it as left open."""
    for steps in list(_living):
        steps.end_addition()
