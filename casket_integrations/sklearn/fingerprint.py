"""Fingerprints of the inputs of a fit and its score, identical in every process.

Values are identified by joblib's hash. In addition, functions and classes of the user are
identified by their code and their whole module, so that a scorer differs from the original if a
helper was edited, and those of a package by the version of the package. In a script or a notebook,
where other code changes often, the global names that a function uses take the place of its module.
"""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import CodeType, FunctionType, ModuleType
from typing import Any

import sklearn  # type: ignore[import-untyped]  # has no types
from joblib.hashing import NumpyHasher
from scipy.sparse import issparse  # type: ignore[import-untyped]  # has no types
from sklearn.base import BaseEstimator  # type: ignore[import-untyped]  # has no types

from casket import Model
from casket.format.fingerprints import NoFingerprint, facts_of
from casket.format.fingerprints import digest as of_values
from casket.writing.outcome import describe
from casket_integrations.sklearn.describe import PLAIN
from casket_integrations.sklearn.modules import code_of, dependencies, loaded_code, version_of

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
    """Return the facts about `X` that `Session.add_data` stores, with a hash of the whole data.

    Args:
        data: `X`, `y` and the parameters of the fit. Without a fingerprint of casket, because of a
            parameter, it is hashed as the other arguments of a search; it may have no hash.
    """
    facts = facts_of(data["X"])
    try:
        return {"hash": of_values(data), **facts}
    except NoFingerprint:
        with suppress(Unknown):
            facts["hash"] = digest("data", data)
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
        self._seen: dict[Any, int] = {}

    def save(self, value: Any) -> None:
        """Add a value, or its substitute, to the hash."""
        if isinstance(value, (type, FunctionType)):
            value = self._code(value)
        elif type(value) not in PLAIN:
            value = _simple(value)
        super().save(value)

    def _code(self, value: Any) -> Any:
        """Return the substitute for a function or class, which may refer to itself."""
        if value in self._seen:
            return ("seen", self._seen[value])
        self._seen[value] = len(self._seen)
        return _function(value) if isinstance(value, FunctionType) else _class(value)


def _simple(value: Any) -> Any:
    """Return a substitute for a value whose pickle contains too little or too much."""
    if isinstance(value, ModuleType):
        return ("module", _module(value.__name__))
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
    code = _version(function) or (_behavior(function), _module(function.__module__))
    return ("function", function.__module__, function.__qualname__, code)


def _class(cls: type) -> Any:
    version = _version(cls)
    name = ("class", cls.__module__, cls.__qualname__)
    if version:
        return (*name, version)
    members = {name: _member(name, one) for name, one in vars(cls).items()}
    return (*name, cls.__bases__, members, _module(cls.__module__))


def _version(value: Any) -> str | None:
    """Return the version of a function's or class's package; None for user code.

    Raises:
        Unknown: it cannot be imported by its name, so the name is ambiguous.
    """
    version = version_of(value.__module__ or "")
    if "<" in value.__qualname__ or (version is None and not _is_importable(value)):
        raise Unknown(f"{value.__module__}.{value.__qualname__} cannot be imported by its name")
    return version


def _module(name: str) -> Any:
    """Return the code of a module; nothing for a script, whose functions are followed instead."""
    version = version_of(name)
    if version is not None or name == "__main__":
        return version
    return dependencies(name), loaded_code(name)


def _is_importable(value: Any) -> bool:
    member: Any = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        member = getattr(member, part, None)
    return member is value


def _member(name: str, member: Any) -> Any:
    """Return the part of a class member that affects behavior."""
    inner = getattr(member, "__func__", getattr(member, "fget", member))
    if isinstance(inner, FunctionType):
        return _behavior(inner)
    return member if type(member) in PLAIN and not name.startswith("__") else None


def _behavior(function: Any) -> Any:
    function = inspect.unwrap(function)
    used = dict(_used(function.__code__, function)) if function.__module__ == "__main__" else None
    return code_of(function.__code__), function.__defaults__, function.__kwdefaults__, used


def _used(code: CodeType, function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the global names and the modules that code uses, with their values."""
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if instruction.opname == "LOAD_GLOBAL" and name in function.__globals__:
            yield name, function.__globals__[name]
        elif instruction.opname == "IMPORT_NAME":
            yield f"import {name}", _module(name)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _used(constant, function)
