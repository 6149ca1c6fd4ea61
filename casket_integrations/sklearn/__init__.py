"""scikit-learn: searches that log every candidate, and go on where they were killed.

`LoggedGridSearchCV` and its kin take the place of the class they derive from; with
`casket_model=model` a `fit` becomes a session. `CasketCallback` shows how far any estimator is that
supports scikit-learn's callbacks.
"""

from __future__ import annotations

from casket import MissingDependency

try:
    from casket_integrations.sklearn.callback import CasketCallback
    from casket_integrations.sklearn.halving import (
        LoggedHalvingGridSearchCV,
        LoggedHalvingRandomSearchCV,
    )
    from casket_integrations.sklearn.search import LoggedGridSearchCV, LoggedRandomizedSearchCV
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
]
