"""What logging costs a search of scikit-learn's: medians of runs that take turns.

Usage: python -m tests.benchmarks.sklearn_search
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.svm import SVC

from casket import Experiment
from casket_integrations.sklearn import LoggedGridSearchCV

GRID = [
    {"kernel": ["rbf"], "gamma": [1e-3, 1e-4], "C": [1, 10, 100, 1000]},
    {"kernel": ["linear"], "C": [1, 10, 100, 1000]},
]


class Empty(ClassifierMixin, BaseEstimator):
    """A classifier that does nothing."""

    def __init__(self, n: int = 0) -> None:
        self.n = n

    def fit(self, X: Any, y: Any) -> "Empty":
        self.classes_ = [0, 1]
        return self

    def score(self, X: Any, y: Any) -> float:
        return 0.5


class Cost(NamedTuple):
    """How many times what the plain search takes one that logs takes."""

    name: str
    ratio: float
    limit: float
    plain: float

    def __str__(self) -> str:
        verdict = "ok  " if self.ratio <= self.limit else "MISS"
        return (
            f"{verdict}  {self.name:34} {(self.ratio - 1) * 100:+6.2f} %  "
            f"at most {(self.limit - 1) * 100:.0f} %   plain {self.plain * 1000:.0f} ms"
        )


def seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def compare(
    name: str, limit: float, rounds: int, data: Any, arguments: Any, **named: Any
) -> list[Cost]:
    """Run a plain search, one that logs, and one that could be resumed, in turns."""
    X, y = data
    with tempfile.TemporaryDirectory() as folder:
        costs: dict[str, list[float]] = {"plain": [], "logged": [], "resumable": []}
        for turn in range(rounds):
            for kind, took in costs.items():
                search = GridSearchCV(*arguments, **named)
                if kind != "plain":
                    experiment = Experiment.use(Path(folder, f"{kind}{turn}.json"), exp_id="bench")
                    model = experiment.model("m")
                    search = LoggedGridSearchCV(
                        *arguments, **named, casket_model=model, resume=kind == "resumable"
                    )
                took.append(seconds(lambda search=search: search.fit(X, y)))
    medians = {kind: statistics.median(took) for kind, took in costs.items()}
    plain = medians.pop("plain")
    return [
        Cost(
            f"{name}, {kind}",
            median / plain,
            limit if kind == "logged" else float("inf"),
            plain,
        )
        for kind, median in medians.items()
    ]


def main() -> int:
    """Print what each kind of logging costs; return 1 if a limit was missed."""
    X, y = load_digits(return_X_y=True)
    half, _, labels, _ = train_test_split(X, y, test_size=0.5, random_state=0)
    grid = {"cv": 5, "scoring": "precision_macro"}
    empty = (Empty(), {"n": list(range(120))})
    costs = [
        *compare("the grid of the example", 1.03, 7, (half, labels), (SVC(), GRID), **grid),
        *compare("600 empty fits", 1.12, 15, (half, labels), empty, cv=5),
        *compare("600 empty fits, n_jobs=2", 1.12, 15, (half, labels), empty, cv=5, n_jobs=2),
    ]
    print(*costs, sep="\n")
    return int(any(cost.ratio > cost.limit for cost in costs))


if __name__ == "__main__":
    sys.exit(main())
