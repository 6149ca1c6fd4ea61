"""A grid search on scikit-learn's handwritten digits, once for precision and once for recall.

One session holds the whole search: for each score the best parameters, every candidate's mean
and deviation, and the scores on the test set. Run again, it finds the session completed and
shows what is there.

Usage: python grid_search_digits.py [FILE]
"""

import sys

from sklearn.datasets import load_digits
from sklearn.metrics import precision_recall_fscore_support
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.svm import SVC

import casket
from casket import Experiment as E

GRID = [
    {"kernel": ["rbf"], "gamma": [1e-3, 1e-4], "C": [1, 10, 100, 1000]},
    {"kernel": ["linear"], "C": [1, 10, 100, 1000]},
]
SCORES = ("precision", "recall")


def search(session: casket.Session) -> None:
    """Run the search for each score and log it under the score's name."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
    for score in SCORES:
        clf = GridSearchCV(SVC(), GRID, cv=5, scoring=f"{score}_macro")
        clf.fit(X_train, y_train)
        session.add_result({"best_params": clf.best_params_}, index_by=score)

        results = clf.cv_results_
        candidates = zip(
            results["params"], results["mean_test_score"], results["std_test_score"], strict=True
        )
        for params, mean, std in candidates:
            dev_scores = {"mean": mean, "std": std}
            session.add_result(
                {"grid_search_params": params, "dev_scores": dev_scores}, index_by=score
            )

        predicted = clf.predict(X_test)
        p, r, f, _ = precision_recall_fscore_support(y_test, predicted)
        test_scores = {"precision": p, "recall": r, "f": f}
        session.add_result({"test_scores": test_scores, "y_pred": predicted}, index_by=score)


def show(url: str) -> None:
    """Print what the file holds."""
    with casket.open(url) as runs:
        for session in runs.sessions(experiment="digits-grid"):
            took = session.duration.total_seconds()
            print(f"session {session.id} of {session.model}: {session.status}, {took:.1f} s")
            for score in session.indexes:
                best, *candidates, test = session.results(index_by=score)
                print(f"\n  {score}: best {best['best_params']}")
                for row in sorted(candidates, key=lambda row: -row["dev_scores"]["mean"])[:5]:
                    mean, std = row["dev_scores"]["mean"], row["dev_scores"]["std"]
                    print(f"    {mean:.4f} ± {2 * std:.4f}  {row['grid_search_params']}")
                recall = test["test_scores"]["recall"]
                print(f"    on the test set, recall by digit: {[round(r, 2) for r in recall]}")


def main(url: str) -> None:
    """Search, unless it was done before, and show the result."""
    model = E.use(url, exp_id="digits-grid").model("SVM")
    try:
        with model.session({"grid": GRID, "cv": 5}) as session:
            search(session)
    except casket.ExistingParamsException as existing:
        print(f"not run again: {existing}\n")
    show(url)
    print(f"\nAll of it is in {url}, a record a line. Run it again: nothing is computed twice.")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs.json")
