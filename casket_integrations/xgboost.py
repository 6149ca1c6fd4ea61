"""XGBoost: `xgb.train(..., callbacks=[CasketCallback(model)])` logs the training.

XGBoost calls no callback when a training raises an exception, so importing this module wraps
`xgboost.train` and `xgboost.cv`, which has no effect without a `CasketCallback`.
"""

# ruff: noqa: ARG002 - the signatures of the events are XGBoost's
from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from casket.errors import missing
from casket_integrations.calls import wrap_boosting
from casket_integrations.recorder import Recording

try:
    import xgboost  # type: ignore[import-untyped, unused-ignore]
    from xgboost import collective, sklearn, training  # type: ignore[import-untyped, unused-ignore]
    from xgboost.callback import TrainingCallback  # type: ignore[import-untyped, unused-ignore]
except ModuleNotFoundError as error:
    raise missing(error, "xgboost", "xgboost") from error


class CasketCallback(Recording, TrainingCallback):  # type: ignore[misc, unused-ignore]
    """Logs every training, or cross-validation, as a session with an epoch for each round.

    Also for scikit-learn's interface: `XGBClassifier(callbacks=[CasketCallback(model)])`. Metrics
    are named `<data>-<metric>`, those of `xgboost.cv` with `-mean` and `-std`. Rounds count from 0,
    as in the output of XGBoost. A training with `xgb_model` counts on after the rounds of that
    model, and continues the last session with the same params that is not running. The best round
    and score of early stopping are a result. If the training ends with an exception, the logged
    rounds are kept and the session has the status failed.

    See `Recording` for the arguments.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._first = self._logged = 0
        self._history: Mapping[str, Any] = {}

    def before_training(self, model: Any) -> Any:
        """Start or continue the session; of several workers, the first logs."""
        if collective.get_rank() > 0:
            self.recorder.is_logging = False
        self._first, self._logged, self._history = model.num_boosted_rounds(), 0, {}
        self.recorder.start(resumes=self._first > 0)
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        """Log a round."""
        self._history = evals_log
        self._log_until(epoch + 1)
        return False

    def after_training(self, model: Any) -> Any:
        """Log the best round, if any, and end the session."""
        # A callback that stops the training hides the last round from those after it.
        scores = (scores for metrics in self._history.values() for scores in metrics.values())
        self._log_until(max(map(len, scores), default=0))
        self._history = {}
        if model.attr("best_iteration") is not None:
            best = int(model.attr("best_iteration"))
            score = float(model.attr("best_score"))
            self.recorder.result({"best_iteration": best, "best_score": score})
        self.recorder.end()
        return model

    def _log_until(self, count: int) -> None:
        for number in range(self._logged, count):
            self.recorder.epoch(self._first + number, dict(_metrics(self._history, number)))
            self._logged = number + 1


def _metrics(history: Mapping[str, Any], number: int) -> Iterator[tuple[str, float]]:
    """Yield the names and values of the metrics of a round."""
    for data, metrics in history.items():
        for name, scores in metrics.items():
            if isinstance(scores[number], tuple):
                mean, deviation = scores[number]
                yield f"{data}-{name}-mean", mean
                yield f"{data}-{name}-std", deviation
            else:
                yield f"{data}-{name}", scores[number]


wrap_boosting(
    {"train": (training, xgboost, sklearn), "cv": (training, xgboost)},
    CasketCallback,
    continued="xgb_model",
)
# It imports the function by another name; if imported later, it finds the wrapped one.
if (dask := sys.modules.get("xgboost.dask")) is not None:
    vars(dask)["worker_train"] = training.train
