"""The overhead of logging in a search of scikit-learn.

Usage: python -m tests.benchmarks.sklearn_search
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.svm import SVC

from casket import Experiment
from casket_integrations.sklearn import LoggedGridSearchCV

if TYPE_CHECKING:
    from tests.benchmarks.__main__ import Figure

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


def seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


class Searches:
    """The same search, plain, logged and resumable, in a folder of its own for each fit."""

    def __init__(self, folder: Path, data: Any, arguments: Any, **named: Any) -> None:
        self._folder = folder
        self._data = data
        self._arguments = arguments
        self._named = named

    def took(self, kind: str) -> float:
        """Return the seconds that a fit takes."""
        if kind == "plain":
            search = GridSearchCV(*self._arguments, **self._named)
        else:
            url = Path(tempfile.mkdtemp(dir=self._folder), "runs.json")
            model = Experiment.use(url, exp_id="bench").model("m")
            search = LoggedGridSearchCV(
                *self._arguments, **self._named, casket_model=model, resume=kind == "resumable"
            )
        return seconds(lambda: search.fit(*self._data))

    def costs(self, rounds: int) -> tuple[float, dict[str, float]]:
        """Return the plain median, and for each other kind its median overhead within a round.

        Each kind in turn begins a round, and only fits of a round are compared: a shared machine
        is now a fifth faster, now slower.
        """
        took: dict[str, list[float]] = {"plain": [], "logged": [], "resumable": []}
        for n in range(rounds):
            for i in range(len(took)):
                kind = list(took)[(i + n) % len(took)]
                took[kind].append(self.took(kind))
        plain = took.pop("plain")
        more = {
            kind: statistics.median(one / base - 1 for one, base in zip(many, plain, strict=True))
            for kind, many in took.items()
        }
        return statistics.median(plain), more


def logging_searches(folder: Path) -> list["Figure"]:
    """The overhead of logging in the grid of the example, and in 600 fits that do nothing."""
    from tests.benchmarks.__main__ import Figure

    X, y = load_digits(return_X_y=True)
    half, _, labels, _ = train_test_split(X, y, test_size=0.5, random_state=0)
    data, empty = (half, labels), (Empty(), {"n": list(range(120))})
    measured = [
        (
            "grid of the example",
            3,
            9,
            Searches(folder, data, (SVC(), GRID), cv=5, scoring="precision_macro"),
        ),
        ("600 empty fits", 12, 25, Searches(folder, data, empty, cv=5)),
    ]
    figures = []
    for name, limit, rounds, searches in measured:
        plain, more = searches.costs(rounds)
        detail = f"plain {plain * 1e3:.0f} ms; with resume=True {more['resumable'] * 100:+.1f} %"
        figures.append(Figure(f"scikit-learn, {name}", more["logged"] * 100, limit, "%", detail))
    return figures


def main() -> int:
    """Print the figures; return 1 if a limit was missed."""
    with tempfile.TemporaryDirectory() as folder:
        figures = logging_searches(Path(folder))
    print(*figures, sep="\n")
    return int(any(figure.value > figure.limit for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
