"""A search that is killed at any moment goes on where it was, and finds the same."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.model_selection import GridSearchCV

import casket
from tests.integrations.sklearn_parts import (
    GRID,
    TWO,
    NotingSVC,
    X,
    assert_same_scores,
    fits_noted,
    release,
    y,
)
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
FOLDS = 30


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The results of the search if it is not killed."""
    notes = str(tmp_path_factory.mktemp("plain") / "notes")
    search = GridSearchCV(NotingSVC(notes), GRID, cv=5, return_train_score=True, **TWO)
    return search.fit(X, y).cv_results_


@pytest.fixture(scope="module")
def server():
    command = [sys.executable, "-m", "tests.integrations.sklearn_parts"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        yield process
        process.stdin.close()


class Searches:
    """The searches of a test, one after another in a folder."""

    def __init__(self, server, folder, n_jobs):
        self.server = server
        self.folder = folder
        self.n_jobs = n_jobs
        self.pid = None

    def start(self, held_after=None):
        job = json.dumps([str(self.folder), self.n_jobs, held_after])
        print(job, file=self.server.stdin, flush=True)
        self.pid = int(self.server.stdout.readline())

    def kill(self, only_main=False):
        with suppress(ProcessLookupError):  # it may just have finished
            (os.kill if only_main else os.killpg)(self.pid, signal.SIGKILL)
        self.wait_until(lambda: not is_alive(self.pid))

    def wait_until(self, is_so):
        eventually(lambda: self.output() or is_so(), "the search hangs")
        assert not self.output(), self.output()

    def finish(self):
        self.wait_until(lambda: not is_alive(self.pid))
        assert Path(self.folder, "found").exists(), self.output()
        return joblib.load(Path(self.folder, "found"))

    def output(self):
        """The output of the searches, which is empty unless they fail."""
        output = Path(self.folder, "output")
        return output.read_text() if output.exists() else ""

    def noted(self):
        return [n for n in fits_noted(self.folder / "notes") if n < len(y)]  # without the refit

    def session(self):
        with casket.open(self.folder / "runs.json") as runs:
            (session,) = runs.sessions() or (None,)
            return session

    def stored(self):
        """The fingerprints of the folds that are stored."""
        if not (self.folder / "runs.json").exists():
            return []
        session = self.session()
        return [batch["fingerprint"] for batch in session.batches] if session else []


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def searches(server, tmp_path, request):
    made = Searches(server, tmp_path, request.param)
    yield made
    with suppress(ProcessLookupError):
        os.killpg(made.pid, signal.SIGKILL)


def check_what_was_found(searches, results, expected):
    assert_same_scores(results, expected)
    session = searches.session()
    assert session.status == "completed"
    for name in ("fit_time", "score_time"):  # as first measured
        places = sorted(session.batches, key=lambda batch: (batch["candidate"], batch["split"]))
        times = np.array([batch["outcome"][name] for batch in places]).reshape(6, 5)
        np.testing.assert_array_equal(results[f"mean_{name}"], times.mean(axis=1))
    for name in TWO["scoring"]:
        *candidates, best = session.results(index_by=name)
        params = [row["grid_search_params"] for row in candidates]
        assert len(params) == 6
        assert all(results["params"].count(one) == params.count(one) == 1 for one in params)
        assert best["ranks"] == results[f"rank_test_{name}"].tolist()


# Two jobs take seconds to start, in which they import scikit-learn.
@pytest.mark.parametrize(
    ("searches", "kills", "seed"), [(1, 8, 1), (1, 7, 2), (2, 2, 3)], indirect=["searches"]
)
def test_a_search_killed_at_random_moments_computes_only_what_is_missing(
    searches, kills, seed, expected
):
    moments = random.Random(seed)
    for left in range(kills, 0, -1):
        stored, noted = searches.stored(), len(searches.noted())
        searches.start()
        more = noted + moments.randint(0, (FOLDS - len(stored)) // left)
        searches.wait_until(lambda more=more: len(searches.noted()) >= more)
        time.sleep(moments.uniform(0, 0.03))
        searches.kill()
        assert searches.stored()[: len(stored)] == stored, "what was stored is there still"
        assert len(searches.noted()) - noted <= FOLDS - len(stored)

    stored, noted = len(searches.stored()), len(searches.noted())
    searches.start()
    outcome = searches.finish()
    assert len(searches.noted()) - noted == FOLDS - stored
    assert len(set(searches.stored())) == len(searches.stored()) == FOLDS
    check_what_was_found(searches, outcome, expected)

    noted = len(searches.noted())
    searches.start()
    searches.finish()
    assert len(searches.noted()) == noted, "a finished search computes nothing again"


@pytest.mark.parametrize("searches", [2], indirect=True)
def test_workers_that_outlive_their_search_write_nothing(searches):
    searches.start(held_after=5)
    searches.wait_until((searches.folder / "notes.held").exists)
    searches.kill(only_main=True)
    stored, noted = searches.stored(), len(searches.noted())
    assert searches.session().status == "killed"
    release(searches.folder / "notes")
    searches.wait_until(lambda: len(searches.noted()) > noted)
    assert searches.stored() == stored
