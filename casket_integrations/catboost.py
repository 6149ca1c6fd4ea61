"""CatBoost: `model.fit(..., callbacks=[CasketCallback(model)])` logs the training.

CatBoost calls no callback when a training begins or ends, so importing this module wraps the
method `fit` of its classes, which has no effect without a `CasketCallback`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from casket.errors import missing
from casket_integrations.calls import Arguments, callbacks_of, ending_sessions
from casket_integrations.recorder import Recorder, Recording

try:
    from catboost import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        CatBoost,
        CatBoostClassifier,
        CatBoostRanker,
        CatBoostRegressor,
    )
except ModuleNotFoundError as error:
    raise missing(error, "catboost", "catboost") from error


class CasketCallback(Recording):
    """Logs every `fit` as a session with an epoch for each round that has metrics.

    Metrics are named `<data>-<metric>`. Rounds count from 0, as in the output of CatBoost. A
    training with `init_model` counts on after the rounds of that model, if it is not a path, and
    continues the last session with the same params that is not running. The best round and scores
    of a training with `eval_set` are a result. If the training ends with an exception, the logged
    rounds are kept and the session has the status failed. CatBoost accepts no callbacks with
    `task_type="GPU"`.

    See `Recording` for the arguments.
    """

    def begin(self, arguments: Arguments) -> None:
        """Expect the training of a call of `fit`."""
        continued = arguments.get("init_model")
        self._first = getattr(continued, "tree_count_", 0)
        self._lengths: dict[str, int] = {}
        self.recorder.expect(resumes=continued is not None)
        self.recorder.describe(arguments["self"].get_params())

    def after_iteration(self, info: Any) -> bool:
        """Log a round; called by CatBoost."""
        self.recorder.start(resumes=self._first > 0)
        scores = {
            f"{data}-{metric}": values
            for data, metrics in (info.metrics or {}).items()
            for metric, values in metrics.items()
        }
        row = {name: s[-1] for name, s in scores.items() if len(s) > self._lengths.get(name, 0)}
        self._lengths = {name: len(values) for name, values in scores.items()}
        if row:  # with `metric_period`, not every round is evaluated
            self.recorder.epoch(self._first + info.iteration - 1, row)
        return True


def _expected(arguments: Arguments) -> Iterator[Recorder]:
    """Yield the recorders of the callbacks passed to `fit`, each expecting the training."""
    for callback in callbacks_of(arguments):
        if isinstance(callback, CasketCallback):
            callback.begin(arguments)
            yield callback.recorder


def _returned(recorder: Recorder, model: Any) -> None:
    """Log the best round, if any, and end the session."""
    recorder.start()
    if model.best_iteration_ is not None:
        best = {"best_iteration": model.best_iteration_, "best_score": model.best_score_}
        recorder.result(best)
    recorder.end()


for _kind in (CatBoost, CatBoostClassifier, CatBoostRanker, CatBoostRegressor):
    _kind.fit = ending_sessions(_kind.fit, _expected, _returned)
