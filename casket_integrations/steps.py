"""Support for frameworks that log metrics by step, and hyperparameters at any time.

`Steps` infers the events that such a framework does not report: the start and continuation of a
session, and the end of an epoch.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import PurePath
from typing import Any, NamedTuple

from casket import CasketError, ExistingParamsException, Model, Session
from casket.format.described import described
from casket.format.records import new_id
from casket.writing.outcome import describe
from casket_integrations.hyperparameters import differing
from casket_integrations.recorder import Recorder


class Run(NamedTuple):
    """A training or an evaluation by the framework.

    Attributes:
        stage: `"fit"`, or the name of the evaluation.
        epoch: returns the current epoch.
        resumes: returns a truthy value if a training continues an earlier training.
        can_resume_later: whether the value of `resumes` may change after the start of the run.
    """

    stage: str
    epoch: Callable[[], Any]
    resumes: Callable[[], Any]
    can_resume_later: bool = False


class Checkpoints(NamedTuple):
    """The checkpoints of a callback.

    Attributes:
        kind: the name of their facts; further sources of a kind are numbered.
        source: identifies the callback.
        facts: facts about them.
        paths: their files, some of which may be gone.
    """

    kind: str
    source: str
    facts: Mapping[str, Any]
    paths: Sequence[str]


class Steps:
    """Writes metrics by step, and the latest metrics of each epoch, to a session.

    The session starts with the first metric; the hyperparameters known by then are its params. Each
    training is a new session unless it resumes an earlier training. An evaluation before a training
    starts the session of that training. Evaluations, metrics and hyperparameters after the end of a
    session are added to it without changing its status.

    Args:
        model: a casket Model, or the URL of a store.
        params: hyperparameters known in advance.
        ensure_unique: whether to refuse params that were run already instead of starting a
            repetition of them.
        exp_id: the experiment id, if `model` is a URL.
        options: additional arguments of `Recorder`.

    Attributes:
        version: a unique id for folder names, stored in the `meta["version"]` of its sessions.
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
            model, described(params), ensure_unique=ensure_unique, exp_id=exp_id, **options
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
        self._kinds: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._unbegun: _Unbegun | None = None
        _living.add(self)

    def __getstate__(self) -> dict[str, Any]:
        """Exclude the run and the open session, which the recorder continues."""
        anew = {"_run": None, "_is_begun": False, "_is_announced": False, "_unbegun": None}
        return {**self.__dict__, **anew}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _living.add(self)

    @property
    def name(self) -> str | None:
        """The experiment id; None if nothing is logged and no id was given."""
        model = self._recorder.model
        return model.experiment.id if model else self._exp_id

    @property
    def handle(self) -> Any:
        """The session, or a proxy that starts the session on first use."""
        self._recorder.flush()
        self._unbegun = self._unbegun or _Unbegun(self)
        return self._recorder.session or self._unbegun

    @property
    def session(self) -> Session | None:
        """The session, which is started if necessary; None if nothing is logged."""
        self._begin()
        return self._recorder.session

    def look_for_run(self, running: Callable[[], Run | None]) -> None:
        """Look up the framework's current run unless `run` has announced it.

        Args:
            running: returns the current run, if any.
        """
        if not self._is_begun and not self._is_announced:
            self._run = running()

    def run(self, run: Run | None, facts: Mapping[str, Any]) -> None:
        """Announce a run of the framework.

        Raises:
            ExistingParamsException: the run is a training, and its params were run already.
        """
        self._facts.update(described(facts))
        if self._is_begun:
            self._recorder.meta(self._facts)
        elif run is not None and self._refuses_known and not run.can_resume_later:
            self._refuse_known(run)
        self._run, self._is_announced = run, run is not None

    def hyperparameters(self, params: Any) -> None:
        """Add hyperparameters to the params of the session, or to its meta once it has started."""
        self._hyperparameters.update(described(params))
        if self._is_begun:
            self._add_later(self._new_hyperparameters())

    def metrics(self, metrics: Mapping[str, Any], step: int | None, epoch: Any) -> None:
        """Log a step, and before the first step of a new epoch, the previous epoch."""
        if not self._is_begun:
            self._begin()
        if epoch is None and self._run is not None:
            epoch = self._run.epoch()
        # Check plain types first, because this is called in the training loop.
        number = epoch if type(epoch) is int else _whole(epoch)
        are_floats = {float}.issuperset(map(type, metrics.values()))
        values = metrics if are_floats else {name: _detached(metrics[name]) for name in metrics}
        if number is not None:
            if number != self._epoch:
                self._end_epoch()
            self._epoch = number
            self._latest.update(values)
        self._step = self._step + 1 if step is None else step
        # Values other than floats may change before they are written, and a caller without a
        # Trainer may read them immediately.
        may_wait = are_floats and self._run is not None
        log = self._recorder.quick_batch if may_wait else self._recorder.batch
        log(self._step, values, number)

    def checkpoints(self, saved: Checkpoints, keeps_files: bool) -> None:
        """Store facts about checkpoints, and new checkpoint files as artifacts if `keeps_files`."""
        self._begin()
        kinds = (saved.kind if n == 1 else f"{saved.kind}-{n}" for n in count(1))
        self._checkpoints[_assign(self._kinds, saved.source, kinds)] = saved.facts
        self._recorder.meta({"checkpoints": self._checkpoints})
        for path in filter(os.path.isfile, dict.fromkeys(saved.paths if keeps_files else ())):
            version = (path, os.stat(path).st_mtime_ns)
            if version not in self._kept:
                self._kept.add(version)
                self._recorder.artifact(_assign(self._names, path, _names_of(path)), path)

    def end(
        self,
        failure: str | None,
        unannounced: Run | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> None:
        """End the session and the run; has no effect when called again.

        Args:
            failure: the reason of a failure, used if no exception is being handled; None if the run
                completed.
            unannounced: the run that failed before the framework announced it.
            hyperparameters: the hyperparameters of that run.
        """
        exception = sys.exc_info()[1]
        is_refused = isinstance(exception, ExistingParamsException)
        if not self._is_begun and not self._is_announced:
            self._run = None if is_refused else unannounced
            self.hyperparameters(None if is_refused else hyperparameters)
        stage = self._run.stage if self._run else ""
        if stage == "fit" and failure is not None:
            # Another exception must not hide the user's exception.
            with self._recorder.forgiving(always=True), suppress(ExistingParamsException):
                self._begin()
        elif stage == "fit" or (not stage and self._hyperparameters and failure is None):
            self._begin()
        if failure is not None:
            self._end(describe(exception) if exception else failure)
        else:  # a test after a failed training leaves the status failed
            self._end(None if stage in ("", "fit") else self._error)

    def end_addition(self) -> None:
        """End an addition to a session that had ended."""
        if self._ended and self._run is None:
            if differing(self._hyperparameters, self._recorder.params):
                self._begin()
            self._end(self._error)

    def _begin(self) -> None:
        """Start the session with the hyperparameters known so far, or continue it."""
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
        """Return the id of the session that an evaluation started for the upcoming training.

        Args:
            new: the hyperparameters that the evaluation did not have.
        """
        return self._ended if self._is_evaluation and not new else None

    def _refuse_known(self, run: Run) -> None:
        """Refuse known params before any computation, not only at the start of the session."""
        known = self._recorder.params
        new = differing(self._hyperparameters, known)
        if run.stage != "fit" or run.resumes():
            return
        try:
            self._recorder.openings.refuse_known({**known, **new}, before=self._own_evaluation(new))
        except ExistingParamsException:
            raise
        except (CasketError, OSError):
            return  # the error is reported when the session starts

    def _new_hyperparameters(self) -> dict[str, Any]:
        """Return the hyperparameters logged since the last call that differ from the params."""
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
    """A proxy that starts the session when an attribute is used.

    Lightning accesses the session before it logs the hyperparameters, which become its params.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def __reduce__(self) -> Any:
        return _Unbegun, (self._steps,)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # a protocol of Python's, which a session would define itself
            raise AttributeError(name)
        session = self._steps.session
        # The training must not fail if logging is impossible.
        return _do_nothing if session is None else getattr(session, name)

    @property  # type: ignore[misc]  # used by isinstance
    def __class__(self) -> type:
        return Session


def _do_nothing(*_: Any, **__: Any) -> None:
    pass


def _assign(assigned: dict[str, str], key: str, names: Iterable[str]) -> str:
    """Return the name of a key: the one it has, or the first name that no other key has."""
    if key not in assigned:
        taken = set(assigned.values())
        assigned[key] = next(name for name in names if name not in taken)
    return assigned[key]


def _names_of(path: str) -> Iterator[str]:
    """Yield the file name of a path, and longer and longer ends of the path."""
    whole = PurePath(os.path.abspath(path))
    parts = whole.relative_to(whole.anchor).parts
    for start in reversed(range(len(parts))):
        yield "/".join(parts[start:])


def _whole(number: Any) -> int | None:
    with suppress(OverflowError, TypeError, ValueError):
        return int(number)
    return None


def _detached(value: Any) -> Any:
    """Return a metric detached from its computation graph, which would occupy memory."""
    return value.detach() if hasattr(value, "detach") else value


_living: weakref.WeakSet[Steps] = weakref.WeakSet()


@atexit.register
def _end_additions() -> None:
    """End additions to ended sessions before the recorder marks them as left open."""
    for steps in list(_living):
        steps.end_addition()
