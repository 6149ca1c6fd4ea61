"""The base class of the logged searches."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Self

from sklearn.base import BaseEstimator  # type: ignore[import-untyped]  # has no types

from casket import Model
from casket_integrations.sklearn.folds import watched
from casket_integrations.sklearn.log import SearchLog


class LoggedSearch(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A search that logs its candidates to a casket Model.

    Each `fit` is a session of `casket_model`. Each candidate becomes a result, indexed by the name
    of the scorer, as soon as its folds are done. The session's `meta["data"]` identifies the data.

    Attributes:
        casket_model: the casket Model to log to; None to behave exactly like the base class.
        resume: whether to log every fold and to continue the last session with the same params and
            data that is not running, reusing its folds.
        ensure_unique: whether to refuse a search whose params were run already, unless it is
            resumed, instead of starting a repetition of it.
    """

    casket_model: Model | None
    resume: bool
    ensure_unique: bool
    _casket_log: SearchLog | None = None

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:  # noqa: N803 - scikit-learn's name
        """Run the search in a session.

        Raises:
            ExistingParamsException: the search was run already, and `ensure_unique` is set.
        """
        if self.casket_model is None:
            super().fit(X, y, **params)
            return self
        self._validate_params()
        log = SearchLog(self)
        with log.open({"X": X, "y": y, **params}):
            self._casket_log = log
            try:
                super().fit(X, y, **params)
            finally:
                del self._casket_log
        return self

    def _run_search(self, evaluate_candidates: Any, *, callback_ctx: Any = None) -> None:
        # scikit-learn passes this argument from version 1.9 on; earlier versions do not accept it.
        context = {} if callback_ctx is None else {"callback_ctx": callback_ctx}
        log = self._casket_log
        with watched(self, log, evaluate_candidates) if log else nullcontext():
            super()._run_search(evaluate_candidates, **context)

    def __getstate__(self) -> Any:
        """Exclude the log and the store when the search itself is sent to workers."""
        state = dict(super().__getstate__())
        if state.pop("_casket_log", None) is not None:
            state["casket_model"] = None
        return state


def init_with(search: Any) -> Callable[..., None]:
    """Return an `__init__` with the arguments of a search and those of `LoggedSearch`."""

    def __init__(  # noqa: N807 - the name that scikit-learn reports
        self: Any,
        *arguments: Any,
        casket_model: Model | None = None,
        resume: bool = False,
        ensure_unique: bool = False,
        **named: Any,
    ) -> None:
        search.__init__(self, *arguments, **named)
        self.casket_model = casket_model
        self.resume = resume
        self.ensure_unique = ensure_unique

    # scikit-learn reads the names of the parameters from the signature.
    own = inspect.signature(__init__).parameters.values()
    added = [parameter for parameter in own if parameter.kind is parameter.KEYWORD_ONLY]
    inherited = inspect.signature(search.__init__).parameters.values()
    __init__.__signature__ = inspect.Signature([*inherited, *added])  # type: ignore[attr-defined]
    return __init__


def constraints_with(search: Any) -> dict[str, Any]:
    """Return the constraints that scikit-learn checks, with those of `LoggedSearch`."""
    own = {"casket_model": [Model, None], "resume": ["boolean"], "ensure_unique": ["boolean"]}
    return {**search._parameter_constraints, **own}
