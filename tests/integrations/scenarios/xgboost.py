"""XGBoost: boosted trees with two data sets to evaluate."""

import numpy as np
import xgboost

from casket_integrations.xgboost import CasketCallback
from tests.integrations.scenarios import Record

Hook = CasketCallback

PARAMS = {"max_depth": 2, "nthread": 1, "objective": "binary:logistic"}


class Interrupt(xgboost.callback.TrainingCallback):
    def __init__(self, interrupt):
        self.interrupt = interrupt

    def after_iteration(self, model, epoch, evals_log):
        if epoch == 2:
            self.interrupt()
        return False


def train(hook, interrupt):
    X = np.random.default_rng(0).random((100, 2))
    train, valid = (xgboost.DMatrix(X[i::2], X[i::2, 0] > 0.5) for i in (0, 1))
    history = {}
    xgboost.train(
        PARAMS, train, 4, evals=[(train, "train"), (valid, "valid")], evals_result=history,
        verbose_eval=False, callbacks=[hook, Interrupt(interrupt)],
    )  # fmt: skip
    scores = zip(history["train"]["logloss"], history["valid"]["logloss"], strict=True)
    rows = [
        {"epoch_num": i, "train-logloss": train, "valid-logloss": valid}
        for i, (train, valid) in enumerate(scores)
    ]
    return Record("epochs", rows, {**PARAMS, "num_boost_round": 4})
