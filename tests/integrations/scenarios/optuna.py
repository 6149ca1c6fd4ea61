"""Optuna: a trial of a classifier that reports a score after each epoch."""

import optuna
from sklearn.datasets import load_iris
from sklearn.linear_model import SGDClassifier

from casket_integrations.optuna import CasketCallback
from tests.integrations.scenarios import Record

Hook = CasketCallback

optuna.logging.disable_default_handler()


def train(hook, interrupt):
    X, y = load_iris(return_X_y=True)

    def objective(trial):
        model = SGDClassifier(alpha=trial.suggest_float("alpha", 1e-4, 1e-2), random_state=0)
        for epoch in range(4):
            score = model.partial_fit(X, y, [0, 1, 2]).score(X, y)
            trial.report(score, epoch)
            if epoch == 2:
                interrupt()
        return score

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=1, callbacks=[hook])
    (trial,) = study.trials
    values = trial.intermediate_values.items()
    rows = [{"epoch_num": step, "intermediate_value": value} for step, value in values]
    return Record("epochs", rows, trial.params)
