"""Describe the params of a search as JSON values that are the same in every process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import joblib
import numpy as np

LONG = 1000
"""Maximum items; longer arrays are described by shape and hash, and longer strings are cut."""

PLAIN = (bool, int, float, str, type(None))
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


def search_params(search: Any, without: frozenset[str]) -> dict[str, Any]:
    """Return the params of a search's session: those of the estimator and of the search."""
    own = search.get_params(deep=False)
    estimator = own.pop("estimator")
    facts = {name: to_jsonable(value) for name, value in own.items() if name not in without}
    return {"estimator": estimator_params(estimator), **facts}


def estimator_params(estimator: Any) -> dict[str, Any]:
    """Return an estimator's class and its parameters."""
    params = estimator.get_params(deep=False) if hasattr(estimator, "get_params") else {}
    # A Python keyword, so it cannot be the name of a parameter.
    return {"class": type(estimator).__name__, **to_jsonable(params)}


def to_jsonable(value: Any) -> Any:
    """Return a value as JSON; values without a JSON form become strings without addresses."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, np.generic):
        return to_jsonable(value.item()) if type(value.item()) in PLAIN else _text(value)
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(_text, value))
    return _text(value)


def _array(array: Any) -> Any:
    if array.size <= LONG:
        return to_jsonable(array.tolist())
    return f"{array.dtype} array of shape {array.shape}, {joblib.hash(array)}"


def _text(value: Any) -> str:
    if hasattr(value, "__qualname__") and hasattr(value, "__module__"):  # a function, a class
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "dist") and hasattr(value, "kwds"):  # a frozen SciPy distribution
        named = [f"{name}={number}" for name, number in value.kwds.items()]
        return f"{value.dist.name}({', '.join([*map(str, value.args), *named])})"
    return _ADDRESS.sub("", repr(value))[:LONG]
