"""Estimators, scorers and data that the tests of the searches share with processes they start."""

import json
import os
import pickle
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

import joblib
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.svm import SVC

from casket import Experiment
from casket_integrations.sklearn import LoggedGridSearchCV
from tests.waiting import eventually

X, y = (array[:240] for array in load_digits(return_X_y=True))
GRID = {"C": [0.1, 1.0, 10.0], "gamma": [1e-4, 1e-3]}
TWO = {"scoring": ["accuracy", "recall_macro"], "refit": "recall_macro"}


class NotingSVC(ClassifierMixin, BaseEstimator):
    """An SVC that appends a line to a file for every fit, whichever process it runs in.

    Args:
        notes: the file.
        C: the SVC's.
        gamma: the SVC's.
        pause: seconds a fit takes at least.
        held_after: the number of noted fits after which a fit waits until `release` was called.
    """

    def __init__(self, notes, C=1.0, gamma=1e-3, pause=0.0, held_after=None):
        self.notes = notes
        self.C = C
        self.gamma = gamma
        self.pause = pause
        self.held_after = held_after

    def fit(self, X, y, sample_weight=None):
        self.svc_ = SVC(C=self.C, gamma=self.gamma).fit(X, y, sample_weight)
        self.classes_ = self.svc_.classes_
        time.sleep(self.pause)
        if self.held_after is not None and len(fits_noted(self.notes)) >= self.held_after:
            Path(f"{self.notes}.held").touch()
            eventually(Path(f"{self.notes}.released").exists)
        file = os.open(self.notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{len(y)}\n".encode())
        os.close(file)
        return self

    def predict(self, X):
        return self.svc_.predict(X)


class Fragile(SVC):
    """An SVC that cannot be fitted with a C above 5."""

    def fit(self, X, y):
        if self.C > 5:
            raise ValueError("C is too large")
        return super().fit(X, y)


class Sending(SVC):
    """An SVC whose fit sends a search as joblib would."""

    search = None
    received = None

    def fit(self, X, y):
        type(self).received = pickle.loads(pickle.dumps(self.search))
        return super().fit(X, y)


def fits_noted(notes):
    """Return how many samples each fit had that was noted."""
    return [int(line) for line in Path(notes).read_text().split()] if Path(notes).exists() else []


def release(notes):
    """Let the fits go on that were held."""
    Path(f"{notes}.released").touch()


def halved(estimator, X, y):
    """Score with half the accuracy."""
    return accuracy_score(y, estimator.predict(X)) / 2


def both(estimator, X, y):
    """Score with two metrics."""
    right = accuracy_score(y, estimator.predict(X))
    return {"right": right, "wrong": 1 - right}


def assert_same_scores(results, expected):
    """Compare two `cv_results_` bit for bit, but for the times."""
    assert results.keys() == expected.keys()
    for name, column in expected.items():
        if not name.endswith("_time"):
            np.testing.assert_array_equal(results[name], column, err_msg=name)
            assert getattr(results[name], "dtype", None) == getattr(column, "dtype", None), name


def killable_search(folder, n_jobs, held_after):
    """Return the search that the kill tests run, stored in a folder."""
    model = Experiment.use(Path(folder, "runs.json"), exp_id="kill").model("svc")
    notes = str(Path(folder, "notes"))
    estimator = NotingSVC(notes, pause=0.01, held_after=held_after)
    return LoggedGridSearchCV(
        estimator,
        GRID,
        cv=5,
        n_jobs=n_jobs,
        return_train_score=True,
        casket_model=model,
        resume=True,
        **TWO,
    )


def run_killable(folder, n_jobs, held_after):
    """Run the search, and leave its results in the folder."""
    search = killable_search(folder, n_jobs, held_after).fit(X, y)
    joblib.dump(search.cv_results_, Path(folder, "found.part"))
    Path(folder, "found.part").rename(Path(folder, "found"))


def serve():
    """Run searches in forked processes, each the head of a group, for lines of the input.

    A process that has scikit-learn loaded forks in milliseconds; a new process takes a second.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        folder, n_jobs, held_after = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setpgid(0, 0)
            # Workers outlive a kill and would hold the pipes.
            log = os.open(Path(folder, "output"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            for stream in (0, 1, 2):
                os.dup2(os.open(os.devnull, os.O_RDONLY) if stream == 0 else log, stream)
            try:
                run_killable(folder, n_jobs, held_after)
            except BaseException:  # noqa: BLE001 - nothing stands above this
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(0)
        with suppress(OSError):  # whoever of the two comes first
            os.setpgid(pid, pid)
        print(pid, flush=True)


if __name__ == "__main__":
    serve()
