"""scikit-learn: searches that log every candidate and resume after being killed.

`LoggedGridSearchCV` and similar classes replace their base class; with `casket_model=model`, each
`fit` becomes a session. `log_scores` logs a cross-validation. `CasketCallback` shows the progress
of any estimator that supports scikit-learn's callbacks.
"""

from __future__ import annotations

from casket import MissingDependency

try:
    from casket_integrations.sklearn.callback import CasketCallback
    from casket_integrations.sklearn.scores import log_scores
    from casket_integrations.sklearn.search import (
        LoggedGridSearchCV,
        LoggedHalvingGridSearchCV,
        LoggedHalvingRandomSearchCV,
        LoggedRandomizedSearchCV,
    )
except ModuleNotFoundError as error:
    if error.name != "sklearn":
        raise
    raise MissingDependency("scikit-learn", "sklearn") from error

__all__ = [
    "CasketCallback",
    "LoggedGridSearchCV",
    "LoggedHalvingGridSearchCV",
    "LoggedHalvingRandomSearchCV",
    "LoggedRandomizedSearchCV",
    "log_scores",
]
