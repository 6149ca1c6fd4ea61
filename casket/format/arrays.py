"""Conversion of values of array libraries and pandas to numpy arrays and plain Python values.

The libraries are recognized by the module names of their types and never imported here, because
whoever passes such a value has already imported its library. Exceptions raised by the libraries
are handled by the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

_NAMES = frozenset({"dtype", "device", "layout", "memory_format"})
_PANDAS_NOTHING = frozenset({"NAType", "NaTType"})
_PANDAS_WORDS = frozenset({"Period", "Interval"})
_NUMPY_FLOATS = frozenset({"torch.float16", "torch.float32", "torch.float64"})


def package_of(kind: type) -> str | None:
    """Return the supported library that defines a type or any of its bases, or None."""
    for base in kind.__mro__:
        package = str(base.__module__).partition(".")[0]
        if package in ARRAYS or package == "pandas":
            return package
    return None


def is_name(value: Any) -> bool:
    """Return whether a value of an array library is a name, such as a dtype or a device."""
    return any(base.__name__ in _NAMES for base in type(value).__mro__)


def as_array(value: Any, package: str) -> Any:
    """Return an array or number of an array library as a numpy value with a native dtype.

    Returns:
        The array, or None if the value is not an array.
    """
    array = ARRAYS[package](value)
    if array is None:
        return None
    if array.dtype.type.__module__ == "ml_dtypes":  # bfloat16, float8_e5m2, int4, ...
        return array.astype("int64" if "int" in array.dtype.name else "float32")
    return array


def plain(array: Any) -> Any:
    """Return a numpy array or number as Python values, nested in lists.

    Half and single precision numbers keep their shortest decimal (float32 0.1 becomes 0.1, not
    0.10000000149011612), which reads back as the same number in that precision.

    Raises:
        TypeError: the dtype has no representation in JSON.
    """
    kind = array.dtype.kind
    if kind in "biuUO":
        return array.tolist()
    if kind == "f":
        if array.dtype.itemsize >= 8:
            return array.astype("f8").tolist()
        # A faster path for a single number, the usual metric of an epoch.
        return array.astype("U").astype("f8").tolist() if array.ndim else float(str(array[()]))
    if kind == "M":
        return _dates(array)
    if kind == "m":
        return _seconds(array)
    raise TypeError(f"numpy's {array.dtype} has no form in JSON; store its parts")


def of_pandas(value: Any) -> Any:
    """Return a pandas object as plain values or numpy arrays; None for a missing value.

    Raises:
        TypeError: the type is not supported, or two columns or rows have the same name.
    """
    if hasattr(value, "columns"):
        columns = [(name, _column(value.iloc[:, i])) for i, name in enumerate(value.columns)]
        return _named([*_index(value), *columns])
    if hasattr(value, "index") and hasattr(value, "to_numpy"):
        column = _column(value)
        if not _index(value):
            return column
        items = column if isinstance(column, list) else plain(column)
        return _named(list(zip(value.index, items, strict=True)))
    if hasattr(value, "tolist"):
        return value.tolist()
    return _pandas_scalar(value)


def _of_numpy(value: Any) -> Any:
    return value if hasattr(value, "dtype") else None


def _of_torch(value: Any) -> Any:
    if not hasattr(value, "detach"):
        return None
    if value.is_floating_point() and str(value.dtype) not in _NUMPY_FLOATS:
        value = value.float()
    return value.numpy(force=True)


def _of_protocol(value: Any) -> Any:
    """Return the numpy array of a jax or tensorflow array or a keras variable."""
    return value.__array__() if hasattr(value, "__array__") else None


ARRAYS: dict[str, Callable[[Any], Any]] = {
    "numpy": _of_numpy,
    "ml_dtypes": _of_numpy,
    "torch": _of_torch,
    "jax": _of_protocol,
    "jaxlib": _of_protocol,
    "tensorflow": _of_protocol,
    "keras": _of_protocol,
}


def _dates(array: Any) -> Any:
    """Return dates for whole days, else naive datetimes, since numpy has no time zones."""
    is_day = array.dtype.name in {f"datetime64[{unit}]" for unit in "YMWD"}
    dates = (array if is_day else array.astype("M8[us]")).tolist()
    if int in set(map(type, array.ravel().astype("M8[us]").tolist())):
        raise TypeError("a date outside of the years 1 to 9999")
    return dates


def _seconds(array: Any) -> Any:
    import numpy as np

    return np.ma.masked_invalid(array / np.timedelta64(1, "s")).tolist()


def _column(series: Any) -> Any:
    """Return the values of a pandas series as an array if its dtype is numpy's, else as a list."""
    if type(series.dtype).__module__.partition(".")[0] == "numpy":
        return series.to_numpy()
    missing = series.isna().tolist()
    return [None if gone else item for item, gone in zip(series.tolist(), missing, strict=True)]


def _index(table: Any) -> list[tuple[Any, Any]]:
    """Return the index of a pandas object with its name, unless it only numbers the rows."""
    index = table.index
    if type(index).__name__ == "RangeIndex":
        return []
    return [("index" if index.name is None else index.name, index.tolist())]


def _named(items: list[tuple[Any, Any]]) -> dict[str, Any]:
    named = {str(name): item for name, item in items}
    if len(named) < len(items):
        raise TypeError("it has columns or rows of the same name; reset_index() or rename them")
    return named


def _pandas_scalar(value: Any) -> Any:
    name = type(value).__name__
    if name in _PANDAS_NOTHING:
        return None
    if name in _PANDAS_WORDS:
        return str(value)
    if isinstance(value, datetime):
        return value.to_pydatetime(warn=False)  # type: ignore[attr-defined]  # a Timestamp
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise TypeError("pandas objects of this kind have no form in JSON")
