"""A grid search on scikit-learn's handwritten digits that logs itself and can be killed.

`LoggedGridSearchCV` takes the place of `GridSearchCV`: every candidate is in the file as soon as
its folds are done. Press Ctrl-C, or kill it, and run it again: it computes only what is missing.

Usage: python sklearn_grid_search.py [FILE]
"""

import sys

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

import casket
from casket import Experiment as E
from casket_integrations.sklearn import LoggedGridSearchCV

GRID = [
    {"kernel": ["rbf"], "gamma": [1e-3, 1e-4], "C": [1, 10, 100, 1000]},
    {"kernel": ["linear"], "C": [1, 10, 100, 1000]},
]


def search(model: casket.Model) -> None:
    """Search for what classifies digits best, by two scores at once."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
    scoring = ["precision_macro", "recall_macro"]
    found = LoggedGridSearchCV(
        SVC(), GRID, cv=5, scoring=scoring, refit="recall_macro", verbose=1,
        casket_model=model, resume=True,
    ).fit(X_train, y_train)  # fmt: skip
    print(f"best {found.best_params_}, on the test set {found.score(X_test, y_test):.4f}")


def main(url: str) -> None:
    """Search, and show the candidates as the file holds them."""
    search(E.use(url, exp_id="digits").model("SVM search"))
    with casket.open(url) as runs:
        session = runs.sessions(model="SVM search")[-1]
        *candidates, _ = session.results(index_by="recall_macro")  # the last one is the best
        for row in sorted(candidates, key=lambda row: -row["dev_scores"]["mean"])[:5]:
            mean, std = row["dev_scores"]["mean"], row["dev_scores"]["std"]
            print(f"  {mean:.4f} ± {2 * std:.4f}  {row['grid_search_params']}")
        print(f"{len(candidates)} candidates, {len(session.batches)} folds in session {session.id}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs.json")
