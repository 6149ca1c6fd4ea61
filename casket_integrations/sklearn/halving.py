"""The searches by successive halving, which are experimental in scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.experimental import enable_halving_search_cv  # type: ignore[import-untyped]  # noqa: F401 - unlocks the next
from sklearn.model_selection import HalvingGridSearchCV, HalvingRandomSearchCV  # type: ignore[import-untyped]  # has no types

from casket import Model
from casket_integrations.sklearn.logged import LoggedSearch


class LoggedHalvingGridSearchCV(LoggedSearch, HalvingGridSearchCV):  # type: ignore[misc]  # scikit-learn has no types
    """A `HalvingGridSearchCV` that logs each candidate.

    Each `fit` is a session of `casket_model`. Each candidate becomes a result, indexed by the name
    of the scorer, as soon as its folds are done. The session's `meta["data"]` identifies the data.

    Args:
        estimator: this and all arguments up to `casket_model` are those of `HalvingGridSearchCV`.
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
        factor: Any = 3,
        resource: Any = "n_samples",
        max_resources: Any = "auto",
        min_resources: Any = "exhaust",
        aggressive_elimination: Any = False,
        cv: Any = 5,
        scoring: Any = None,
        refit: Any = True,
        error_score: Any = np.nan,
        return_train_score: Any = True,
        random_state: Any = None,
        n_jobs: Any = None,
        verbose: Any = 0,
        casket_model: Model | None = None,
        resume: bool = False,
        ensure_unique: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            factor=factor,
            resource=resource,
            max_resources=max_resources,
            min_resources=min_resources,
            aggressive_elimination=aggressive_elimination,
            cv=cv,
            scoring=scoring,
            refit=refit,
            error_score=error_score,
            return_train_score=return_train_score,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.casket_model = casket_model
        self.resume = resume
        self.ensure_unique = ensure_unique


class LoggedHalvingRandomSearchCV(LoggedSearch, HalvingRandomSearchCV):  # type: ignore[misc]  # scikit-learn has no types
    """A `HalvingRandomSearchCV` that logs each candidate.

    Each `fit` is a session of `casket_model`. Each candidate becomes a result, indexed by the name
    of the scorer, as soon as its folds are done. The session's `meta["data"]` identifies the data.

    Args:
        estimator: this and all arguments up to `casket_model` are those of `HalvingRandomSearchCV`.
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
        n_candidates: Any = "exhaust",
        factor: Any = 3,
        resource: Any = "n_samples",
        max_resources: Any = "auto",
        min_resources: Any = "smallest",
        aggressive_elimination: Any = False,
        cv: Any = 5,
        scoring: Any = None,
        refit: Any = True,
        error_score: Any = np.nan,
        return_train_score: Any = True,
        random_state: Any = None,
        n_jobs: Any = None,
        verbose: Any = 0,
        casket_model: Model | None = None,
        resume: bool = False,
        ensure_unique: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_candidates=n_candidates,
            factor=factor,
            resource=resource,
            max_resources=max_resources,
            min_resources=min_resources,
            aggressive_elimination=aggressive_elimination,
            cv=cv,
            scoring=scoring,
            refit=refit,
            error_score=error_score,
            return_train_score=return_train_score,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.casket_model = casket_model
        self.resume = resume
        self.ensure_unique = ensure_unique
