"""Optuna: `study.optimize(objective, callbacks=[CasketCallback(model)])` logs each trial.

`suggest` is a space of a sweep; see `casket_integrations.suggesting`.

Optuna calls its callbacks only after a trial, and not if the trial raised an exception, so
importing this module wraps `Study.optimize`, which has no effect without a `CasketCallback`.
"""

from __future__ import annotations

import copy
from functools import wraps
from typing import Any

from casket.errors import missing
from casket_integrations.calls import wrapping
from casket_integrations.recorder import Recorder, Recording
from casket_integrations.suggesting import suggest as suggest

try:
    from optuna import Study, TrialPruned
    from optuna import trial as trials
except ModuleNotFoundError as error:
    raise missing(error, "optuna", "optuna") from error


class CasketCallback(Recording):
    """Logs every trial as a session, with its intermediate values as epochs.

    The session starts with the first `trial.report`, or at the end of a trial that reports nothing.
    Its params are those suggested by then; params suggested later are stored in
    `meta["hyperparameters"]`. The values of the objective are a result, named `value`, or
    `value_0`, `value_1`..., or by `Study.set_metric_names`. A pruned trial has the status completed
    and `meta["pruned"]`. If the objective raises an exception, also one in `catch`, the logged
    values are kept and the session has the status failed.

    See `Recording` for the arguments.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._trials: dict[tuple[str, int], Recorder] = {}

    def __call__(self, study: Study, trial: trials.FrozenTrial) -> None:
        """Log the outcome of a trial and end its session; called by Optuna."""
        if recorder := self._trials.pop((study.study_name, trial.number), None):
            _start(recorder, study, trial)
            recorder.meta({"user_attrs": trial.user_attrs} if trial.user_attrs else {})
            if trial.values:
                several = [f"value_{i}" for i in range(len(trial.values))]
                names = study.metric_names or (several if len(several) > 1 else ["value"])
                recorder.result(dict(zip(names, trial.values, strict=True)))
            errors: dict[str, Any] = {"PRUNED": TrialPruned(), "FAIL": "no valid value returned"}
            recorder.end(errors.get(trial.state.name))

    def logged(self, objective: Any) -> Any:
        """Return an objective that also logs its reports and the exception that it raises."""

        @wraps(objective)
        def call(trial: Any) -> Any:
            key = trial.study.study_name, trial.number
            recorder = self._trials[key] = copy.copy(self.recorder)
            report, steps = trial.report, set[int]()

            def reported(value: float, step: int) -> None:
                report(value, step)
                if step not in steps:  # Optuna ignores a step that was reported already
                    if not steps:
                        _start(recorder, trial.study, trial)
                    steps.add(step)
                    recorder.epoch(step, {"intermediate_value": float(value)})

            trial.report = reported
            recorder.expect()
            try:
                return objective(trial)
            except BaseException as error:
                if not isinstance(error, TrialPruned):
                    recorder.describe(trial.params)
                    self._trials.pop(key).end(error)
                raise

        return call

    def end(self, error: BaseException) -> None:
        """End the sessions of trials that an exception of Optuna's own left open."""
        while self._trials:
            self._trials.popitem()[1].end(error)


def _start(recorder: Recorder, study: Study, trial: Any) -> None:
    recorder.describe(trial.params)
    if recorder.start():
        ways = [direction.name.lower() for direction in study.directions]
        recorder.meta({"study_name": study.study_name, "number": trial.number, "directions": ways})


Study.optimize = wrapping(Study.optimize, "func", CasketCallback)  # type: ignore[method-assign]
