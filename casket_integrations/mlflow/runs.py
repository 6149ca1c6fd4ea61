"""The runs of MLflow scripts."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import casket
from casket import CasketError, Experiment, Model, Session
from casket_integrations.trackers import MODEL, experiment_of, place, session_of_command

_STATUSES: Any = {"FINISHED": "completed", "FAILED": "failed", "KILLED": "killed"}
_NOTE, _NAME, _OWN = "mlflow.note.content", "mlflow.runName", "mlflow."


class MlflowException(CasketError, ValueError):
    """A call that is not valid, such as to start a run within another one."""


class ActiveRun:
    """A run, which logs into a session.

    Attributes:
        session: the session.
        info: the id, the name and the experiment of the run, and its status.
    """

    def __init__(self, session: Session, model: Model) -> None:
        self.session, self._model = session, model
        self._tags: dict[str, str] = {}
        self._stepless: dict[str, tuple[int, Any]] = {}
        self.info = SimpleNamespace(
            run_id=session.id,
            run_uuid=session.id,
            run_name=session.name,
            experiment_id=model.experiment.id,
            status="RUNNING",
        )

    def __enter__(self) -> ActiveRun:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if self in _runs.stack:
            _runs.stack.remove(self)
        self.info.status = "FINISHED" if error is None else "FAILED"
        self.session.__exit__(kind, error, traceback)

    @property
    def data(self) -> SimpleNamespace:
        """The params, the last value of each metric, and the tags."""
        view = self._model.read_session(self.info.run_id)
        metrics = dict(view.last) if view else {}
        return SimpleNamespace(params=self.session.params, metrics=metrics, tags=dict(self._tags))

    def log(self, metrics: Mapping[str, Any], step: int | None) -> None:
        """Log metrics at a step.

        A metric without a step is a result. If it is logged again, it is also numbered.
        """
        if step is not None:
            self.session.add_epoch(int(step), metrics)
            return
        self.session.add_result(metrics)
        for name, value in metrics.items():
            number, earlier = self._stepless.get(name, (0, None))
            if number == 1:
                self.session.add_epoch(0, {name: earlier})
            if number:
                self.session.add_epoch(number, {name: value})
            self._stepless[name] = number + 1, value

    def tag(self, name: str, value: Any) -> None:
        """Set a tag; tags of MLflow itself become the name, the note or meta."""
        if name == _NAME:
            self.session.name = self.info.run_name = str(value)
        elif name == _NOTE:
            self.session.note(str(value))
        elif name.startswith(_OWN):
            self.session.add_meta({name: value})
        else:
            self.untag(name)
            self.session.add_tag(_tag(name, value))
        self._tags[name] = str(value)

    def untag(self, name: str) -> None:
        """Remove a tag, if it is set."""
        if name in self._tags:
            self.session.remove_tag(_tag(name, self._tags.pop(name)))


class _Runs(threading.local):
    """The open runs of a thread, the innermost last, and the run that was started last."""

    def __init__(self) -> None:
        self.stack: list[ActiveRun] = []
        self.last: ActiveRun | None = None


_runs = _Runs()
_experiment = ""


def set_experiment(
    experiment_name: str | None = None, experiment_id: str | None = None, **_: Any
) -> SimpleNamespace:
    """Choose the experiment of the runs that are started from now on."""
    global _experiment
    _experiment = str(experiment_name if experiment_name is not None else experiment_id)
    return _described(experiment_of(_experiment))


def create_experiment(name: str, *_: Any, **__: Any) -> str:
    """Create an experiment, and return its id, which is its name."""
    return Experiment.new(place(), exp_id=name).id


def get_experiment_by_name(name: str) -> SimpleNamespace | None:
    """Return an experiment, or None if it does not exist."""
    experiment = Experiment(place(), exp_id=name)
    return _described(experiment) if experiment.exists() else None


def start_run(
    run_id: str | None = None,
    experiment_id: str | None = None,
    run_name: str | None = None,
    nested: bool = False,
    parent_run_id: str | None = None,
    tags: Mapping[str, Any] | None = None,
    description: str | None = None,
    log_system_metrics: bool | None = None,
    **_: Any,
) -> ActiveRun:
    """Start a run, or continue the run with an id.

    In a command of `casket sweep`, the first run is its session.

    Raises:
        MlflowException: another run is open, and the run is not nested.
        NoSuchSession: there is no run with the id.
    """
    around = _runs.stack[-1] if _runs.stack else None
    if around and not nested:
        raise MlflowException(
            f"run {around.info.run_id} is active: end it by mlflow.end_run(), or give nested=True"
        )
    if run_id is None:
        parent = parent_run_id or (around.info.run_id if around else None)
        run = (None if parent else _of_sweep(run_name)) or _new_run(
            str(experiment_id or ""), parent, run_name, log_system_metrics
        )
    else:
        run = _resumed(run_id)
    _runs.stack.append(run)
    _runs.last = run
    note = {} if description is None else {_NOTE: description}
    for name, value in {**(tags or {}), **note}.items():
        run.tag(name, value)
    return run


def _new_run(
    experiment: str, parent: str | None, name: str | None, system_metrics: bool | None
) -> ActiveRun:
    if parent is None:
        model = owner = experiment_of(experiment or _experiment_name()).model(MODEL)
    else:  # a child is of the model of its parent
        opened = {run.info.run_id: run._model for run in _runs.stack}
        model = opened.get(parent) or _model_of(parent)
        owner = model.within(parent)
    session = owner.session(repeat=True, name=name, system_metrics=system_metrics)
    return ActiveRun(session, model)


def _of_sweep(name: str | None) -> ActiveRun | None:
    """Return the run of a command of `casket sweep`, the first time it is asked for."""
    session = session_of_command()
    if session is None:
        return None
    run = ActiveRun(session, _model_of(session.id))
    if name is not None:
        run.tag(_NAME, name)
    return run


def _resumed(run_id: str) -> ActiveRun:
    model = _model_of(run_id)
    return ActiveRun(model.resume(run_id), model)


def _model_of(run_id: str) -> Model:
    with casket.open(place()) as runs:
        view = runs[run_id]
    return experiment_of(view.experiment).model(view.model)


def _experiment_name() -> str:
    return _experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"


def _described(experiment: Experiment) -> SimpleNamespace:
    return SimpleNamespace(
        experiment_id=experiment.id, name=experiment.id, lifecycle_stage="active"
    )


def active_run() -> ActiveRun | None:
    """Return the open run, or None."""
    return _runs.stack[-1] if _runs.stack else None


def last_active_run() -> ActiveRun | None:
    """Return the run that was started last, or None."""
    return _runs.last


def end_run(status: Any = "FINISHED") -> None:
    """End the open run; has no effect without one."""
    if _runs.stack:
        run = _runs.stack.pop()
        run.info.status = str(status)
        run.session.end(_STATUSES[str(status)])


def current(run_id: str | None = None) -> ActiveRun:
    """Return the open run, which is started if there is none, or the open run with an id."""
    if run_id is None:
        return active_run() or start_run()
    for run in _runs.stack:
        if run.info.run_id == run_id:
            return run
    raise MlflowException(f"run {run_id} is not active: open it by start_run(run_id={run_id!r})")


def _tag(name: str, value: Any) -> str:
    return f"{name}={value}" if str(value) else name
