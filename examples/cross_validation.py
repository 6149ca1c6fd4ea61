"""A cross-validation on scikit-learn's handwritten digits, with a child for each fold.

Press Ctrl-C, or kill it, and run it again: it computes only the folds that are missing.

Usage: python cross_validation.py [FILE]
"""

import sys

from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

import casket
from casket import Experiment as E

FOLDS = 4


def cross_validate(model: casket.Model, C: float) -> None:
    """Train and test a classifier on each fold, and log the means to their parent."""
    X, y = load_digits(return_X_y=True)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(X, y)
    with model.session({"C": C}, ensure_unique=False) as session:
        for number, (train, test) in enumerate(folds):
            try:
                child = session.child({"fold": number})
            except casket.ExistingParamsException:
                continue  # it was completed by an earlier run of this script
            with child:
                predicted = SVC(C=C, gamma=0.001).fit(X[train], y[train]).predict(X[test])
                f1 = f1_score(y[test], predicted, average="macro")
                child.add_result({"accuracy": accuracy_score(y[test], predicted), "f1": f1})
        session.summarize_children()


def main(url: str) -> None:
    """Compare values of C, and show the file's means and the folds of the best."""
    model = E.use(url, exp_id="digits").model("SVM folds")
    for C in (0.1, 1.0, 10.0):
        cross_validate(model, C)
    with casket.open(url) as runs:
        for row in runs.best("accuracy", where="model == 'SVM folds'"):
            last = row.session.last
            print(f"C={row.session.params['C']}: {row.value:.4f} ± {last['accuracy.std']:.4f}")
        best = runs.best("accuracy", where="model == 'SVM folds'")[0].session
        print("folds of the best:", [round(fold.last["accuracy"], 4) for fold in best.children])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs.json")
