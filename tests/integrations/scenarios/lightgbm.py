"""LightGBM: boosted trees with a data set to evaluate."""

import lightgbm
import numpy as np

from casket_integrations.lightgbm import casket_callback
from tests.integrations.scenarios import Record

Hook = casket_callback

PARAMS = {"num_leaves": 3, "num_threads": 1, "verbosity": -1, "metric": "l2"}


def train(hook, interrupt):
    X = np.random.default_rng(0).random((100, 2))
    train = lightgbm.Dataset(X, X[:, 0])
    history = {}

    def interrupts(env):
        if env.iteration == 2:
            interrupt()

    interrupts.order = 99
    callbacks = [hook, interrupts, lightgbm.record_evaluation(history)]
    lightgbm.train(PARAMS, train, 4, valid_sets=[train], valid_names=["train"], callbacks=callbacks)
    values = enumerate(history["train"]["l2"], 1)
    rows = [{"epoch_num": i, "train-l2": value} for i, value in values]
    return Record("epochs", rows, {**PARAMS, "num_boost_round": 4})
