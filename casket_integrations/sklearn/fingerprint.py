"""What a fit and its score follow from, as a text that is the same in every process.

Values are told apart by joblib's hash. Beyond that a function or a class of the user's own counts
with its code, so that an edited scorer is another one; one that a package brings counts with the
version of the package. What code calls in turn is not looked at.
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
"""Arguments of a fold that its scores do not follow from, or that are not the same in every one."""


class Unknown(Exception):
    """Something cannot be told apart from its like."""


def digest(name: str, value: Any) -> str:
    """Return a text that equal values share, and nothing else does.

    Args:
        name: what to call the value in an error.
        value: any object.

    Raises:
        Unknown: it cannot be done.
    """
    try:
        hashed: str = _Hasher().hash(value)
    except Unknown as problem:
        raise Unknown(f"{name}: {problem}") from None
    except Exception as error:  # pickling runs code of the user's
        raise Unknown(f"{name}: {describe(error)}") from error
    return hashed


def of_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hash of what a search is fitted to, if it can be told apart, and the rows.

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
    """Return what all folds of a search share.

    Args:
        function: what computes a fold.
        arguments: what it is called with for one of them.
        named: the same, by name.

    Raises:
        Unknown: something in it cannot be told apart from its like.
    """
    parts = inspect.signature(function).bind(*arguments, **named).arguments
    digests = {name: digest(name, parts[name]) for name in sorted(parts.keys() - _NO_MATTER)}
    return digest("search", (digests, sklearn.__version__))


class _Hasher(NumpyHasher):  # type: ignore[misc]  # joblib has no types
    """joblib's, with an eye for code."""

    def __init__(self) -> None:
        super().__init__()
        self._classes: dict[type, Any] = {}

    def save(self, value: Any) -> None:
        """Take a value in, or what stands for it."""
        if isinstance(value, type):
            if value not in self._classes:
                self._classes[value] = _class(value)
            value = self._classes[value]
        elif type(value) not in PLAIN:
            value = _simple(value)
        super().save(value)


def _simple(value: Any) -> Any:
    """Return what stands for a value whose pickle says too little or too much."""
    if isinstance(value, FunctionType):
        return _function(value)
    if isinstance(value, BaseEstimator):
        return _estimator(value)
    if isinstance(value, Model):
        return ("model", value.experiment.id, value.id)
    if isinstance(value, frozenset):
        return ("frozenset", set(value))  # joblib puts a set in order, not this one
    if issparse(value):
        rows = value.tocsr()
        return ("sparse", type(value), rows.shape, rows.indptr, rows.indices, rows.data)
    if type(value).__name__ == "_PassthroughScorer":  # it asks the estimator it is called with
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
    """Return the version of the package a function or class came with; None for the user's own.

    Raises:
        Unknown: it is not found by its name, so another one may have it.
    """
    package = sys.modules.get((value.__module__ or "").partition(".")[0])
    place = getattr(package, "__file__", None) or ""
    is_installed = value.__module__ == "builtins" or place.startswith(_INSTALLED)
    if "<" in value.__qualname__ or not (is_installed or _is_found(value)):
        raise Unknown(f"{value.__module__}.{value.__qualname__} cannot be imported by its name")
    return f"version {getattr(package, '__version__', '')}" if is_installed else None


def _is_found(value: Any) -> bool:
    member: Any = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        member = getattr(member, part, None)
    return member is value


def _member(name: str, member: Any) -> Any:
    """Return what a member of a class adds to what it does."""
    inner = getattr(member, "__func__", getattr(member, "fget", member))
    if isinstance(inner, FunctionType):
        return _behaviour(inner)
    return member if type(member) in PLAIN and not name.startswith("__") else None


def _behaviour(function: Any) -> Any:
    function = inspect.unwrap(function)
    return _code(function.__code__), function.__defaults__, function.__kwdefaults__


def _code(code: CodeType) -> Any:
    """Return what code does, without the place where it stands."""
    constants = [_code(one) if isinstance(one, CodeType) else one for one in code.co_consts]
    return code.co_code, constants, code.co_names, code.co_varnames
