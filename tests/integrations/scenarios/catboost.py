"""CatBoost: boosted trees with a data set to evaluate."""

import catboost
import numpy as np

from casket_integrations.catboost import CasketCallback
from tests.integrations.scenarios import Record

Hook = CasketCallback
PARAMS = {"iterations": 4, "depth": 2, "thread_count": 1, "allow_writing_files": False}


class Interrupt:
    def __init__(self, interrupt):
        self.interrupt = interrupt

    def after_iteration(self, info):
        if info.iteration == 3:
            self.interrupt()
        return True


def train(hook, interrupt):
    X = np.random.default_rng(0).random((100, 2))
    model = catboost.CatBoostRegressor(**PARAMS)
    model.fit(
        X[::2], X[::2, 0], eval_set=(X[1::2], X[1::2, 0]), verbose=False,
        callbacks=[hook, Interrupt(interrupt)],
    )  # fmt: skip
    learn, valid = (model.evals_result_[data]["RMSE"] for data in ("learn", "validation"))
    rows = [
        {"epoch_num": i, "learn-RMSE": each, "validation-RMSE": other}
        for i, (each, other) in enumerate(zip(learn, valid, strict=True))
    ]
    return Record("epochs", rows, PARAMS)
