"""The grid search, the randomized search and the searches by successive halving."""

from __future__ import annotations

from sklearn.experimental import enable_halving_search_cv  # type: ignore[import-untyped]  # noqa: F401 - unlocks two imports
from sklearn.model_selection import (  # type: ignore[import-untyped]  # has no types
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
)

from casket_integrations.sklearn.logged import LoggedSearch, constraints_with, init_with


class LoggedGridSearchCV(LoggedSearch, GridSearchCV):  # type: ignore[misc]  # scikit-learn has no types
    """A `GridSearchCV` that logs each candidate, with the arguments of `LoggedSearch`."""

    __init__ = init_with(GridSearchCV)
    _parameter_constraints = constraints_with(GridSearchCV)


class LoggedRandomizedSearchCV(LoggedSearch, RandomizedSearchCV):  # type: ignore[misc]
    """A `RandomizedSearchCV` that logs each candidate, with the arguments of `LoggedSearch`."""

    __init__ = init_with(RandomizedSearchCV)
    _parameter_constraints = constraints_with(RandomizedSearchCV)


class LoggedHalvingGridSearchCV(LoggedSearch, HalvingGridSearchCV):  # type: ignore[misc]
    """A `HalvingGridSearchCV` that logs each candidate, with the arguments of `LoggedSearch`."""

    __init__ = init_with(HalvingGridSearchCV)
    _parameter_constraints = constraints_with(HalvingGridSearchCV)


class LoggedHalvingRandomSearchCV(LoggedSearch, HalvingRandomSearchCV):  # type: ignore[misc]
    """A `HalvingRandomSearchCV` that logs each candidate, with the arguments of `LoggedSearch`."""

    __init__ = init_with(HalvingRandomSearchCV)
    _parameter_constraints = constraints_with(HalvingRandomSearchCV)
