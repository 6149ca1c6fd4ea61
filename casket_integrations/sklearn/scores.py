"""`log_scores`: cross-validation with a child session for each fold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import is_classifier  # type: ignore[import-untyped]
from sklearn.model_selection import check_cv, cross_validate  # type: ignore[import-untyped]

from casket import Model
from casket.format.described import described
from casket_integrations.sklearn.describe import estimator_params, to_jsonable


def log_scores(
    model: Model,
    estimator: Any,
    X: Any,  # noqa: N803 - scikit-learn's name
    y: Any = None,
    *,
    cv: Any = None,
    scoring: Any = None,
    params: Mapping[str, Any] | None = None,
    ensure_unique: bool = False,
    groups: Any = None,
    **options: Any,
) -> dict[str, Any]:
    """Evaluate an estimator as `sklearn.model_selection.cross_validate` does, and log the scores.

    The evaluation is a session whose params are the estimator, `cv` and `scoring`. Each fold is a
    child of it with the param `fold`, and its scores and times are a result. At the end, the
    session gets the mean and standard deviation of each score. If a fold raises an exception,
    it ends the evaluation, whatever `error_score` is, and both sessions have the status failed.

    Args:
        model: a casket Model.
        estimator: the estimator, which is cloned for each fold.
        X: the data.
        y: the targets.
        cv: as in `cross_validate`.
        scoring: as in `cross_validate`.
        params: further params of the session; they override its own.
        ensure_unique: whether to refuse params that were run already instead of starting a
            repetition of them.
        groups: as in `cross_validate`.
        options: further arguments of `cross_validate`. The folds are computed one after another;
            give `n_jobs` to the estimator.

    Returns:
        What `cross_validate` returns.

    Raises:
        ExistingParamsException: the params were run already.
    """
    own = {"estimator": estimator_params(estimator), "cv": cv, "scoring": scoring}
    with model.session(
        {**to_jsonable(own), **described(params)}, repeat=not ensure_unique
    ) as session:
        splits = check_cv(cv, y, classifier=is_classifier(estimator)).split(X, y, groups)
        folds = []
        strict = {**options, "error_score": "raise"}
        for number, split in enumerate(splits):
            with session.child({"fold": number}) as fold:
                scores = cross_validate(
                    estimator, X, y, groups=groups, cv=[split], scoring=scoring, **strict
                )
                fold.add_result(_numbers(scores))
            folds.append(scores)
        session.summarize_children()
    return {name: _joined([fold[name] for fold in folds]) for name in folds[0]}


def _numbers(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores and times of a fold, without its estimator and its indices."""
    return {name: value[0] for name, value in scores.items() if isinstance(value, np.ndarray)}


def _joined(values: list[Any]) -> Any:
    """Return the values of folds as `cross_validate` returns those of all folds."""
    if isinstance(values[0], np.ndarray):
        return np.concatenate(values)
    if isinstance(values[0], dict):
        return {name: [part for each in values for part in each[name]] for name in values[0]}
    return [part for each in values for part in each]
