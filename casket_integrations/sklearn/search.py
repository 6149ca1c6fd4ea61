"""The grid search and the randomized search."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV  # type: ignore[import-untyped]  # has no types

from casket import Model
from casket_integrations.sklearn.logged import LoggedSearch


class LoggedGridSearchCV(LoggedSearch, GridSearchCV):  # type: ignore[misc]  # scikit-learn has no types
    """A `GridSearchCV` that logs each candidate.

    Each `fit` is a session of `casket_model`. Each candidate becomes a result, indexed by the name
    of the scorer, as soon as its folds are done. The session's `meta["data"]` identifies the data.

    Args:
        estimator: this and all arguments up to `casket_model` are those of `GridSearchCV`.
        casket_model: the casket Model to log to; None to log nothing.
        resume: whether to log every fold and to continue the last session with the same params and
            data that is not running, reusing its folds.
        ensure_unique: whether to refuse a search whose params were run already, unless it is
            resumed, instead of starting a repetition of it.
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        scoring: Any = None,
        n_jobs: Any = None,
        refit: Any = True,
        cv: Any = None,
        verbose: Any = 0,
        pre_dispatch: Any = "2*n_jobs",
        error_score: Any = np.nan,
        return_train_score: Any = False,
        casket_model: Model | None = None,
        resume: bool = False,
        ensure_unique: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.casket_model = casket_model
        self.resume = resume
        self.ensure_unique = ensure_unique


class LoggedRandomizedSearchCV(LoggedSearch, RandomizedSearchCV):  # type: ignore[misc]  # scikit-learn has no types
    """A `RandomizedSearchCV` that logs each candidate.

    Each `fit` is a session of `casket_model`. Each candidate becomes a result, indexed by the name
    of the scorer, as soon as its folds are done. The session's `meta["data"]` identifies the data.

    Args:
        estimator: this and all arguments up to `casket_model` are those of `RandomizedSearchCV`.
        casket_model: the casket Model to log to; None to log nothing.
        resume: whether to log every fold and to continue the last session with the same params and
            data that is not running, reusing its folds.
        ensure_unique: whether to refuse a search whose params were run already, unless it is
            resumed, instead of starting a repetition of it.
    """

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: Any = 10,
        scoring: Any = None,
        n_jobs: Any = None,
        refit: Any = True,
        cv: Any = None,
        verbose: Any = 0,
        pre_dispatch: Any = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: Any = False,
        casket_model: Model | None = None,
        resume: bool = False,
        ensure_unique: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.casket_model = casket_model
        self.resume = resume
        self.ensure_unique = ensure_unique
