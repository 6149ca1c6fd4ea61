"""Fingerprints of the inputs of a fit and its score, identical in every process.

Values are identified by joblib's hash. In addition, functions and classes of the user are
identified by their code, so that an edited scorer differs from the original, and those of a package
by the version of the package. Functions called by the code are not examined.
"""

from __future__ import annotations

import inspect
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from types import CodeType, FunctionType
from typing import Any

import sklearn  # type: ignore[import-untyped]  # has no types
from joblib.hashing import NumpyHasher
from scipy.sparse import issparse  # type: ignore[import-untyped]  # has no types
from sklearn.base import BaseEstimator  # type: ignore[import-untyped]  # has no types

from casket import Model
from casket.writing.session import describe
from casket_integrations.sklearn.describe import PLAIN

_INSTALLED = tuple(
    path for name, path in sysconfig.get_paths().items() if name.endswith(("lib", "stdlib"))
)
_CALLBACKS = frozenset({"_skl_callbacks", "_parent_callback_ctx"})
_NO_MATTER = frozenset(
    {
        *("train", "test", "parameters"),
        *("split_progress", "candidate_progress", "verbose", "caller", "callback_ctx"),
    }
)
"""Arguments of a fold that do not affect its scores or that differ between folds."""


class Unknown(Exception):
    """A value cannot be distinguished from similar values."""


def digest(name: str, value: Any) -> str:
    """Return a digest that is the same for equal values and different for all others.

    Args:
        name: the name of the value in errors.
        value: any object.

    Raises:
        Unknown: the value has no digest.
    """
    try:
        hashed: str = _Hasher().hash(value)
    except Unknown as problem:
        raise Unknown(f"{name}: {problem}") from None
    except Exception as error:  # pickling runs user code
        raise Unknown(f"{name}: {describe(error)}") from error
    return hashed


def of_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the number of rows in the data of a search, and its hash if it has any.

    Args:
        data: `X`, `y` and the parameters of the fit.
    """
    X = data["X"]  # noqa: N806 - scikit-learn's name
    facts = {"rows": X.shape[0] if hasattr(X, "shape") else len(X)}
    try:
        return {"hash": digest("data", data), **facts}
    except Unknown:
        return facts


def of_search(function: Any, arguments: Iterable[Any], named: Mapping[str, Any]) -> str:
    """Return a digest of the arguments that all folds of a search share.

    Args:
        function: the function that computes a fold.
        arguments: its positional arguments for any fold.
        named: its keyword arguments for the same fold.

    Raises:
        Unknown: an argument has no digest.
    """
    parts = inspect.signature(function).bind(*arguments, **named).arguments
    digests = {name: digest(name, parts[name]) for name in sorted(parts.keys() - _NO_MATTER)}
    return digest("search", (digests, sklearn.__version__))


class _Hasher(NumpyHasher):  # type: ignore[misc]  # joblib has no types
    """joblib's hasher, extended to the code of functions and classes."""

    def __init__(self) -> None:
        super().__init__()
        self._classes: dict[type, Any] = {}

    def save(self, value: Any) -> None:
        """Add a value, or its substitute, to the hash."""
        if isinstance(value, type):
            if value not in self._classes:
                self._classes[value] = _class(value)
            value = self._classes[value]
        elif type(value) not in PLAIN:
            value = _simple(value)
        super().save(value)


def _simple(value: Any) -> Any:
    """Return a substitute for a value whose pickle contains too little or too much."""
    if isinstance(value, FunctionType):
        return _function(value)
    if isinstance(value, BaseEstimator):
        return _estimator(value)
    if isinstance(value, Model):
        return ("model", value.experiment.id, value.id)
    if isinstance(value, frozenset):
        return ("frozenset", set(value))  # joblib sorts sets, but not frozensets
    if issparse(value):
        rows = value.tocsr()
        return ("sparse", type(value), rows.shape, rows.indptr, rows.indices, rows.data)
    if type(value).__name__ == "_PassthroughScorer":  # it uses the estimator it is called with
        return ("passthrough", type(value))
    return value


def _estimator(value: Any) -> Any:
    state = value.__getstate__()
    if not isinstance(state, dict):
        return value
    return ("estimator", type(value), {k: v for k, v in state.items() if k not in _CALLBACKS})


def _function(function: FunctionType) -> Any:
    version = _version(function)
    return ("function", function.__module__, function.__qualname__, version or _behaviour(function))


def _class(cls: type) -> Any:
    version = _version(cls)
    members = {} if version else {name: _member(name, one) for name, one in vars(cls).items()}
    bases = None if version else cls.__bases__
    return ("class", cls.__module__, cls.__qualname__, version, bases, members)


def _version(value: Any) -> str | None:
    """Return the version of a function's or class's package; None for user code.

    Raises:
        Unknown: it cannot be imported by its name, so the name is ambiguous.
    """
    package = sys.modules.get((value.__module__ or "").partition(".")[0])
    place = getattr(package, "__file__", None) or ""
    is_installed = value.__module__ == "builtins" or place.startswith(_INSTALLED)
    if "<" in value.__qualname__ or not (is_installed or _is_importable(value)):
        raise Unknown(f"{value.__module__}.{value.__qualname__} cannot be imported by its name")
    return f"version {getattr(package, '__version__', '')}" if is_installed else None


def _is_importable(value: Any) -> bool:
    member: Any = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        member = getattr(member, part, None)
    return member is value


def _member(name: str, member: Any) -> Any:
    """Return the part of a class member that affects behavior."""
    inner = getattr(member, "__func__", getattr(member, "fget", member))
    if isinstance(inner, FunctionType):
        return _behaviour(inner)
    return member if type(member) in PLAIN and not name.startswith("__") else None


def _behaviour(function: Any) -> Any:
    function = inspect.unwrap(function)
    return _code(function.__code__), function.__defaults__, function.__kwdefaults__


def _code(code: CodeType) -> Any:
    """Return the instructions and constants of code, without its location."""
    constants = [_code(one) if isinstance(one, CodeType) else one for one in code.co_consts]
    return code.co_code, constants, code.co_names, code.co_varnames
