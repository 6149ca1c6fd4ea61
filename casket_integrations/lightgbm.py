"""LightGBM: `lgb.train(..., callbacks=[casket_callback(model)])` logs the training.

LightGBM calls no callback when a training ends, so importing this module wraps `lightgbm.train` and
`lightgbm.cv`, which has no effect without a `casket_callback`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from casket.errors import missing
from casket_integrations.calls import is_wrapped, wrap_boosting
from casket_integrations.recorder import Recorder, Recording

try:
    import lightgbm  # type: ignore[import-untyped, unused-ignore]
    from lightgbm import engine, sklearn  # type: ignore[import-untyped, unused-ignore]
except ModuleNotFoundError as error:
    raise missing(error, "lightgbm", "lightgbm") from error


class casket_callback(Recording):  # noqa: N801 - LightGBM's callbacks are named as functions
    """Logs every training, or cross-validation, as a session with an epoch for each round.

    Also for scikit-learn's interface: `LGBMClassifier().fit(X, y, callbacks=[...])`. Metrics are
    named `<data>-<metric>`, those of `lightgbm.cv` with `-mean` and `-stdv`. Rounds count from 1,
    as in the output of LightGBM. A training with `init_model` continues the last session with the
    same params that is not running. The best round and score of early stopping are a result. If
    the training ends with an exception, the logged rounds are kept and the session has the status
    failed.

    See `Recording` for the arguments.
    """

    order = 20  # before early stopping, which leaves the round by an exception
    before_iteration = False

    def __call__(self, env: Any) -> None:
        """Log a round; called by LightGBM."""
        if env.iteration == env.begin_iteration:
            self.recorder.start(resumes=env.begin_iteration > 0)
        self.recorder.epoch(env.iteration + 1, dict(_metrics(env.evaluation_result_list or ())))
        if env.iteration + 1 == env.end_iteration and not is_wrapped(self.recorder):
            self.recorder.end()


def _metrics(rows: Iterable[Any]) -> Iterator[tuple[str, float]]:
    """Yield the names and values of the metrics of a round."""
    for data, metric, value, _, *deviation in rows:
        # Before LightGBM 4.7, the names of a cross-validation were `cv_agg` and `valid l2`.
        name = metric.replace(" ", "-", 1) if data == "cv_agg" else f"{data}-{metric}"
        yield (f"{name}-mean" if deviation else name), value
        for each in deviation:
            yield f"{name}-stdv", each


def _returned(recorder: Recorder, trained: Any) -> None:
    """Log the best round of a booster, if any, and end the session."""
    if getattr(trained, "best_iteration", 0) > 0:
        best = {"best_iteration": trained.best_iteration, "best_score": trained.best_score}
        recorder.result(best)
    recorder.end()


wrap_boosting(
    {"train": (engine, lightgbm, sklearn), "cv": (engine, lightgbm)},
    casket_callback,
    continued="init_model",
    returned=_returned,
)
