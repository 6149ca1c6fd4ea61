"""Optuna on scikit-learn's handwritten digits: each trial is a session with its scores.

Trials that are worse than the median are pruned. Start the script twice at once, with a storage of
Optuna's, and both processes write to the same file.

Usage: python optuna_digits.py [FILE]
"""

import sys

import optuna
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

from casket import Experiment as E
from casket_integrations.optuna import CasketCallback

X, y = load_digits(return_X_y=True)
X_train, X_valid, y_train, y_valid = train_test_split(X / 16, y, random_state=0)
exp = E.use(sys.argv[1] if len(sys.argv) > 1 else "runs.json", exp_id="digits")


def objective(trial):
    """Train a classifier with the parameters of a trial; return its accuracy."""
    alpha = trial.suggest_float("alpha", 1e-6, 1, log=True)
    penalty = trial.suggest_categorical("penalty", ["l1", "l2"])
    classifier = SGDClassifier(alpha=alpha, penalty=penalty, random_state=0)
    for epoch in range(5):
        classifier.partial_fit(X_train, y_train, classes=range(10))
        accuracy = classifier.score(X_valid, y_valid)
        trial.report(accuracy, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return accuracy


optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(
    direction="maximize",
    sampler=optuna.samplers.TPESampler(seed=0),
    pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
)
study.optimize(objective, n_trials=10, callbacks=[CasketCallback(exp.model("SGD"))])

for session in exp.sessions(model="SGD"):
    pruned = "pruned" if session.meta.get("pruned") else ""
    print(f"{session.status} {session.params} {session.last['value']:.3f} {pruned}")
