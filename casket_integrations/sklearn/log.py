"""The session of a search's `fit`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import sklearn  # type: ignore[import-untyped]  # has no types

from casket import CasketWarning, SessionView
from casket_integrations.recorder import Recorder
from casket_integrations.sklearn import fingerprint, results
from casket_integrations.sklearn.describe import search_params
from casket_integrations.sklearn.progress import Progress
from casket_integrations.sklearn.stored import Keys, Outcome, StoredFolds, StoredResults, Task

_NOT_PARAMS = frozenset(
    {"casket_model", "resume", "ensure_unique", "n_jobs", "pre_dispatch", "verbose"}
)
"""Arguments of a search that do not affect its results."""

_NOT_SEEN = (
    "casket does not know how this search, or this version of scikit-learn, runs its folds: the "
    "candidates were logged at the end of the search, and no stored fold was reused"
)


class SearchLog:
    """Logs a `fit`: each candidate when its folds are done, and finally the best candidate.

    It never stops the search, except that params which were run already are refused at the start
    with `ensure_unique`.

    Args:
        search: the search to fit.

    Attributes:
        is_live: whether folds are logged as soon as they are computed.
    """

    def __init__(self, search: Any) -> None:
        self.is_live = False
        self._search = search
        self._noticed: set[str] = set()
        self._names: list[str] | None = None
        self._best = float("nan")
        self._has_news = False
        self._reused = self._total = 0
        self._waiting: list[tuple[int, Any, Sequence[Outcome]]] = []
        self._progress = Progress("candidates", wanted=search.verbose == 1)
        self._keys = Keys() if search.resume else None
        self._folds, self._results = StoredFolds(None), StoredResults(None)
        model = search.casket_model.within_open()
        self._recorder = Recorder(model, ensure_unique=search.ensure_unique)
        with self._recorder.forgiving():
            self._recorder.params = search_params(search, without=_NOT_PARAMS)

    @contextmanager
    def open(self, data: Mapping[str, Any]) -> Iterator[None]:
        """Keep the session open while the search is fitted; it fails if the search fails.

        Args:
            data: `X`, `y` and the parameters of the fit.
        """
        facts: dict[str, Any] = {}
        earlier = None
        with self._recorder.forgiving():
            facts = fingerprint.of_data(data)
            earlier = self._earlier(facts.get("hash"))
        self._recorder.start(session_id=earlier.id if earlier else None)
        with self._recorder.forgiving():
            self._recorder.meta({"scikit_learn": sklearn.__version__, "data": {"train": facts}})
            self._folds, self._results = StoredFolds(earlier), StoredResults(earlier)
        try:
            yield
            self._finish()
        except BaseException as error:
            self._recorder.end(error)
            raise
        finally:
            self._progress.close()
        self._recorder.end()

    def stored(self, task: Task) -> tuple[str | None, Outcome | None]:
        """Return the key of a fold, and its outcome if it was computed before."""
        if self._keys is None:
            return None, None
        with self._recorder.forgiving():
            key = self._keys.of(task)
            outcome = self._folds.pop(key)
            self._total += 1
            self._reused += outcome is not None
            return key, outcome
        return None, None

    def begin_round(self, candidates: int) -> None:
        """Start a round with a number of candidates."""
        self.is_live = True
        self._progress.begin(candidates)

    def fold(self, number: int, facts: dict[str, Any], outcome: Outcome) -> None:
        """Log a computed fold, so that it can be reused."""
        self._recorder.batch(number, {**facts, "outcome": outcome})

    def candidate(
        self, number: int, params: Any, outcomes: Sequence[Outcome], *, is_reused: bool
    ) -> None:
        """Log a candidate whose folds are done; `number` is its index in `cv_results_`."""
        with self._recorder.forgiving():
            self._waiting.append((number, params, outcomes))
            self._names = self._names or results.scorer_names(self._search.scoring, outcomes)
            if self._names:
                self._log_waiting(self._names)
            self._progress.step(f"best {self._best:.6g}", is_reused=is_reused)

    def end_round(self) -> None:
        """Log the candidates whose folds all failed to be scored."""
        with self._recorder.forgiving():
            self._log_waiting(self._names or [results.single_name(self._search.scoring)])
            for problem in self._keys.problems if self._keys else ():
                self.notice(f"folds were computed again, as they cannot be identified: {problem}")

    def notice(self, text: str) -> None:
        """Issue a warning unless it was issued before."""
        if text not in self._noticed:
            self._noticed.add(text)
            warnings.warn(text, CasketWarning, stacklevel=2)

    def _finish(self) -> None:
        """Log the results of the search."""
        search = self._search
        with self._recorder.forgiving():
            if not self.is_live:
                self._log(results.of_cv_results(search))
                self.notice(_NOT_SEEN)
            # The best result follows all candidates, even if some had to be computed again.
            self._log(results.best(search), again=self._has_news)
            refit_time = {"refit_time": search.refit_time_} if search.refit else {}
            self._recorder.meta({"n_splits": search.n_splits_, **refit_time})
            if self._keys is not None:
                self._report_reused()

    def _report_reused(self) -> None:
        """Log the number of reused folds, and print it as scikit-learn prints that of fits."""
        self._recorder.meta({"folds": {"total": self._total, "reused": self._reused}})
        if self._search.verbose > 0:
            sys.stdout.write(f"casket: reused {self._reused} of {self._total} folds\n")

    def _earlier(self, data_hash: str | None) -> SessionView | None:
        """Return the last session with these params and data that can be resumed."""
        model = self._recorder.model
        if not self._search.resume or data_hash is None or model is None:
            return None
        for holder in reversed(self._recorder.openings.earlier(self._recorder.params)):
            view = None if holder.may_run else model.read_session(holder.session)
            if view and view.meta.get("data", {}).get("train", {}).get("hash") == data_hash:
                return view
        return None

    def _log_waiting(self, names: list[str]) -> None:
        waiting, self._waiting = self._waiting, []
        refit = self._search.refit
        shown = refit if refit in names else names[0]
        for number, params, outcomes in waiting:
            logged = dict(results.of_candidate(number, params, outcomes, names))
            self._log(logged.items())
            self._best = float(np.fmax(self._best, logged[shown]["dev_scores"]["mean"]))

    def _log(self, entries: Iterable[tuple[str, dict[str, Any]]], again: bool = False) -> None:
        """Log results that the session does not have; with `again`, log all results."""
        for name, result in entries:
            if again or not self._results.remove(name, result):
                self._recorder.result(result, index_by=name)
                self._has_news = True
