"""What the searches have in common beyond the class each of them derives from."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Self

from sklearn.base import BaseEstimator  # type: ignore[import-untyped]  # has no types

from casket import Model
from casket_integrations.sklearn.folds import watched
from casket_integrations.sklearn.log import SearchLog


class LoggedSearch(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A search that logs its candidates, if it is given a casket Model.

    Attributes:
        casket_model: where to log; None: the search is what it derives from, and nothing else.
        resume: keep every fold, and continue the last session of the same params and data that is
            not running, without computing the folds it holds.
        ensure_unique: refuse a search whose params were run already, unless it is resumed.
    """

    casket_model: Model | None
    resume: bool
    ensure_unique: bool
    _casket_log: SearchLog | None = None

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:  # noqa: N803 - scikit-learn's name
        """Run the search, as the class it derives from does, in a session.

        Raises:
            ExistingParamsException: the search was run already, and `ensure_unique` says that it
                may not be again.
        """
        if self.casket_model is None:
            super().fit(X, y, **params)
            return self
        log = SearchLog(self)
        with log.open({"X": X, "y": y, **params}):
            self._casket_log = log
            try:
                super().fit(X, y, **params)
            finally:
                del self._casket_log
        return self

    def _run_search(self, evaluate_candidates: Any, *, callback_ctx: Any = None) -> None:
        # Before 1.9 scikit-learn knows no such argument; from then on it always gives one.
        context = {} if callback_ctx is None else {"callback_ctx": callback_ctx}
        log = self._casket_log
        with watched(self, log, evaluate_candidates) if log else nullcontext():
            super()._run_search(evaluate_candidates, **context)

    def __getstate__(self) -> Any:
        """Leave the log and the store behind when the search itself is sent to its workers."""
        state = dict(super().__getstate__())
        if state.pop("_casket_log", None) is not None:
            state["casket_model"] = None
        return state
